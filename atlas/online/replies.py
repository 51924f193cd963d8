"""Where the values lie in the bytes that Redis answered to one HMGET for each key."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from atlas.errors import StoreUnavailable
from atlas.online.wire import DOUBLE_TAG

__all__ = ["Cells", "bulks", "doubles_of", "locate"]

MISSING = -1
"""Size of a cell that is not there; 0 is null."""

_END = b"\r\n"
_DOUBLE = np.dtype([("head", "<u4"), ("tag", "u1"), ("value", "<f8"), ("end", "<u2")])
_DOUBLE_HEAD = int.from_bytes(b"$9\r\n", "little")
_DOUBLE_END = int.from_bytes(_END, "little")


@dataclass(frozen=True, slots=True)
class Cells:
    """The cells of n keys; the first of each key is its event time."""

    starts: npt.NDArray[np.int64]
    """(n, 1 + width)"""
    sizes: npt.NDArray[np.int64]
    """(n, 1 + width); -1 where there is nothing."""

    def events(self, reply: bytes) -> list[bytes | None]:
        """Return each key's event time as written; None where there is no row."""
        return [
            reply[start : start + size] if size >= 0 else None
            for start, size in zip(
                self.starts[:, 0].tolist(), self.sizes[:, 0].tolist(), strict=True
            )
        ]


def doubles_of(
    reply: bytes, n: int, width: int
) -> tuple[list[bytes], npt.NDArray[np.float64]] | None:
    """Read events and values of rows whose every value is a double; None if one is not.

    It is the usual case, and then every row has the same length.

    Returns
    -------
    events : (n,)
    values : (n, width)
    """
    size = width * _DOUBLE.itemsize
    head = b"*%d\r\n$" % (1 + width)
    events, rows = [], []
    at = 0
    for _ in range(n):
        begin = at + len(head)
        end = reply.find(_END, begin, begin + 5)
        length = reply[begin:end]
        if not reply.startswith(head, at) or not length.isdigit():
            return None
        begin = end + 2
        end = begin + int(length)
        events.append(reply[begin:end])
        at = end + 2 + size
        rows.append(reply[end + 2 : at])
    if at != len(reply):
        return None
    table = np.frombuffer(b"".join(rows), _DOUBLE).reshape(n, width)
    regular = (
        (table["head"] == _DOUBLE_HEAD)
        & (table["tag"] == DOUBLE_TAG)
        & (table["end"] == _DOUBLE_END)
    )
    return (events, table["value"].astype(np.float64)) if regular.all() else None


def locate(reply: bytes, n: int, width: int) -> Cells:
    """Find the cells of n replies of 1 + width values, whatever they hold.

    Raises
    ------
    StoreUnavailable
        If Redis answered with an error, or something else than such replies.
    """
    head = b"*%d\r\n" % (1 + width)
    places: list[int] = []
    sizes: list[int] = []
    at = 0
    for _ in range(n):
        if not reply.startswith(head, at):
            raise _refused(reply[at : at + 300])
        at += len(head)
        for _ in range(1 + width):
            end = reply.find(_END, at)
            # RESP3 writes `_` for what RESP2 writes as `$-1`.
            size = MISSING if reply[at] == 0x5F else int(reply[at + 1 : end])
            at = end + 2
            places.append(at)
            sizes.append(size)
            if size >= 0:
                at += size + 2
    if at != len(reply):
        raise _refused(reply[at : at + 300])
    shape = (n, 1 + width)
    return Cells(
        np.array(places, np.int64).reshape(shape), np.array(sizes, np.int64).reshape(shape)
    )


def bulks(reply: bytes, n: int) -> list[bytes]:
    """Read n replies of bytes each.

    Raises
    ------
    StoreUnavailable
        If Redis answered with an error.
    """
    found = []
    at = 0
    for _ in range(n):
        end = reply.find(_END, at)
        if reply[at : at + 1] != b"$":
            raise _refused(reply[at : at + 300])
        size = int(reply[at + 1 : end])
        at = end + 2 + size + 2
        found.append(reply[end + 2 : at - 2])
    if at != len(reply):
        raise _refused(reply[at : at + 300])
    return found


def _refused(found: bytes) -> StoreUnavailable:
    text = found.partition(_END)[0].decode(errors="replace")
    return StoreUnavailable(
        f"Expected Redis to answer with feature values; found: {text}. Look at what else writes "
        "under Feast's keys."
    )
