"""Protocol buffers as they lie in a file: enough to write an ONNX model and to read it back.

Source: "Protocol Buffers: Encoding", protobuf.dev.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator

from atlas.errors import ArtifactCorrupt

__all__ = ["read_fields", "write_float", "write_integer", "write_text"]

_VARINT, _EIGHT_BYTES, _COUNTED, _FOUR_BYTES = 0, 1, 2, 5
_WIDTHS = {_EIGHT_BYTES: 8, _FOUR_BYTES: 4}
_LONGEST_VARINT = 10


def write_integer(field: int, *values: int) -> bytes:
    """Return each value as an integer of this field; none is negative."""
    return b"".join(_tag(field, _VARINT) + _varint(value) for value in values)


def write_text(field: int, *values: bytes | str) -> bytes:
    """Return each value as text, bytes or an embedded message of this field."""
    return b"".join(_counted(field, value) for value in values)


def write_float(field: int, value: float) -> bytes:
    """Return a 32-bit float of this field."""
    return _tag(field, _FOUR_BYTES) + struct.pack("<f", value)


def read_fields(data: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Yield each field's number and value in order: an integer, or the bytes of anything else.

    Raises
    ------
    ArtifactCorrupt
        If the bytes are cut short or of no known form.
    """
    at = 0
    while at < len(data):
        tag, at = _read_varint(data, at)
        field, form = tag >> 3, tag & 7
        if form == _VARINT:
            value, at = _read_varint(data, at)
            yield field, value
            continue
        if form == _COUNTED:
            width, at = _read_varint(data, at)
        elif form in _WIDTHS:
            width = _WIDTHS[form]
        else:
            raise _refusal(f"form {form} of field {field}")
        if width > len(data) - at:
            raise _refusal(f"{len(data) - at} bytes of {width} of field {field}")
        yield field, data[at : at + width]
        at += width


def _tag(field: int, form: int) -> bytes:
    return _varint(field << 3 | form)


def _counted(field: int, value: bytes | str) -> bytes:
    content = value.encode() if isinstance(value, str) else value
    return _tag(field, _COUNTED) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    return bytes(_sevens(value))


def _sevens(value: int) -> Iterable[int]:
    while value > 0x7F:
        yield value & 0x7F | 0x80
        value >>= 7
    yield value


def _read_varint(data: memoryview, at: int) -> tuple[int, int]:
    value = 0
    for place in range(_LONGEST_VARINT):
        if at + place >= len(data):
            break
        byte = data[at + place]
        value |= (byte & 0x7F) << 7 * place
        if byte < 0x80:
            return value, at + place + 1
    raise _refusal("a number without end")


def _refusal(found: str) -> ArtifactCorrupt:
    return ArtifactCorrupt(
        f"Expected protocol buffers; found {found}. Fetch the blob again, or roll back to an "
        "earlier version."
    )
