"""One feature value in Redis: a serialised `feast.types.Value`, both ways; no bytes are null."""

from __future__ import annotations

import math
import operator
import struct
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import numpy.typing as npt

from atlas.errors import InvalidInput
from atlas.online.wire import varint
from atlas.serving import ValueKind

__all__ = ["IN_FLOAT64", "decode", "decode_numbers", "encode", "moment_of"]

Encode = Callable[[Any], bytes]

IN_FLOAT64 = frozenset({ValueKind.DOUBLE, ValueKind.FLOAT, ValueKind.INT32, ValueKind.BOOL})
"""Kinds of which every value is exactly a float64."""

_FIELD = {
    ValueKind.BYTES: 1,
    ValueKind.STRING: 2,
    ValueKind.INT32: 3,
    ValueKind.INT64: 4,
    ValueKind.DOUBLE: 5,
    ValueKind.FLOAT: 6,
    ValueKind.BOOL: 7,
    ValueKind.UNIX_TIMESTAMP: 8,
    ValueKind.BYTES_LIST: 11,
    ValueKind.STRING_LIST: 12,
    ValueKind.INT32_LIST: 13,
    ValueKind.INT64_LIST: 14,
    ValueKind.DOUBLE_LIST: 15,
    ValueKind.FLOAT_LIST: 16,
    ValueKind.BOOL_LIST: 17,
    ValueKind.UNIX_TIMESTAMP_LIST: 18,
}
_VARINT, _FIXED64, _SIZED, _FIXED32 = 0, 1, 2, 5
_DTYPE = {ValueKind.DOUBLE: "<f8", ValueKind.FLOAT: "<f4"}
_WIRE = {ValueKind.DOUBLE: _FIXED64, ValueKind.FLOAT: _FIXED32}
_TEXT = (ValueKind.STRING, ValueKind.BYTES)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# Feast's word for a time that is not there.
_NO_TIME = -(1 << 63)
_LONGEST_VARINT = 10


def _is_list(kind: ValueKind) -> bool:
    return kind.endswith("_list")


def _element(kind: ValueKind) -> ValueKind:
    return ValueKind(kind.removesuffix("_list"))


def _wire(kind: ValueKind) -> int:
    return _SIZED if _is_list(kind) or kind in _TEXT else _WIRE.get(kind, _VARINT)


_TAG = {kind: varint(field << 3 | _wire(kind)) for kind, field in _FIELD.items()}
_PACKED_TAG = b"\x0a"


def encode(kind: ValueKind, values: Iterable[Any]) -> list[bytes]:
    """Serialise a column; None and NaN are null, as Feast writes them.

    A timestamp is a datetime or whole seconds since 1970; of a datetime the fraction of a second
    is dropped, because the format has no place for it.

    Raises
    ------
    InvalidInput
        If a value is not of that kind.
    """
    payload = _sized(_list_payload(_element(kind))) if _is_list(kind) else _payload(kind)
    tag = _TAG[kind]
    cells = []
    for value in values:
        if value is None or (isinstance(value, float) and math.isnan(value)):
            cells.append(b"")
            continue
        try:
            cells.append(tag + payload(value))
        except (TypeError, ValueError, OverflowError, AttributeError, struct.error) as error:
            raise InvalidInput(
                f"Expected a value of kind {kind}; found {value!r:.80} ({error})."
            ) from error
    return cells


def _payload(kind: ValueKind) -> Encode:
    match kind:
        case ValueKind.DOUBLE:
            return struct.Struct("<d").pack
        case ValueKind.FLOAT:
            return struct.Struct("<f").pack
        case ValueKind.INT32:
            return lambda value: _signed(value, 32)
        case ValueKind.INT64:
            return lambda value: _signed(value, 64)
        case ValueKind.BOOL:
            return _bool
        case ValueKind.UNIX_TIMESTAMP:
            return lambda value: _signed(_seconds(value), 64)
        case ValueKind.STRING:
            return _sized(lambda value: value.encode())
        case _:
            return _sized(_bytes)


def _list_payload(element: ValueKind) -> Encode:
    payload = _payload(element)
    if element in _TEXT:
        return lambda values: b"".join(_PACKED_TAG + payload(value) for value in values)

    def packed(values: Iterable[Any]) -> bytes:
        data = b"".join(map(payload, values))
        return _PACKED_TAG + varint(len(data)) + data if data else b""

    return packed


def _sized(payload: Encode) -> Encode:
    def sized(value: Any) -> bytes:
        data = payload(value)
        return varint(len(data)) + data

    return sized


def _signed(value: Any, bits: int) -> bytes:
    # A float that is a whole number is one: a float64 array carries an int32 feature.
    number = int(value) if isinstance(value, float) and value.is_integer() else value
    number = operator.index(number)
    if not -(1 << (bits - 1)) <= number < 1 << (bits - 1):
        raise ValueError(f"beyond {bits} bits")
    return varint(number)


def _bool(value: Any) -> bytes:
    if value not in (0, 1):
        raise ValueError("neither true nor false")
    return b"\x01" if value else b"\x00"


def _bytes(value: Any) -> bytes:
    if not isinstance(value, bytes | bytearray | memoryview):
        raise TypeError("not bytes")
    return bytes(value)


def _seconds(value: Any) -> Any:
    if not isinstance(value, datetime):
        return value
    aware = value if value.tzinfo else value.replace(tzinfo=UTC)
    # Towards zero, as Feast converts it.
    whole = abs(aware - _EPOCH) // timedelta(seconds=1)
    return whole if aware >= _EPOCH else -whole


def decode_numbers(
    kind: ValueKind,
    data: npt.NDArray[np.uint8],
    starts: npt.NDArray[np.int64],
    sizes: npt.NDArray[np.int64],
) -> npt.NDArray[Any]:
    """Read cells of a number's kind, none of them null.

    Parameters
    ----------
    data : (n_bytes,)
    starts, sizes : (n,)
        Where each cell lies.

    Returns
    -------
    (n,)
        float64, float32, or int64 for whole numbers, truth and seconds.

    Raises
    ------
    ValueError
        If a cell is of another kind.
    """
    tagged = data[starts] == _TAG[kind][0]
    if dtype := _DTYPE.get(kind):
        width = np.dtype(dtype).itemsize
        if not np.all(tagged & (sizes == 1 + width)):
            raise ValueError(f"not a {kind}")
        raw = data[starts[:, None] + np.arange(1, 1 + width)]
        return np.ascontiguousarray(raw).view(dtype)[:, 0]
    if not np.all(tagged & (sizes > 1) & (sizes <= 1 + _LONGEST_VARINT)):
        raise ValueError(f"not a {kind}")
    places = np.arange(_LONGEST_VARINT)
    raw = data[np.minimum(starts[:, None] + 1 + places, len(data) - 1)]
    inside = places < (sizes - 1)[:, None]
    goes_on = (raw & 0x80) != 0
    if not np.array_equal(goes_on & inside, places < (sizes - 2)[:, None]):
        raise ValueError(f"not a {kind}")
    bits = (raw & 0x7F).astype(np.uint64) << (7 * places).astype(np.uint64)
    whole: npt.NDArray[np.uint64] = np.where(inside, bits, np.uint64(0)).sum(
        axis=1, dtype=np.uint64
    )
    return whole.view(np.int64)


def decode(kind: ValueKind, cell: bytes) -> Any:
    """Read one cell that is not null, as the Python value that Feast gives.

    Raises
    ------
    ValueError
        If the bytes are of another kind.
    """
    if not cell.startswith(_TAG[kind]):
        raise ValueError(f"not a {kind}")
    at = len(_TAG[kind])
    if not _is_list(kind):
        value, end = _read(kind, cell, at)
        found = value
    else:
        size, at = _read_varint(cell, at)
        end = at + size
        found = _read_list(_element(kind), cell[at:end])
    if end != len(cell):
        raise ValueError(f"not a whole {kind}")
    return found


def _read_list(kind: ValueKind, data: bytes) -> list[Any]:
    values: list[Any] = []
    at = 0
    while at < len(data):
        if data[at : at + 1] != _PACKED_TAG:
            raise ValueError(f"not a list of {kind}")
        if kind in _TEXT:
            value, at = _read(kind, data, at + 1)
            values.append(value)
            continue
        size, at = _read_varint(data, at + 1)
        end = at + size
        while at < end:
            value, at = _read(kind, data, at)
            values.append(value)
    return values


def _read(kind: ValueKind, data: bytes, at: int) -> tuple[Any, int]:
    if dtype := _DTYPE.get(kind):
        width = np.dtype(dtype).itemsize
        # A slice that the end of the data cuts short has too few bytes, which numpy says.
        return np.frombuffer(data[at : at + width], dtype, 1)[0].item(), at + width
    number, at = _read_varint(data, at)
    match kind:
        case ValueKind.STRING:
            return data[at : at + number].decode(), at + number
        case ValueKind.BYTES:
            return data[at : at + number], at + number
        case ValueKind.BOOL:
            return bool(number), at
        case ValueKind.UNIX_TIMESTAMP:
            return moment_of(_to_signed(number)), at
        case _:
            return _to_signed(number), at


def moment_of(seconds: int) -> datetime | None:
    """Return the moment of a timestamp feature; None for Feast's mark of no time."""
    if seconds == _NO_TIME:
        return None
    try:
        return _EPOCH + timedelta(seconds=seconds)
    except OverflowError as error:
        raise ValueError(f"no date has {seconds} seconds since 1970") from error


def _to_signed(number: int) -> int:
    return number - (1 << 64) if number >> 63 else number


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if at >= len(data) or shift >= 7 * _LONGEST_VARINT:
            raise ValueError("a number without an end")
        value |= (data[at] & 0x7F) << shift
        shift += 7
        at += 1
        if data[at - 1] < 0x80:
            return value, at
