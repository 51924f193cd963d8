"""What ClickHouse's column types are to Arrow, both ways.

Every type comes out as what a reader takes it for: an enum as its label, a UUID or an address as
its text, a moment in UTC with the digits of its column, a decimal with every digit, an integer
wider than 64 bits as its digits. A FixedString comes out without the zero bytes that fill it up,
which is also how ClickHouse compares it. What is inside arrays, maps and tuples follows suit.
"""

from __future__ import annotations

import re

import pyarrow as pa

from atlas.clickhouse import sql
from atlas.errors import InvalidInput

__all__ = [
    "arguments",
    "bare",
    "clickhouse_type",
    "family",
    "has_missing_value",
    "is_time",
    "named_elements",
    "readable",
    "readable_type",
]

_PARAMETRIC = re.compile(r"\w+\s*\((.*)\)", re.DOTALL)
_ELEMENT = re.compile(r"(`(?:[^`\\]|\\.)*`|[A-Za-z_]\w*)\s+(?=\S)(.*)", re.DOTALL)

_TIMES = ("Date", "Date32", "DateTime", "DateTime64")
_WORDS = ("FixedString", "Enum8", "Enum16", "UUID", "IPv4", "IPv6", "JSON", "Object")
# Wider than any integer of Arrow's, so that only the digits are exact.
_WIDE = ("Int128", "Int256", "UInt128", "UInt256")
# Types that ClickHouse does not allow inside Nullable.
_CONTAINERS = ("Array", "Map", "Tuple", "Nested")


def bare(column_type: str) -> str:
    """Strip `Nullable`, `LowCardinality` and `SimpleAggregateFunction`."""
    while column_type.split("(", 1)[0] in ("Nullable", "LowCardinality", "SimpleAggregateFunction"):
        column_type = arguments(column_type)[-1]
    return column_type


def family(column_type: str) -> str:
    """Return the type's name without its wrappers and arguments."""
    return bare(column_type).split("(", 1)[0]


def arguments(column_type: str) -> list[str]:
    """Return what stands between the type's own brackets, split at its commas."""
    found = _PARAMETRIC.fullmatch(column_type)
    if not found:
        return []
    parts, start, depth, quote = [], 0, 0, ""
    inside = found[1]
    escaped = False
    for place, character in enumerate(inside):
        if escaped:
            escaped = False
        elif quote:
            escaped = character == "\\"
            quote = "" if character == quote else quote
        elif character in "'`\"":
            quote = character
        elif character in "()":
            depth += 1 if character == "(" else -1
        elif character == "," and depth == 0:
            parts.append(inside[start:place].strip())
            start = place + 1
    return [*parts, inside[start:].strip()]


def named_elements(column_type: str) -> list[tuple[str, str]]:
    """Return (name, type) of a tuple's elements; the name is empty where there is none."""
    found = []
    for element in arguments(bare(column_type)):
        named = _ELEMENT.fullmatch(element)
        name = named[1] if named else ""
        if name.startswith("`"):
            name = re.sub(r"\\(.)", r"\1", name[1:-1])
        found.append((name, named[2] if named else element))
    return found


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
    if kind == "BFloat16":
        return f"toFloat32({column})"
    if kind in _WORDS or kind in _WIDE:
        return f"toString({column})"
    if kind in _CONTAINERS and (wanted := readable_type(column_type)) != column_type:
        return f"CAST({column}, {sql.text(wanted)})"
    return column


def readable_type(column_type: str) -> str:
    """Return the type that `readable` gives a column."""
    kind, inner = column_type.split("(", 1)[0], arguments(column_type)
    if kind in ("LowCardinality", "SimpleAggregateFunction"):
        return readable_type(inner[-1])
    if kind in ("Nullable", "Array"):
        return f"{kind}({readable_type(inner[0])})"
    if kind == "Map":
        return f"Map({readable_type(inner[0])}, {readable_type(inner[1])})"
    if kind in ("Tuple", "Nested"):
        elements = ", ".join(
            f"{sql.name(name)} {readable_type(element)}" if name else readable_type(element)
            for name, element in named_elements(column_type)
        )
        return f"Array(Tuple({elements}))" if kind == "Nested" else f"Tuple({elements})"
    if kind == "DateTime":
        return "DateTime64(6, 'UTC')"
    if kind == "DateTime64":
        return f"DateTime64({inner[0]}, 'UTC')"
    if kind == "Date":
        return "Date32"
    if kind == "BFloat16":
        return "Float32"
    return "String" if kind in _WORDS or kind in _WIDE else column_type


def clickhouse_type(arrow_type: pa.DataType, column: str) -> str:
    """Return the column type that holds every value of an Arrow type.

    Raises
    ------
    InvalidInput
        If ClickHouse has no such type; the message names the column.
    """
    if pa.types.is_dictionary(arrow_type):
        return clickhouse_type(arrow_type.value_type, column)
    if (
        pa.types.is_list(arrow_type)
        or pa.types.is_large_list(arrow_type)
        or pa.types.is_fixed_size_list(arrow_type)
    ):
        return f"Array({clickhouse_type(arrow_type.value_type, column)})"
    if pa.types.is_map(arrow_type):
        key = bare(clickhouse_type(arrow_type.key_type, column))
        return f"Map({key}, {clickhouse_type(arrow_type.item_type, column)})"
    if pa.types.is_struct(arrow_type) and arrow_type.num_fields:
        elements = (f"{sql.name(f.name)} {clickhouse_type(f.type, column)}" for f in arrow_type)
        return f"Tuple({', '.join(elements)})"
    if pa.types.is_timestamp(arrow_type):
        digits = {"s": 0, "ms": 3, "us": 6, "ns": 9}[arrow_type.unit]
        return f"Nullable(DateTime64({digits}, 'UTC'))"
    if pa.types.is_decimal(arrow_type) and 0 <= arrow_type.scale <= arrow_type.precision:
        return f"Nullable(Decimal({arrow_type.precision}, {arrow_type.scale}))"
    for matches, found in (
        (pa.types.is_boolean, "Bool"),
        (pa.types.is_float16, "Float32"),
        (pa.types.is_float32, "Float32"),
        (pa.types.is_floating, "Float64"),
        (pa.types.is_date32, "Date32"),
        (pa.types.is_date64, "DateTime64(3, 'UTC')"),
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
        f"Expected column {column!r} to hold numbers, text, booleans, moments, or lists, maps and "
        f"structs of them; found {arrow_type}. Convert it, or leave it out of the frame."
    )
