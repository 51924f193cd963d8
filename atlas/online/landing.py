"""How a row lands in Redis: compared there with the row that is there, so no writers can race."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

from redis import Redis
from redis.asyncio import Redis as AsyncRedis

from atlas.bus import Script
from atlas.online.wire import event_field, feature_field, known_bytes, known_field, timestamp_bytes

__all__ = ["Landing", "Row"]

# One script call holds Redis for so many rows at most: some ten milliseconds.
_ROWS_PER_CALL = 1_000

# KEYS: one for each row. ARGV: the event field, the known field, the feature fields joined, seconds
# to live (0: for ever), whether to overwrite anything, and for each row a MessagePack array: event
# bytes, known bytes, values.
_LAND = """
local unpack_row = cmsgpack.unpack

local function moment(data)
  local seconds, nanos, at, size = 0, 0, 1, #data
  while at <= size do
    local tag, value, scale, byte = string.byte(data, at), 0, 1, nil
    repeat
      at = at + 1
      byte = string.byte(data, at)
      value = value + (byte % 128) * scale
      scale = scale * 128
    until byte < 128
    at = at + 1
    if tag == 8 then
      if value >= 9223372036854775808 then value = value - 18446744073709551616 end
      seconds = value
    else
      nanos = value
    end
  end
  return seconds, nanos
end

local event_field, known_field, joined = ARGV[1], ARGV[2], ARGV[3]
local ttl, overwrite = tonumber(ARGV[4]), ARGV[5] == '1'
local fields = {}
for at = 1, #joined, 4 do fields[#fields + 1] = string.sub(joined, at, at + 3) end
local n_fields, landed = #fields, 0

for i, key in ipairs(KEYS) do
  local row = unpack_row(ARGV[5 + i])
  local event, known = row[1], row[2]
  local newer = overwrite
  if not newer then
    local old = redis.call('HMGET', key, event_field, known_field)
    if not old[1] then
      newer = true
    else
      local s, n = moment(event)
      local os, on = moment(old[1])
      if s ~= os then
        newer = s > os
      elseif n ~= on then
        newer = n > on
      elseif old[2] then
        newer = struct.unpack('<i8', known) > struct.unpack('<i8', old[2])
      else
        -- Written by another client of Feast, which does not say when it was known.
        newer = true
      end
    end
  end
  if newer then
    local command = {'HSET', key, event_field, event, known_field, known}
    for j = 1, n_fields do
      command[5 + 2 * j] = fields[j]
      command[6 + 2 * j] = row[2 + j]
    end
    redis.call(unpack(command))
    if ttl > 0 then redis.call('EXPIRE', key, ttl) end
    landed = landed + 1
  end
end
return landed
"""

_SCRIPT = Script(_LAND)


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
    ) -> None:
        self._head: tuple[bytes | int, ...] = (
            event_field(view),
            known_field(view),
            b"".join(feature_field(view, feature) for feature in features),
            seconds_to_live or 0,
            int(overwrite),
        )

    def land(self, redis: Redis, rows: Sequence[Row]) -> int:
        """Write rows and return how many were later than what was there.

        Raises
        ------
        StoreUnavailable
            If Redis does not answer.
        """
        return sum(_SCRIPT.run(redis, *call) for call in self._calls(rows))

    async def land_async(self, redis: AsyncRedis, rows: Sequence[Row]) -> int:
        """Write rows on an asyncio client; otherwise as `land`."""
        landed = 0
        for call in self._calls(rows):
            landed += await _SCRIPT.run_async(redis, *call)
        return landed

    def _calls(self, rows: Sequence[Row]) -> list[tuple[Sequence[str], Sequence[Any]]]:
        return [
            (
                cast("Sequence[str]", [row.key for row in chunk]),
                [*self._head, *map(_packed, chunk)],
            )
            for chunk in (
                rows[start : start + _ROWS_PER_CALL]
                for start in range(0, len(rows), _ROWS_PER_CALL)
            )
        ]


def _packed(row: Row) -> bytes:
    """Write MessagePack, which Redis unpacks in one call: an array of byte strings."""
    parts = [timestamp_bytes(row.event_us), known_bytes(row.known_us), *row.values]
    packed = bytearray(b"\xdc" + struct.pack(">H", len(parts)))
    for part in parts:
        size = len(part)
        # str32 rather than bin: the MessagePack of Redis 6.2 knows only the former by heart.
        packed += bytes((0xA0 | size,)) if size < 32 else b"\xdb" + struct.pack(">I", size)
        packed += part
    return bytes(packed)
