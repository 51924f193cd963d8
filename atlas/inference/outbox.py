"""How predictions reach ClickHouse though it may be away: through a stream in Redis.

The record of a prediction and the acknowledgement of its row are one step in Redis, so a worker
that is killed leaves each row with both or with neither. The records leave in blocks whose end is
sealed in Redis before they are sent: a block sent twice has the same content and the same token,
and ClickHouse takes it once. What is in the outbox can be rebuilt from nowhere, so it is bounded by
refusing to go on, never by dropping: a desk that cannot record its signals gives none.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from redis.asyncio import Redis as AsyncRedis

from atlas.bus import Script, reaching
from atlas.clock import from_micros
from atlas.inference.row_feed import GROUP
from atlas.serving import Signal

__all__ = ["Block", "Finished", "Outbox", "Prediction"]

_STREAM = "atlas:outbox:predictions"
_SEAL = "atlas:outbox:predictions:sealed"
_BLOCK_ROWS = 2_000
_LIMIT = 500_000
"""About 200 MB of Redis; a day and a half of 100 symbols' minute bars under three models."""

# KEYS: the outbox, then the rows' streams. ARGV: the group, then for each stream how many records
# and entries, and those. Rows that are finished already have their records: of a worker that was
# paused and taken for dead.
_RECORD = Script("""
local at = 2
for stream = 2, #KEYS do
    local n_records, n_entries = tonumber(ARGV[at]), tonumber(ARGV[at + 1])
    local records, entries = at + 2, at + 2 + n_records
    at = entries + n_entries
    local finished = redis.call('XACK', KEYS[stream], ARGV[1], unpack(ARGV, entries, at - 1))
    if finished > 0 then
        for i = records, entries - 1 do redis.call('XADD', KEYS[1], '*', 'row', ARGV[i]) end
    end
end
return redis.call('XLEN', KEYS[1])
""")

# Only the worker that sealed a block, or found it sealed, ends it.
_DELIVERED = Script("""
if redis.call('GET', KEYS[2]) == ARGV[1] then
    redis.call('DEL', KEYS[2])
    for i = 2, #ARGV do redis.call('XDEL', KEYS[1], ARGV[i]) end
end
return redis.call('XLEN', KEYS[1])
""")


@dataclass(frozen=True, slots=True)
class Prediction:
    """A signal as it is kept: what was said, whether it left, and how quickly."""

    signal: Signal
    published: bool
    latency_us: int

    def to_json(self) -> bytes:
        """Return the row of the table `predictions` as a JSON object."""
        signal = self.signal
        return orjson.dumps(
            {
                "model": signal.model,
                "version": signal.version,
                "stage": signal.stage,
                "generation": signal.generation,
                "symbol": signal.symbol,
                "event_timestamp": f"{from_micros(signal.event_us):%Y-%m-%d %H:%M:%S.%f}",
                "score": signal.score,
                "side": signal.side,
                "decides": signal.decides,
                "feature_hash": signal.feature_hash,
                "published": self.published,
                "latency_us": self.latency_us,
            }
        )


@dataclass(frozen=True, slots=True)
class Block:
    """Records that leave together."""

    ids: tuple[bytes, ...]
    rows: tuple[bytes, ...]

    @property
    def token(self) -> str:
        """The same for the same records, so that ClickHouse takes them once."""
        digest = hashlib.sha256()
        for id, row in zip(self.ids, self.rows, strict=True):
            digest.update(id + b"\0" + row + b"\n")
        return digest.hexdigest()


@dataclass(frozen=True, slots=True)
class Finished:
    """Rows of one stream that are done, and what was predicted of them."""

    stream: str
    entries: tuple[bytes, ...]
    """At least one id."""
    predictions: tuple[Prediction, ...]


class Outbox:
    """The records that ClickHouse does not have yet."""

    def __init__(self, redis: AsyncRedis, *, limit: int = _LIMIT) -> None:
        self.depth = 0
        """Records in it, as of the last time Redis was asked."""
        self._redis = redis
        self._limit = limit

    @property
    def full(self) -> bool:
        """Whether no row may be served before records have left."""
        return self.depth >= self._limit

    async def record(self, finished: Sequence[Finished]) -> None:
        """Keep the predictions and acknowledge the rows that they were made of, in one step.

        Nothing is kept of rows that another worker has finished meanwhile.

        Raises
        ------
        StoreUnavailable
            If Redis does not answer; the rows then come again.
        """
        keys, arguments = [_STREAM], list[str | bytes | int]((GROUP,))
        for one in finished:
            records = [prediction.to_json() for prediction in one.predictions]
            keys.append(one.stream)
            arguments += (len(records), len(one.entries), *records, *one.entries)
        self.depth = int(await _RECORD.run_async(self._redis, keys, arguments))

    async def measure(self) -> int:
        """Ask Redis how many records there are."""
        with reaching(self._redis):
            self.depth = await self._redis.xlen(_STREAM)
        return self.depth

    async def seal(self) -> Block | None:
        """Return the block that leaves next, or None when the outbox is empty.

        A block that was sealed and perhaps sent, by whomever, is returned unchanged until it is
        delivered.
        """
        with reaching(self._redis):
            sealed: Any = await self._redis.get(_SEAL)
            if sealed is None:
                oldest: Any = await self._redis.xrange(_STREAM, count=_BLOCK_ROWS)
                if not oldest:
                    return None
                # NX: another worker may have sealed meanwhile.
                await self._redis.set(_SEAL, oldest[-1][0], nx=True)
                sealed = await self._redis.get(_SEAL)
                if sealed is None:  # sealed and delivered by another worker in between
                    return None
            entries: Any = await self._redis.xrange(_STREAM, max=sealed)
        if not entries:
            # A seal without a block, which only a hand in Redis can leave, would stop all others.
            await _DELIVERED.run_async(self._redis, (_STREAM, _SEAL), (sealed,))
            return None
        ids = tuple(id for id, _ in entries)
        return Block(ids, tuple(fields[b"row"] for _, fields in entries))

    async def delivered(self, block: Block) -> None:
        """Drop a block that ClickHouse has taken."""
        arguments = (block.ids[-1], *block.ids)
        self.depth = int(await _DELIVERED.run_async(self._redis, (_STREAM, _SEAL), arguments))
