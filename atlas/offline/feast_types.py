"""What ClickHouse's column types are to Feast."""

from __future__ import annotations

from feast import ValueType

from atlas.clickhouse.column_types import bare, family

__all__ = ["feast_type"]

_FEAST_TYPES = {
    "String": ValueType.STRING,
    "FixedString": ValueType.STRING,
    "Enum8": ValueType.STRING,
    "Enum16": ValueType.STRING,
    "UUID": ValueType.STRING,
    "IPv4": ValueType.STRING,
    "IPv6": ValueType.STRING,
    "Bool": ValueType.BOOL,
    "Float32": ValueType.FLOAT,
    "Float64": ValueType.DOUBLE,
    "Decimal": ValueType.DOUBLE,
    "Int8": ValueType.INT32,
    "Int16": ValueType.INT32,
    "Int32": ValueType.INT32,
    "UInt8": ValueType.INT32,
    "UInt16": ValueType.INT32,
    "UInt32": ValueType.INT64,
    "Int64": ValueType.INT64,
    "UInt64": ValueType.INT64,
    "Date": ValueType.UNIX_TIMESTAMP,
    "Date32": ValueType.UNIX_TIMESTAMP,
    "DateTime": ValueType.UNIX_TIMESTAMP,
    "DateTime64": ValueType.UNIX_TIMESTAMP,
}


def feast_type(column_type: str) -> ValueType:
    """Return Feast's type for a column; UNKNOWN where Feast has none."""
    inner = bare(column_type)
    if inner.startswith("Array("):
        element = feast_type(inner[6:-1])
        listed = f"{element.name}_LIST"
        return ValueType[listed] if listed in ValueType.__members__ else ValueType.UNKNOWN
    return _FEAST_TYPES.get(family(inner), ValueType.UNKNOWN)
