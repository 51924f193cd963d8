"""A strict reader of UBJSON, the binary JSON in which XGBoost writes its models.

It reads the part of the format that XGBoost writes and refuses the rest: a second value, a second
key of one name, an array longer than the bytes that follow.

Source: the specification at ubjson.org (draft 12).
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Any

import numpy as np

from atlas.errors import ArtifactCorrupt

__all__ = ["read_ubjson"]

_DEEPEST = 32
_SCALARS: Mapping[bytes, struct.Struct] = {
    b"i": struct.Struct(">b"),
    b"U": struct.Struct(">B"),
    b"I": struct.Struct(">h"),
    b"l": struct.Struct(">i"),
    b"L": struct.Struct(">q"),
    b"d": struct.Struct(">f"),
    b"D": struct.Struct(">d"),
}
_WORDS: Mapping[bytes, Any] = {b"T": True, b"F": False, b"Z": None}
_TYPED = {marker: np.dtype(f">{scalar.format[-1]}") for marker, scalar in _SCALARS.items()}


def read_ubjson(data: bytes) -> Any:
    """Return the one value that the bytes hold; arrays of one type come as NumPy arrays.

    Raises
    ------
    ArtifactCorrupt
        If the bytes are cut short, go on after the value, or are no such UBJSON.
    """
    reader = _Reader(data)
    try:
        value = reader.value(reader.take(1), depth=0)
    except (struct.error, UnicodeDecodeError) as error:
        raise reader.refusal(str(error)) from error
    if reader.at != len(data):
        raise reader.refusal(f"{len(data) - reader.at} bytes after the value")
    return value


class _Reader:
    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def value(self, marker: bytes, *, depth: int) -> Any:
        if depth > _DEEPEST:
            raise self.refusal(f"more than {_DEEPEST} levels")
        if marker in _SCALARS:
            return self._scalar(marker)
        if marker in _WORDS:
            return _WORDS[marker]
        if marker == b"S":
            return self._text()
        if marker == b"{":
            return self._object(depth)
        if marker == b"[":
            return self._array(depth)
        raise self.refusal(f"unknown marker {marker!r}")

    def take(self, count: int) -> bytes:
        part = self.data[self.at : self.at + count]
        if len(part) != count:
            raise self.refusal(f"{len(part)} bytes of {count}")
        self.at += count
        return part

    def refusal(self, found: str) -> ArtifactCorrupt:
        return ArtifactCorrupt(
            f"Expected UBJSON; found {found} at byte {self.at} of {len(self.data)}. "
            "Fetch the blob again, or roll back to an earlier version."
        )

    def _scalar(self, marker: bytes) -> int | float:
        scalar = _SCALARS[marker]
        number: int | float = scalar.unpack(self.take(scalar.size))[0]
        return number

    def _length(self) -> int:
        marker = self.take(1)
        length = self._scalar(marker) if marker in _SCALARS and marker not in b"dD" else -1
        if not 0 <= length <= len(self.data) - self.at:
            raise self.refusal(f"a length of {length}")
        return int(length)

    def _text(self) -> str:
        return self.take(self._length()).decode()

    def _object(self, depth: int) -> dict[str, Any]:
        members: dict[str, Any] = {}
        while self.data[self.at : self.at + 1] != b"}":
            name = self._text()
            if name in members:
                raise self.refusal(f"{name!r} twice")
            members[name] = self.value(self.take(1), depth=depth + 1)
        self.at += 1
        return members

    def _array(self, depth: int) -> Any:
        following = self.take(1)
        if following == b"$":
            marker, hash_ = self.take(1), self.take(1)
            if marker not in _TYPED or hash_ != b"#":
                raise self.refusal(f"an array of type {marker!r}")
            dtype, count = _TYPED[marker], self._length()
            return np.frombuffer(self.take(count * dtype.itemsize), dtype)
        if following == b"#":
            return [self.value(self.take(1), depth=depth + 1) for _ in range(self._length())]
        items = []
        while following != b"]":
            items.append(self.value(following, depth=depth + 1))
            following = self.take(1)
        return items
