"""What ClickHouse's column types are to Feast and to Arrow."""

from __future__ import annotations

import re

import pyarrow as pa
from feast import ValueType

from atlas.errors import InvalidInput

__all__ = [
    "bare",
    "clickhouse_type",
    "feast_type",
    "has_missing_value",
    "is_time",
    "readable",
]

_WRAPPER = re.compile(r"(?:Nullable|LowCardinality)\((.*)\)", re.DOTALL)

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

_TIMES = ("Date", "Date32", "DateTime", "DateTime64")
_WORDS = ("FixedString", "Enum8", "Enum16", "UUID", "IPv4", "IPv6")
# Types that ClickHouse does not allow inside Nullable.
_CONTAINERS = ("Array", "Map", "Tuple", "Nested", "JSON", "Variant", "Dynamic")


def bare(column_type: str) -> str:
    """Strip `Nullable` and `LowCardinality`."""
    while wrapped := _WRAPPER.fullmatch(column_type):
        column_type = wrapped[1]
    return column_type


def _family(column_type: str) -> str:
    return bare(column_type).split("(", 1)[0]


def is_time(column_type: str) -> bool:
    """Say whether values of this type are moments."""
    return _family(column_type) in _TIMES


def has_missing_value(column_type: str) -> bool:
    """Say whether a column of this type can hold NULL; arrays, maps and tuples cannot."""
    return _family(column_type) not in _CONTAINERS


def feast_type(column_type: str) -> ValueType:
    """Return Feast's type for a column; UNKNOWN where Feast has none."""
    inner = bare(column_type)
    if inner.startswith("Array("):
        element = feast_type(inner[6:-1])
        listed = f"{element.name}_LIST"
        return ValueType[listed] if listed in ValueType.__members__ else ValueType.UNKNOWN
    return _FEAST_TYPES.get(_family(inner), ValueType.UNKNOWN)


def readable(column: str, column_type: str) -> str:
    """Write a column so that its Arrow value is what a reader expects.

    Left alone, Arrow shows a 32-bit DateTime as an integer, an enum as its number, a UUID as
    bytes, and a time in the column's own zone.
    """
    family = _family(column_type)
    if family == "DateTime":
        return f"toDateTime64({column}, 6, 'UTC')"
    if family == "DateTime64":
        return f"toTimeZone({column}, 'UTC')"
    if family == "Date":
        return f"toDate32({column})"
    if family in _WORDS:
        return f"toString({column})"
    if family == "Decimal":
        return f"toFloat64({column})"
    return column


def clickhouse_type(arrow_type: pa.DataType, column: str) -> str:
    """Return the column type that holds every value of an Arrow type.

    Raises
    ------
    InvalidInput
        If ClickHouse has no such type; the message names the column.
    """
    if pa.types.is_dictionary(arrow_type):
        return clickhouse_type(arrow_type.value_type, column)
    if pa.types.is_list(arrow_type) or pa.types.is_large_list(arrow_type):
        return f"Array({clickhouse_type(arrow_type.value_type, column)})"
    if pa.types.is_timestamp(arrow_type):
        digits = {"s": 0, "ms": 3, "us": 6, "ns": 9}[arrow_type.unit]
        return f"Nullable(DateTime64({digits}, 'UTC'))"
    if pa.types.is_decimal(arrow_type):
        return f"Nullable(Decimal({arrow_type.precision}, {arrow_type.scale}))"
    for matches, found in (
        (pa.types.is_boolean, "Bool"),
        (pa.types.is_float16, "Float32"),
        (pa.types.is_float32, "Float32"),
        (pa.types.is_floating, "Float64"),
        (pa.types.is_date, "Date32"),
        (pa.types.is_string, "String"),
        (pa.types.is_large_string, "String"),
        (pa.types.is_string_view, "String"),
        (pa.types.is_binary, "String"),
        (pa.types.is_large_binary, "String"),
        (pa.types.is_null, "String"),
    ):
        if matches(arrow_type):
            return f"Nullable({found})"
    if pa.types.is_integer(arrow_type):
        sign = "U" if pa.types.is_unsigned_integer(arrow_type) else ""
        return f"Nullable({sign}Int{arrow_type.bit_width})"
    raise InvalidInput(
        f"Expected column {column!r} to hold numbers, text, booleans, moments or lists of them; "
        f"found {arrow_type}. Convert it, or leave it out of the frame."
    )
