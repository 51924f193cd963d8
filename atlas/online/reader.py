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

from atlas.bus import Script
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

# One reply of fixed-size cells rather than an array for each key: Python's asyncio parser takes a
# microsecond or two for each element, which is most of the time of reading many keys.
# KEYS: one for each entity. ARGV: the event field, and the feature fields joined. The reply is the
# cells of all keys, then each key's event time behind its length; 255 says that there is no row.
_READ = Script("""
local event_field, joined = ARGV[1], ARGV[2]
local fields = {}
for at = 1, #joined, 4 do fields[#fields + 1] = string.sub(joined, at, at + 3) end
local n = #fields
fields[n + 1] = event_field
local zeros = string.rep('\\0', 8)
local null, missing, odd = '\\0' .. zeros, '\\1' .. zeros, '\\2' .. zeros
local cells, events = {}, {}
for i, key in ipairs(KEYS) do
  local row = redis.call('HMGET', key, unpack(fields))
  local event = row[n + 1]
  events[i] = event and (string.char(#event) .. event) or '\\255'
  for j = 1, n do
    local cell = event and row[j]
    if not cell then
      cell = missing
    elseif cell == '' then
      cell = null
    elseif #cell ~= 9 then
      cell = odd
    end
    cells[#cells + 1] = cell
  end
end
return table.concat(cells) .. table.concat(events)
""")
_MISSING_TAG = 1
_NULL_TAG = 0
_NO_ROW = 255
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
        self._redis = redis
        self._plan = plan
        self._prefix = key_prefix([plan.join_key])
        self._arguments = (
            event_field(plan.view),
            b"".join(feature_field(plan.view, feature) for feature in plan.features),
        )
        self._keys: dict[str, Any] = {}

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
        reply: bytes = await _READ.run_async(
            self._redis, [self._key(key) for key in keys], self._arguments
        )
        return self._vectors(reply, len(keys), to_micros(now))

    def _vectors(self, reply: bytes, n: int, now_us: int) -> Vectors:
        width = len(self._plan.features)
        n_cells = n * width
        table = np.frombuffer(reply, dtype=_CELL, count=n_cells).reshape(n, width)
        tags = table["tag"]
        values = table["value"].astype(np.float64)
        event_ts = np.zeros(n, dtype=np.int64)
        stale = np.zeros((n, 1), dtype=np.bool_)
        at = n_cells * DOUBLE_BYTES
        for row in range(n):
            size = reply[at]
            if size != _NO_ROW:
                micros = event_micros(reply[at + 1 : at + 1 + size])
                event_ts[row] = micros
                stale[row] = 0 < self._plan.ttl_us < now_us - micros
                at += size
            at += 1
        present = tags == DOUBLE_TAG
        missing = tags == _MISSING_TAG
        if not np.all(present | missing | (tags == _NULL_TAG)):
            raise self._mismatch(tags)
        # A NaN that another client wrote is no number either.
        status = np.where(present & ~np.isnan(values), np.uint8(Status.PRESENT), Status.NULL)
        status[np.broadcast_to(stale, status.shape)] = Status.STALE
        status[missing] = Status.MISSING
        values[status != Status.PRESENT] = np.nan
        return Vectors(values, status.astype(np.uint8), event_ts)

    def _mismatch(self, tags: npt.NDArray[np.uint8]) -> FeatureMismatch:
        expected = (DOUBLE_TAG, _MISSING_TAG, _NULL_TAG)
        names = [
            name
            for name, found in zip(self._plan.features, tags.T.tolist(), strict=True)
            if not set(found).issubset(expected)
        ]
        return FeatureMismatch(
            f"Expected the features of view {self._plan.view} to be doubles in Redis; found "
            f"another type for {', '.join(names)}. Declare them Float64 and materialise again."
        )

    def _key(self, symbol: str) -> Any:
        key = self._keys.get(symbol)
        if key is None:
            key = self._keys[symbol] = entity_key(self._prefix, symbol, self._plan.project)
        return key
