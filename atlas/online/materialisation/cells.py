"""Columns as bytes: each value's cell in a matrix of bytes, with the bytes that count.

A cell is what the landing script unpacks: a MessagePack text whose bytes are a serialised
`feast.types.Value`. Cells of many columns lie side by side, so that rows come out by one mask
instead of by a loop over values.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

__all__ = [
    "Cells",
    "boolean_cells",
    "constant_cells",
    "double_cells",
    "float_cells",
    "integer_cells",
    "join_rows",
    "known_cells",
    "tagged_texts",
    "text_cells",
    "timestamp_cells",
]

Bytes = npt.NDArray[np.uint8]
Integers = npt.NDArray[np.int64]

# MessagePack: a text of up to 31 bytes has its size in the header byte, a longer one behind it.
_SHORT_TEXT = 0xA0
_LONG_TEXT = 0xDB
_SHORT = 32

_DOUBLE, _FLOAT, _BOOL = 0x29, 0x35, 0x38
_SECONDS, _NANOS = 0x08, 0x10
_VARINT_BYTES = 10
_MICROS = 1_000_000


@dataclass(frozen=True, slots=True)
class Cells:
    """Bytes of one or more columns.

    Parameters
    ----------
    data : (n, width)
    keep : (n, width) or None
        Which bytes count; None is all of them.
    """

    data: Bytes
    keep: npt.NDArray[np.bool_] | None = None


def constant_cells(n: int, value: bytes) -> Cells:
    """Return the same bytes in every row."""
    return Cells(np.broadcast_to(np.frombuffer(value, np.uint8), (n, len(value))))


def double_cells(values: npt.NDArray[np.float64]) -> Cells:
    """Serialise doubles; NaN is null."""
    return _fixed_cells(_DOUBLE, values.astype("<f8", copy=False), np.isnan(values))


def float_cells(values: npt.NDArray[np.float32]) -> Cells:
    """Serialise floats; NaN is null."""
    return _fixed_cells(_FLOAT, values.astype("<f4", copy=False), np.isnan(values))


def boolean_cells(values: npt.NDArray[np.bool_], null: npt.NDArray[np.bool_]) -> Cells:
    """Serialise truths."""
    return _fixed_cells(_BOOL, values.astype(np.uint8), null)


def integer_cells(tag: int, values: Integers, null: npt.NDArray[np.bool_]) -> Cells:
    """Serialise integers as varints behind a tag; those below 0 take ten bytes."""
    digits, kept = _varints(values)
    n, width = digits.shape
    data = np.empty((n, 2 + width), np.uint8)
    keep = np.empty((n, 2 + width), np.bool_)
    data[:, 1] = tag
    data[:, 2:] = digits
    keep[:, 0] = True
    keep[:, 1] = ~null
    keep[:, 2:] = kept & ~null[:, None]
    data[:, 0] = _SHORT_TEXT | keep[:, 1:].sum(axis=1, dtype=np.uint8)
    return Cells(data, keep)


def timestamp_cells(micros: Integers) -> Cells:
    """Serialise moments as `google.protobuf.Timestamp`; a part that is 0 is left out."""
    seconds, rest = np.divmod(micros, _MICROS)
    parts = [_optional(_SECONDS, seconds), _optional(_NANOS, rest * 1_000)]
    body = _beside(parts)
    assert body.keep is not None
    header = (_SHORT_TEXT | body.keep.sum(axis=1, dtype=np.uint8)).astype(np.uint8)
    return _beside([Cells(header[:, None]), body])


def known_cells(micros: Integers) -> Cells:
    """Serialise when rows became known: eight bytes, little-endian."""
    n = len(micros)
    data = np.empty((n, 9), np.uint8)
    data[:, 0] = _SHORT_TEXT | 8
    data[:, 1:] = np.ascontiguousarray(micros, "<i8").view(np.uint8).reshape(n, 8)
    return Cells(data)


def tagged_texts(tag: int, texts: pa.BinaryArray) -> pa.BinaryArray:
    """Serialise texts or bytes as values: a tag, the length, the bytes; null is no bytes."""
    null = texts.is_null().to_numpy(zero_copy_only=False)
    lengths = pc.binary_length(texts).fill_null(0).to_numpy(zero_copy_only=False)
    digits, kept = _varints(lengths.astype(np.int64))
    n = len(texts)
    head = Cells(
        np.concatenate([np.full((n, 1), tag, np.uint8), digits], axis=1),
        np.concatenate([~null[:, None], kept & ~null[:, None]], axis=1),
    )
    return pc.binary_join_element_wise(_binary(head), texts.fill_null(b""), b"")


def text_cells(values: pa.BinaryArray) -> pa.BinaryArray:
    """Put serialised values of any length behind their MessagePack headers."""
    lengths = pc.binary_length(values).to_numpy(zero_copy_only=False)
    short = lengths < _SHORT
    data = np.empty((len(values), 5), np.uint8)
    data[:, 0] = np.where(short, _SHORT_TEXT | lengths, _LONG_TEXT)
    data[:, 1:] = lengths.astype(">u4").view(np.uint8).reshape(-1, 4)
    keep = np.repeat(~short[:, None], 5, axis=1)
    keep[:, 0] = True
    return pc.binary_join_element_wise(_binary(Cells(data, keep)), values, b"")


def join_rows(columns: Sequence[Cells | pa.BinaryArray]) -> pa.BinaryArray:
    """Write each row's cells one behind the other, in the order of the columns."""
    pieces: list[pa.BinaryArray] = []
    beside: list[Cells] = []
    for column in columns:
        if isinstance(column, Cells):
            beside.append(column)
            continue
        if beside:
            pieces.append(_binary(_beside(beside)))
            beside = []
        pieces.append(column)
    if beside:
        pieces.append(_binary(_beside(beside)))
    return pieces[0] if len(pieces) == 1 else pc.binary_join_element_wise(*pieces, b"")


def _fixed_cells(tag: int, values: npt.NDArray[np.generic], null: npt.NDArray[np.bool_]) -> Cells:
    n, size = len(values), values.dtype.itemsize
    data = np.empty((n, 2 + size), np.uint8)
    data[:, 0] = _SHORT_TEXT | (1 + size)
    data[:, 1] = tag
    data[:, 2:] = np.ascontiguousarray(values).view(np.uint8).reshape(n, size)
    if not null.any():
        return Cells(data)
    data[null, 0] = _SHORT_TEXT
    keep = np.repeat(~null[:, None], 2 + size, axis=1)
    keep[:, 0] = True
    return Cells(data, keep)


def _optional(tag: int, values: Integers) -> Cells:
    """Serialise a field of integers that proto3 leaves out where it is 0."""
    digits, kept = _varints(values)
    there = (values != 0)[:, None]
    return Cells(
        np.concatenate([np.full((len(values), 1), tag, np.uint8), digits], axis=1),
        np.concatenate([there, kept & there], axis=1),
    )


def _varints(values: Integers) -> tuple[Bytes, npt.NDArray[np.bool_]]:
    """Return base-128 digits, lowest first, and which of them are written."""
    rest = values.astype(np.int64).view(np.uint64)
    highest = int(rest.max(initial=0))
    width = max(1, -(-highest.bit_length() // 7))
    assert width <= _VARINT_BYTES
    digits = np.empty((len(values), width), np.uint8)
    kept = np.empty((len(values), width), np.bool_)
    for place in range(width):
        kept[:, place] = True if place == 0 else rest != 0
        digit = (rest & np.uint64(0x7F)).astype(np.uint8)
        rest = rest >> np.uint64(7)
        digits[:, place] = digit | np.where(rest != 0, 0x80, 0).astype(np.uint8)
    return digits, kept


def _beside(cells: Sequence[Cells]) -> Cells:
    if len(cells) == 1:
        return cells[0]
    n = len(cells[0].data)
    width = sum(cell.data.shape[1] for cell in cells)
    data = np.empty((n, width), np.uint8)
    whole = all(cell.keep is None for cell in cells)
    keep = None if whole else np.ones((n, width), np.bool_)
    at = 0
    for cell in cells:
        end = at + cell.data.shape[1]
        data[:, at:end] = cell.data
        if keep is not None and cell.keep is not None:
            keep[:, at:end] = cell.keep
        at = end
    return Cells(data, keep)


def _binary(cells: Cells) -> pa.BinaryArray:
    n, width = cells.data.shape
    if cells.keep is None:
        data = np.ascontiguousarray(cells.data)
        offsets = np.arange(0, (n + 1) * width, max(width, 1), dtype=np.int32)[: n + 1]
    else:
        data = cells.data[cells.keep]
        offsets = np.zeros(n + 1, np.int32)
        np.cumsum(cells.keep.sum(axis=1), out=offsets[1:])
    return pa.BinaryArray.from_buffers(
        pa.binary(), n, [None, pa.py_buffer(offsets), pa.py_buffer(data)]
    )
