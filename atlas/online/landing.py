"""How a row lands in Redis: compared there with the row that is there, so no writers can race."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, cast

from redis import Redis
from redis.asyncio import Redis as AsyncRedis

from atlas.bus import Script
from atlas.online.wire import event_field, feature_field, known_bytes, known_field, timestamp_bytes

__all__ = ["LANDING", "Landing", "Row", "Rule", "packed_text"]

# One script call holds Redis for so many rows at most: some ten milliseconds.
_ROWS_PER_CALL = 1_000

# KEYS: one for each row. ARGV: the event field, the known field, seconds to live (0: for ever), the
# rule, and for each row what HSET takes, in MessagePack: event field, event, known field, known,
# and each feature's field and value. For a key without a row nothing else need be looked into.
_LAND = """
local call, unpack_row, unpack_some = redis.call, cmsgpack.unpack, cmsgpack.unpack_limit
local keys, argv, unpack = KEYS, ARGV, unpack
local event_field, known_field, ttl = argv[1], argv[2], tonumber(argv[3])
local overwrite, restate = argv[4] == '1', argv[4] == '2'

local function moment(data)
  local seconds, nanos, at, size = 0, 0, 1, #data
  while at <= size do
    -- 28 low bits and 36 high ones apart: a double does not hold all 64 of a number below 0.
    local tag, low, high, scale, byte = string.byte(data, at), 0, 0, 1, nil
    repeat
      at = at + 1
      byte = string.byte(data, at)
      if scale < 268435456 then
        low = low + (byte % 128) * scale
      else
        high = high + (byte % 128) * (scale / 268435456)
      end
      scale = scale * 128
    until byte < 128
    at = at + 1
    -- The tenth byte has one bit of the 64.
    if high >= 34359738368 then high = high - 68719476736 end
    local value = high * 268435456 + low
    if tag == 8 then seconds = value else nanos = value end
  end
  return seconds, nanos
end

local function differs(key, packed)
  local row = {unpack_row(packed)}
  local ask = {'HMGET', key}
  for at = 5, #row, 2 do ask[#ask + 1] = row[at] end
  local old = call(unpack(ask))
  for at = 1, #old do
    if old[at] ~= row[4 + 2 * at] then return true end
  end
  return false
end

local function lands(key, old, packed)
  local _, _, event, _, known = unpack_some(packed, 4)
  if old[1] ~= event then
    local s, n = moment(event)
    local os, on = moment(old[1])
    if s ~= os then return s > os end
    if n ~= on then return n > on end
  end
  -- Another client of Feast does not say when what it wrote was known.
  if not old[2] then return true end
  if old[2] ~= known then return struct.unpack('<i8', known) > struct.unpack('<i8', old[2]) end
  return restate and differs(key, packed)
end

local landed = 0
for at = 1, #keys do
  local key, packed = keys[at], argv[4 + at]
  local newer = overwrite
  if not newer then
    local old = call('HMGET', key, event_field, known_field)
    newer = not old[1] or lands(key, old, packed)
  end
  if newer then
    call('HSET', key, unpack_row(packed))
    if ttl > 0 then call('EXPIRE', key, ttl) end
    landed = landed + 1
  end
end
return landed
"""

LANDING = Script(_LAND)
"""The script, for who sends many calls at once; `Landing.head` is how its arguments begin."""


class Rule(IntEnum):
    """Which rows land on a row that is there."""

    LATER = 0
    """The later by (event, known)."""
    ANY = 1
    """Whatever comes."""
    RESTATED = 2
    """The later; and one of the same (event, known) whose values are others."""


@dataclass(frozen=True, slots=True)
class Row:
    """One entity's row: serialised values in the order of the landing's features."""

    key: bytes
    event_us: int
    known_us: int
    values: Sequence[bytes]


class Landing:
    """Writes rows of one view; of two rows of a key the later by (event, known) stays."""

    def __init__(
        self,
        view: str,
        features: Sequence[str],
        *,
        seconds_to_live: int | None = None,
        overwrite: bool = False,
        restates: bool = False,
    ) -> None:
        rule = Rule.ANY if overwrite else Rule.RESTATED if restates else Rule.LATER
        self.head: tuple[bytes | int, ...] = (
            event_field(view),
            known_field(view),
            seconds_to_live or 0,
            int(rule),
        )
        """The script's arguments before the rows."""
        self.fields: tuple[bytes, ...] = (
            event_field(view),
            known_field(view),
            *(feature_field(view, feature) for feature in features),
        )
        """The fields of a row, in the order of its values."""

    def land(self, redis: Redis, rows: Sequence[Row]) -> int:
        """Write rows and return how many were later than what was there.

        Raises
        ------
        StoreUnavailable
            If Redis does not answer.
        """
        return sum(LANDING.run(redis, *call) for call in self._calls(rows))

    async def land_async(self, redis: AsyncRedis, rows: Sequence[Row]) -> int:
        """Write rows on an asyncio client; otherwise as `land`."""
        landed = 0
        for call in self._calls(rows):
            landed += await LANDING.run_async(redis, *call)
        return landed

    def _calls(self, rows: Sequence[Row]) -> list[tuple[Sequence[str], Sequence[Any]]]:
        return [
            (
                cast("Sequence[str]", [row.key for row in chunk]),
                [*self.head, *map(self._packed, chunk)],
            )
            for chunk in (
                rows[start : start + _ROWS_PER_CALL]
                for start in range(0, len(rows), _ROWS_PER_CALL)
            )
        ]

    def _packed(self, row: Row) -> bytes:
        values = (timestamp_bytes(row.event_us), known_bytes(row.known_us), *row.values)
        return b"".join(
            packed_text(part) for pair in zip(self.fields, values, strict=True) for part in pair
        )


def packed_text(text: bytes) -> bytes:
    """Write MessagePack, which Redis unpacks in one call: a text behind its size."""
    size = len(text)
    # str32 rather than bin: the MessagePack of Redis 6.2 knows only the former by heart.
    head = bytes((0xA0 | size,)) if size < 32 else b"\xdb" + struct.pack(">I", size)
    return head + text
