"""Reads feature vectors from Redis without Feast: one round trip, arrays out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum
from typing import Any

import numpy as np
import numpy.typing as npt
from redis.asyncio import Redis

from atlas.bus import reaching
from atlas.clock import to_micros
from atlas.errors import FeatureMismatch
from atlas.online.wire import (
    DOUBLE_BYTES,
    DOUBLE_TAG,
    entity_key,
    event_field,
    event_micros,
    feature_field,
    key_prefix,
)
from atlas.serving import ReadPlan

__all__ = ["OnlineReader", "Status", "Vectors"]

# Stand-ins of a double's size, so that a whole reply is decoded at once.
_NULL = bytes(DOUBLE_BYTES)
_MISSING = b"\x01" + bytes(DOUBLE_BYTES - 1)
_CELL = np.dtype([("tag", "u1"), ("value", "<f8")])


class Status(IntEnum):
    """What is known of one value."""

    PRESENT = 0
    NULL = 1
    """Written, and not a number: the feature was not warm."""
    STALE = 2
    """Written, but its row is older than the view allows."""
    MISSING = 3
    """Never written for this key."""


@dataclass(frozen=True, slots=True)
class Vectors:
    """Feature vectors of several keys, in the plan's order of features."""

    values: npt.NDArray[np.float64]
    """(n_keys, n_features); NaN where the status is not PRESENT."""
    status: npt.NDArray[np.uint8]
    """(n_keys, n_features); values of `Status`."""
    event_ts: npt.NDArray[np.int64]
    """(n_keys,); microseconds since 1970 of each row's event, 0 when there is no row."""


class OnlineReader:
    """Reads the rows of one view that a plan describes."""

    def __init__(self, redis: Redis, plan: ReadPlan) -> None:
        # redis-py's types know only text keys; Feast's are bytes.
        self._redis: Any = redis
        self._plan = plan
        self._prefix = key_prefix([plan.join_key])
        self._fields = [
            *(feature_field(plan.view, feature) for feature in plan.features),
            event_field(plan.view),
        ]
        self._keys: dict[str, bytes] = {}

    async def read(self, keys: Sequence[str], *, now: datetime) -> Vectors:
        """Return the newest rows of those keys, in their order, in one round trip.

        A row is fresh while `now - event <= ttl`, the end included. A row whose event lies after
        `now` is present: it was written because it was known, so the clock is behind, not it.

        Raises
        ------
        FeatureMismatch
            If Redis holds a feature as something else than a double.
        StoreUnavailable
            If Redis does not answer.
        """
        with reaching(self._redis):
            replies = await self._replies(keys)
        return self._vectors(replies, to_micros(now))

    async def _replies(self, keys: Sequence[str]) -> list[list[bytes | None]]:
        if len(keys) == 1:
            return [await self._redis.hmget(self._key(keys[0]), self._fields)]
        pipe = self._redis.pipeline(transaction=False)
        for key in keys:
            pipe.hmget(self._key(key), self._fields)
        replies: list[list[bytes | None]] = await pipe.execute()
        return replies

    def _vectors(self, replies: list[list[bytes | None]], now_us: int) -> Vectors:
        n, width = len(replies), len(self._plan.features)
        event_ts = np.zeros(n, dtype=np.int64)
        stale = np.zeros(n, dtype=np.bool_)
        cells: list[bytes] = []
        for row, reply in enumerate(replies):
            event = reply.pop()
            if event is None:
                # Values without an event time are no row: of a view deleted while being written.
                cells += [_MISSING] * width
                continue
            micros = event_micros(event)
            event_ts[row] = micros
            stale[row] = 0 < self._plan.ttl_us < now_us - micros
            cells += [_MISSING if cell is None else cell or _NULL for cell in reply]
        data = b"".join(cells)
        if len(data) != n * width * DOUBLE_BYTES:
            raise self._mismatch(cells)
        table = np.frombuffer(data, dtype=_CELL).reshape(n, width)
        tags = table["tag"]
        values = table["value"].astype(np.float64)
        present = tags == DOUBLE_TAG
        if not (present | (tags <= 1)).all():
            raise self._mismatch(cells)
        # The stand-ins' tags are 0 and 1; a NaN that another client wrote is no number either.
        status = np.where(
            tags == 1,
            np.uint8(Status.MISSING),
            np.where(
                stale[:, None],
                np.uint8(Status.STALE),
                np.where(
                    present & ~np.isnan(values), np.uint8(Status.PRESENT), np.uint8(Status.NULL)
                ),
            ),
        )
        values[status != Status.PRESENT] = np.nan
        return Vectors(values, status, event_ts)

    def _mismatch(self, cells: list[bytes]) -> FeatureMismatch:
        for position, cell in enumerate(cells):
            if len(cell) != DOUBLE_BYTES or cell[0] not in (DOUBLE_TAG, 0, 1):
                feature = self._plan.features[position % len(self._plan.features)]
                return FeatureMismatch(
                    f"Expected feature {feature} of view {self._plan.view} to be a double in "
                    f"Redis; found {cell[:16].hex()}. Declare it Float64 and materialise again."
                )
        raise AssertionError("every cell is a double")

    def _key(self, symbol: str) -> bytes:
        key = self._keys.get(symbol)
        if key is None:
            key = self._keys[symbol] = entity_key(self._prefix, symbol, self._plan.project)
        return key
