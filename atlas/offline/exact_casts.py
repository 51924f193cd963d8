"""How Arrow values become a ClickHouse column's, or are refused: none is rounded, cut or wrapped.

Left alone, an insert would store an integer that is too big modulo the column's width, cut a
moment to the column's digits, and a null as zero.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import UTC, datetime
from ipaddress import ip_address
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from atlas.clickhouse.column_types import arguments, bare, family, named_elements
from atlas.errors import InvalidInput

__all__ = ["exact"]

_INTEGERS = {
    f"{sign}Int{bits}": getattr(pa, f"{sign.lower()}int{bits}")()
    for sign in ("", "U")
    for bits in (8, 16, 32, 64)
}
_WIDE = ("Int128", "Int256", "UInt128", "UInt256")
_FLOATS = {"Float32": pa.float32(), "Float64": pa.float64(), "BFloat16": pa.float32()}
_LABEL = re.compile(r"'((?:[^'\\]|\\.)*)' = ")
_ESCAPED = re.compile(r"\\(.)")
_UUID = "^[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}$"
_UNITS = ("s", "ms", "us", "ns")
_DECIMAL128_DIGITS = 38
# First and last moment that a type can hold, to the second.
_SPANS = {
    "Date": (datetime(1970, 1, 1, tzinfo=UTC), datetime(2149, 6, 6, tzinfo=UTC)),
    "Date32": (datetime(1900, 1, 1, tzinfo=UTC), datetime(2299, 12, 31, tzinfo=UTC)),
    "DateTime": (
        datetime(1970, 1, 1, tzinfo=UTC),
        datetime(2106, 2, 7, 6, 28, 15, tzinfo=UTC),
    ),
    "DateTime64": (
        datetime(1900, 1, 1, tzinfo=UTC),
        datetime(2299, 12, 31, 23, 59, 59, tzinfo=UTC),
    ),
}


def exact(values: pa.Array, column_type: str) -> pa.Array:
    """Return the values as a column of that type takes them, each exactly.

    A moment without a zone is UTC.

    Raises
    ------
    InvalidInput
        If a value is of another kind, or would not come back as it is; the message is the end of
        a sentence: what was found, and what to do.
    """
    if pa.types.is_dictionary(values.type):
        values = values.dictionary_decode()
    if values.null_count and not _nullable(column_type):
        raise InvalidInput(
            f"{values.null_count} missing, which the column cannot hold. Fill them, or make the "
            "column Nullable"
        )
    try:
        return _CASTS[family(column_type)](values, bare(column_type))
    except KeyError:
        return values
    except pa.ArrowException as error:
        raise InvalidInput(f"{error}. Convert the values, or the column") from error


def _nullable(column_type: str) -> bool:
    kind = column_type.split("(", 1)[0]
    if kind in ("LowCardinality", "SimpleAggregateFunction"):
        return _nullable(arguments(column_type)[-1])
    return kind in ("Nullable", "Variant", "Dynamic")


def _integer(values: pa.Array, column_type: str) -> pa.Array:
    _only(
        values,
        pa.types.is_integer,
        pa.types.is_floating,
        pa.types.is_decimal,
        pa.types.is_boolean,
    )
    return values.cast(_INTEGERS[column_type])


def _wide_integer(values: pa.Array, column_type: str) -> pa.Array:
    _only(values, pa.types.is_integer, pa.types.is_string, pa.types.is_large_string)
    return values.cast(pa.string())


def _floating(values: pa.Array, column_type: str) -> pa.Array:
    _only(values, pa.types.is_integer, pa.types.is_floating, pa.types.is_decimal)
    if pa.types.is_decimal(values.type):
        # To the nearest double is what such a column is for; Arrow would call it a loss.
        return values.cast(_FLOATS[column_type], safe=False)
    found = values.cast(_FLOATS[column_type])
    if (
        pa.types.is_floating(values.type)
        and pc.any(pc.and_(pc.is_inf(found), pc.invert(pc.is_inf(values)))).as_py()
    ):
        raise InvalidInput(f"a number too big for {column_type}. Make the column Float64")
    return found


def _boolean(values: pa.Array, column_type: str) -> pa.Array:
    _only(values, pa.types.is_boolean, pa.types.is_integer)
    if (
        pa.types.is_integer(values.type)
        and pc.any(pc.and_(pc.not_equal(values, 0), pc.not_equal(values, 1))).as_py()
    ):
        raise InvalidInput("integers other than 0 and 1. Convert them to booleans")
    return values.cast(pa.bool_())


def _text(values: pa.Array, column_type: str) -> pa.Array:
    if pa.types.is_struct(values.type) or pa.types.is_map(values.type):
        return _json(values, column_type)
    _only(
        values,
        pa.types.is_string,
        pa.types.is_large_string,
        pa.types.is_string_view,
        pa.types.is_binary,
        pa.types.is_large_binary,
    )
    return values.cast(pa.string()) if pa.types.is_null(values.type) else values


def _spelt(values: pa.Array, column_type: str) -> pa.Array:
    _only(values, pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)
    return values.cast(pa.string())


def _label(values: pa.Array, column_type: str) -> pa.Array:
    values = _spelt(values, column_type)
    labels = [_ESCAPED.sub(r"\1", label[1]) for label in _LABEL.finditer(column_type)]
    _all_are(values, pc.is_in(values, pa.array(labels, pa.string())), f"one of {', '.join(labels)}")
    return values


def _uuid(values: pa.Array, column_type: str) -> pa.Array:
    values = _spelt(values, column_type)
    _all_are(values, pc.match_substring_regex(values, _UUID), "a UUID")
    return values


def _address(values: pa.Array, column_type: str) -> pa.Array:
    values = _spelt(values, column_type)
    found = values.drop_null().unique()
    _all_are(found, pa.array([_is(text, column_type) for text in found.to_pylist()]), column_type)
    return values


def _is(text: str, address: str) -> bool:
    try:
        # A column of the later addresses takes the former, too.
        return address in ("IPv6", f"IPv{ip_address(text).version}")
    except ValueError:
        return False


def _json(values: pa.Array, column_type: str) -> pa.Array:
    """Write maps and structs as JSON, as Feast keeps them where columns have no such type.

    A frame's dictionaries come as structs with all their keys; those that one lacks are left out.
    """
    if not (pa.types.is_struct(values.type) or pa.types.is_map(values.type)):
        return _spelt(values, column_type)
    try:
        return pa.array(
            [
                None if each is None else json.dumps(each, allow_nan=False)
                for each in _dicts(values)
            ],
            pa.string(),
        )
    except (TypeError, ValueError) as error:
        raise InvalidInput(f"what JSON cannot say: {error}. Convert the values to text") from error


def _dicts(values: pa.Array) -> list[dict[str, Any] | None]:
    if pa.types.is_map(values.type):
        return [None if each is None else dict(each) for each in values.to_pylist()]
    return [
        None if each is None else {key: value for key, value in each.items() if value is not None}
        for each in values.to_pylist()
    ]


def _decimal(values: pa.Array, column_type: str) -> pa.Array:
    _only(values, pa.types.is_decimal, pa.types.is_integer, pa.types.is_string)
    digits, places = (int(argument) for argument in arguments(column_type))
    kind = pa.decimal128 if digits <= _DECIMAL128_DIGITS else pa.decimal256
    if pa.types.is_integer(values.type):
        # An integer type has room for more digits than the column may have.
        values = values.cast(pa.decimal128(20, 0))
    return values.cast(kind(digits, places))


def _date(values: pa.Array, column_type: str) -> pa.Array:
    _only(values, pa.types.is_date, pa.types.is_timestamp)
    found = values.cast(pa.date32())
    moments = found.cast(pa.timestamp("ms", "UTC"))
    if pa.types.is_timestamp(values.type) and not moments.equals(
        values.cast(pa.timestamp("ms", "UTC"))
    ):
        raise InvalidInput("moments within a day. Make the column a DateTime64")
    _within_span(moments, family(column_type))
    return found


def _moment(values: pa.Array, column_type: str) -> pa.Array:
    _only(values, pa.types.is_timestamp, pa.types.is_date)
    if pa.types.is_date(values.type):
        values = values.cast(pa.timestamp("s" if pa.types.is_date32(values.type) else "ms"))
    _within_span(values, family(column_type))
    digits = int(arguments(column_type)[0]) if family(column_type) == "DateTime64" else 0
    unit = _UNITS[-(-digits // 3)]
    found = values.cast(pa.timestamp(unit, "UTC"))
    step = 10 ** (3 * _UNITS.index(unit) - digits)
    if step > 1:
        ticks = found.cast(pa.int64())
        kept = pc.multiply(pc.divide(ticks, step), step)
        if not kept.equals(ticks):
            raise InvalidInput(
                f"moments with more digits than {column_type} has. Round them, or widen the column"
            )
    return found


def _array(values: pa.Array, column_type: str) -> pa.Array:
    _only(values, pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)
    if pa.types.is_null(values.type):
        return values
    elements = exact(values.flatten(), arguments(column_type)[0])
    ends = np.cumsum(pc.fill_null(pc.list_value_length(values), 0).to_numpy(zero_copy_only=False))
    offsets = np.concatenate([[0], ends]).astype(np.int64)
    return pa.LargeListArray.from_arrays(pa.array(offsets), elements)


def _map(values: pa.Array, column_type: str) -> pa.Array:
    _only(values, pa.types.is_map, pa.types.is_struct)
    key, item = arguments(column_type)
    if pa.types.is_struct(values.type):
        kinds = {field.type for field in values.type}
        if len(kinds) > 1:
            found = ", ".join(f"{field.name} {field.type}" for field in values.type)
            raise InvalidInput(f"values of several types: {found}. Give them one type")
        pairs = [list((each or {}).items()) for each in _dicts(values)]
        values = pa.array(pairs, pa.map_(pa.string(), kinds.pop() if kinds else pa.string()))
    exact(values.keys, key)
    exact(values.items, item)
    return values


def _tuple(values: pa.Array, column_type: str) -> pa.Array:
    _only(values, pa.types.is_struct)
    elements = dict(named_elements(column_type))
    names = [field.name for field in values.type]
    if set(names) != set(elements):
        raise InvalidInput(
            f"structs of {', '.join(names)} for {', '.join(elements)}. Give them the same fields"
        )
    for place, name in enumerate(names):
        exact(values.field(place), elements[name])
    return values


_CASTS: dict[str, Callable[[Any, str], Any]] = {
    **dict.fromkeys(_INTEGERS, _integer),
    **dict.fromkeys(_WIDE, _wide_integer),
    **dict.fromkeys(_FLOATS, _floating),
    **dict.fromkeys(("Enum8", "Enum16"), _label),
    **dict.fromkeys(("IPv4", "IPv6"), _address),
    **dict.fromkeys(("Date", "Date32"), _date),
    **dict.fromkeys(("DateTime", "DateTime64"), _moment),
    **dict.fromkeys(("JSON", "Object"), _json),
    "Bool": _boolean,
    "UUID": _uuid,
    "String": _text,
    "FixedString": _text,
    "Decimal": _decimal,
    "Array": _array,
    "Map": _map,
    "Tuple": _tuple,
}


def _only(values: pa.Array, *kinds: Callable[[pa.DataType], bool]) -> None:
    if not any(kind(values.type) for kind in (*kinds, pa.types.is_null)):
        raise InvalidInput(f"{values.type}. Convert the values, or the column")


def _all_are(values: pa.Array, known: pa.Array, what: str) -> None:
    wrong = values.filter(pc.invert(known)).drop_null()
    if len(wrong):
        raise InvalidInput(f"{wrong[0].as_py()!r:.80}, not {what}. Correct it")


def _within_span(moments: pa.Array, kind: str) -> None:
    first, last = _SPANS[kind]
    found = pc.min_max(moments.cast(pa.timestamp("s", "UTC"), safe=False))
    low, high = found["min"].as_py(), found["max"].as_py()
    if low is not None and not first <= low <= high <= last:
        outside = low if low < first else high
        raise InvalidInput(
            f"{outside:%Y-%m-%d %H:%M:%S}, outside {first:%Y-%m-%d} to {last:%Y-%m-%d}. Correct it"
        )
