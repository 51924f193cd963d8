"""What ClickHouse's column types are to Arrow, both ways."""

from __future__ import annotations

import re

import pyarrow as pa

from atlas.errors import InvalidInput

__all__ = [
    "bare",
    "clickhouse_type",
    "family",
    "has_missing_value",
    "is_time",
    "readable",
]

_WRAPPER = re.compile(r"(?:Nullable|LowCardinality)\((.*)\)", re.DOTALL)

_TIMES = ("Date", "Date32", "DateTime", "DateTime64")
_WORDS = ("FixedString", "Enum8", "Enum16", "UUID", "IPv4", "IPv6")
# Types that ClickHouse does not allow inside Nullable.
_CONTAINERS = ("Array", "Map", "Tuple", "Nested", "JSON", "Variant", "Dynamic")


def bare(column_type: str) -> str:
    """Strip `Nullable` and `LowCardinality`."""
    while wrapped := _WRAPPER.fullmatch(column_type):
        column_type = wrapped[1]
    return column_type


def family(column_type: str) -> str:
    """Return the type's name without its wrappers and arguments."""
    return bare(column_type).split("(", 1)[0]


def is_time(column_type: str) -> bool:
    """Say whether values of this type are moments."""
    return family(column_type) in _TIMES


def has_missing_value(column_type: str) -> bool:
    """Say whether a column of this type can hold NULL; arrays, maps and tuples cannot."""
    return family(column_type) not in _CONTAINERS


def readable(column: str, column_type: str) -> str:
    """Write a column so that its Arrow value is what a reader expects.

    Left alone, Arrow shows a 32-bit DateTime as an integer, an enum as its number, a UUID as
    bytes, and a time in the column's own zone.
    """
    kind = family(column_type)
    if kind == "DateTime":
        return f"toDateTime64({column}, 6, 'UTC')"
    if kind == "DateTime64":
        return f"toTimeZone({column}, 'UTC')"
    if kind == "Date":
        return f"toDate32({column})"
    if kind in _WORDS:
        return f"toString({column})"
    if kind == "Decimal":
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
