"""Which of several workers does a piece of work: the one that holds its lease in Redis.

The outbox is emptied in blocks that are sealed one after another, so one worker at a time does it.
A lease is renewed while its holder works and ends by itself when the holder dies; it can be rebuilt
from nothing. How the rows of a view are shared: `atlas.inference.partitions`.
"""

from __future__ import annotations

import time

from redis.asyncio import Redis as AsyncRedis

from atlas.bus import Script

__all__ = ["Lease"]

_HOLD = Script("""
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
""")

_RELEASE = Script("""
if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end
return 0
""")


class Lease:
    """One worker's claim to one piece of work."""

    def __init__(self, redis: AsyncRedis, work: str, worker: str, *, ttl_s: float = 3.0) -> None:
        self._redis = redis
        self._key = f"atlas:lease:{work}"
        self._worker = worker
        self._ttl_s = ttl_s
        self._until = 0.0

    @property
    def held(self) -> bool:
        """Whether the work is still ours: for a third of the lease at least."""
        return time.monotonic() < self._until - self._ttl_s / 3

    async def hold(self) -> bool:
        """Take or renew the lease; False when another worker has it.

        A lease with half its time left is not renewed yet, which spares a round trip a batch.

        Raises
        ------
        StoreUnavailable
            If Redis does not answer.
        """
        # From before the request: Redis counts from a later moment, so we stop before it does.
        asked = time.monotonic()
        if asked < self._until - self._ttl_s / 2:
            return True
        arguments = (self._worker, int(self._ttl_s * 1_000))
        held = bool(await _HOLD.run_async(self._redis, (self._key,), arguments))
        self._until = asked + self._ttl_s if held else 0.0
        return held

    async def release(self) -> None:
        """Give the work up, so that another worker need not wait for the lease to end."""
        self._until = 0.0
        await _RELEASE.run_async(self._redis, (self._key,), (self._worker,))
