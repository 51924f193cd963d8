"""Feast's bytes in Redis, version 3: keys, fields, values and times.

One hash holds an entity's rows of every view with the same join key. A field is four bytes, a hash
of `view:feature`; its value is a serialised `feast.types.Value`. `_ts:view` has the event time.
Atlas adds `_known:view`: eight bytes, little-endian microseconds of when the row became known; and
for views with a history, one string for each entity whose key begins with `atlas:history:`.

Times below the second: an event time keeps its nanoseconds if its writer has them, two rows are
compared by them, and whoever reads microseconds rounds down. Feast and Atlas write microseconds. A
value of the kind `unix_timestamp` has whole seconds; Feast and Atlas drop the rest when they write.
A time that matters below the second belongs in a 64-bit whole number of microseconds.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence

import mmh3
import numpy as np
import numpy.typing as npt

from atlas.errors import InvalidInput

__all__ = [
    "DOUBLE_BYTES",
    "DOUBLE_TAG",
    "colliding",
    "double_rows",
    "entity_key",
    "event_field",
    "event_micros",
    "feature_field",
    "history_key",
    "is_key_of",
    "key_prefix",
    "known_bytes",
    "known_field",
    "parse_history_key",
    "timestamp_bytes",
    "varint",
]

DOUBLE_TAG = 0x29
"""First byte of a serialised double; eight little-endian bytes follow."""
DOUBLE_BYTES = 9

_STRING = 2
_HISTORY = b"atlas:history:"
_MICROS = 1_000_000


def key_prefix(join_keys: Sequence[str]) -> bytes:
    """Return the bytes with which every key of these join keys starts."""
    names = [name.encode() for name in sorted(join_keys)]
    return struct.pack("<I", len(names)) + b"".join(
        struct.pack("<II", _STRING, len(name)) + name for name in names
    )


def entity_key(prefix: bytes, value: str, project: str) -> bytes:
    """Return the Redis key of an entity with one text join key."""
    data = value.encode()
    return prefix + struct.pack("<II", _STRING, len(data)) + data + project.encode()


def is_key_of(key: bytes, prefix: bytes, n_values: int, project: str) -> bool:
    """Say whether a Redis key belongs to exactly this project.

    The project's name ends the key without a mark, so only reading past the values tells `prod`
    from `nonprod`.
    """
    if not key.startswith(prefix):
        return False
    end = len(prefix)
    for _ in range(n_values):
        if len(key) < end + 8:
            return False
        end += 8 + int.from_bytes(key[end + 4 : end + 8], "little")
    return key[end:] == project.encode()


def history_key(view: str, entity: bytes) -> bytes:
    """Return the Redis key of the last rows of an entity, itself given by its key."""
    name = view.encode()
    return _HISTORY + struct.pack("<I", len(name)) + name + entity


def parse_history_key(key: bytes) -> tuple[str, bytes] | None:
    """Return the view and the entity's key of a history's key; None for another kind of key."""
    begin = len(_HISTORY) + 4
    if not key.startswith(_HISTORY) or len(key) < begin:
        return None
    end = begin + int.from_bytes(key[begin - 4 : begin], "little")
    try:
        return key[begin:end].decode(), key[end:]
    except UnicodeDecodeError:
        return None


def feature_field(view: str, feature: str) -> bytes:
    """Return the hash field of a feature."""
    return mmh3.hash(f"{view}:{feature}", signed=False).to_bytes(4, "little")


def event_field(view: str) -> bytes:
    """Return the hash field of a view's event time."""
    return f"_ts:{view}".encode()


def known_field(view: str) -> bytes:
    """Return the hash field of when a view's row became known."""
    return f"_known:{view}".encode()


def colliding(names: Iterable[tuple[str, str]]) -> tuple[tuple[str, str], tuple[str, str]] | None:
    """Return two (view, feature) that share a field, or None: the hash has only 32 bits."""
    seen: dict[bytes, tuple[str, str]] = {}
    for view, feature in names:
        other = seen.setdefault(feature_field(view, feature), (view, feature))
        if other != (view, feature):
            return other, (view, feature)
    return None


def timestamp_bytes(micros: int) -> bytes:
    """Serialise a `google.protobuf.Timestamp`."""
    seconds, rest = divmod(micros, _MICROS)
    data = b""
    if seconds:
        data += b"\x08" + varint(seconds)
    if rest:
        data += b"\x10" + varint(rest * 1_000)
    return data


def event_micros(data: bytes) -> int:
    """Read a serialised `google.protobuf.Timestamp` as microseconds, rounded down."""
    seconds = nanos = 0
    at = 0
    while at < len(data):
        tag = data[at]
        value = shift = 0
        while True:
            at += 1
            value |= (data[at] & 0x7F) << shift
            shift += 7
            if data[at] < 0x80:
                break
        at += 1
        if tag == 0x08:
            seconds = value - (1 << 64) if value >> 63 else value
        else:
            nanos = value
    return seconds * _MICROS + nanos // 1_000


def known_bytes(micros: int) -> bytes:
    """Serialise when a row became known."""
    return struct.pack("<q", micros)


def double_rows(values: npt.NDArray[np.float64]) -> list[list[bytes]]:
    """Serialise rows of doubles; NaN is null, which Feast writes as no bytes.

    Parameters
    ----------
    values : (n, n_features)
    """
    n, width = values.shape
    cells = np.empty((n, width), dtype=[("tag", "u1"), ("value", "<f8")])
    cells["tag"] = DOUBLE_TAG
    cells["value"] = values
    data = cells.tobytes()
    null = np.isnan(values).tolist()
    size = width * DOUBLE_BYTES
    return [
        [
            b"" if missing else data[at : at + DOUBLE_BYTES]
            for missing, at in zip(
                null[row], range(row * size, (row + 1) * size, DOUBLE_BYTES), strict=True
            )
        ]
        for row in range(n)
    ]


def varint(value: int) -> bytes:
    """Serialise a whole number as protobuf does: seven bits a byte, the lowest first."""
    if value < 0:
        value += 1 << 64
    if not 0 <= value < 1 << 64:
        raise InvalidInput(f"Expected a whole number that fits 64 bits; found {value}.")
    data = bytearray()
    while value >= 0x80:
        data.append(value & 0x7F | 0x80)
        value >>= 7
    data.append(value)
    return bytes(data)
