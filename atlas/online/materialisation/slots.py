"""Where a key lies in a Redis Cluster: its slot, by the published rule."""

from __future__ import annotations

from binascii import crc_hqx
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

__all__ = ["SLOTS", "by_slot", "key_slot"]

SLOTS = 16_384


def key_slot(key: bytes) -> int:
    """Return the slot of a key: CRC-16/XMODEM of the key, or of its hash tag if it has one.

    The tag is what stands between the first `{` and the next `}`, unless nothing does.
    """
    start = key.find(b"{")
    if start >= 0:
        end = key.find(b"}", start + 1)
        if end > start + 1:
            key = key[start + 1 : end]
    return crc_hqx(key, 0) % SLOTS


def by_slot(keys: Sequence[bytes]) -> Iterator[tuple[int, npt.NDArray[np.intp]]]:
    """Give each slot that occurs, with the places of its keys."""
    slots = np.fromiter(map(key_slot, keys), np.int32, len(keys))
    order = np.argsort(slots, kind="stable")
    found, starts = np.unique(slots[order], return_index=True)
    ends = [*starts[1:].tolist(), len(order)]
    for slot, start, end in zip(found.tolist(), starts.tolist(), ends[: len(found)], strict=True):
        yield slot, order[start:end]
