"""What ClickHouse's column types are to Feast.

A decimal is Feast's Decimal, which keeps every digit; a view that declares Float64 over it asks
for the nearest double. A UUID or an address is text. Feast has no unsigned 64-bit integers: a
value above 2^63 - 1 is refused on its way online, never wrapped. Integers wider than 64 bits are
the text of their digits.
"""

from __future__ import annotations

from feast import ValueType

from atlas.clickhouse.column_types import arguments, bare, family, named_elements
from atlas.errors import InvalidInput

__all__ = ["feast_type"]

_FEAST_TYPES = {
    "String": ValueType.STRING,
    "FixedString": ValueType.STRING,
    "Enum8": ValueType.STRING,
    "Enum16": ValueType.STRING,
    "UUID": ValueType.STRING,
    "IPv4": ValueType.STRING,
    "IPv6": ValueType.STRING,
    "Int128": ValueType.STRING,
    "Int256": ValueType.STRING,
    "UInt128": ValueType.STRING,
    "UInt256": ValueType.STRING,
    "JSON": ValueType.JSON,
    "Object": ValueType.JSON,
    "Bool": ValueType.BOOL,
    "BFloat16": ValueType.FLOAT,
    "Float32": ValueType.FLOAT,
    "Float64": ValueType.DOUBLE,
    "Decimal": ValueType.DECIMAL,
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
# Feast's names for lists of lists and of structs.
_NESTED = {"Array": "VALUE_LIST", "Nested": "VALUE_LIST", "Tuple": "STRUCT_LIST"}


def feast_type(column_type: str) -> ValueType:
    """Return Feast's type for a column.

    Raises
    ------
    InvalidInput
        If Feast has none.
    """
    inner = bare(column_type)
    kind = family(inner)
    if kind in _FEAST_TYPES:
        return _FEAST_TYPES[kind]
    if kind == "Map" and family(arguments(inner)[0]) in ("String", "FixedString"):
        return ValueType.MAP
    if kind == "Tuple" and all(name for name, _ in named_elements(inner)):
        return ValueType.STRUCT
    if kind == "Nested":
        return ValueType.STRUCT_LIST
    if kind == "Array":
        element = feast_type(arguments(inner)[0])
        nested = _NESTED.get(family(arguments(inner)[0]))
        return ValueType[nested or f"{element.name}_LIST"]
    raise InvalidInput(
        f"Expected a column type that Feast has a type for; found {column_type}. Convert the "
        "column in a query, for example with toString(…), or leave it out of the view."
    )
