"""Which of a view's partitions a worker serves: workers share them evenly, by leases in Redis.

The rows of one symbol must be predicted in order, so one worker at a time reads a partition. A
lease is renewed while its holder works and ends by itself when the holder dies; who holds more than
its share lets go between two batches, when it has nothing of them in hand. It can all be rebuilt
from nothing.
"""

from __future__ import annotations

import time

from redis.asyncio import Redis as AsyncRedis

from atlas.bus import Script
from atlas.serving import N_PARTITIONS

__all__ = ["Partitions"]

# KEYS: the readers, then a lease for each partition. ARGV: the worker, milliseconds to live.
_SHARE = Script("""
local now = redis.call('TIME')
local ms = now[1] * 1000 + math.floor(now[2] / 1000)
local worker, ttl = ARGV[1], tonumber(ARGV[2])
redis.call('ZADD', KEYS[1], ms, worker)
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', ms - ttl)
local share = math.ceil((#KEYS - 1) / redis.call('ZCARD', KEYS[1]))
local held, free = {}, {}
for i = 2, #KEYS do
    local holder = redis.call('GET', KEYS[i])
    if not holder then
        free[#free + 1] = i
    elseif holder == worker then
        if #held < share then held[#held + 1] = i else redis.call('DEL', KEYS[i]) end
    end
end
for _, i in ipairs(free) do
    if #held < share then held[#held + 1] = i end
end
for n, i in ipairs(held) do
    redis.call('SET', KEYS[i], worker, 'PX', ttl)
    held[n] = i - 2
end
return held
""")

# All or none: a batch that has lost one of its partitions is served by nobody but the new holders.
_KEEP = Script("""
for i = 1, #KEYS do
    local holder = redis.call('GET', KEYS[i])
    if holder and holder ~= ARGV[1] then return 0 end
end
for i = 1, #KEYS do redis.call('SET', KEYS[i], ARGV[1], 'PX', ARGV[2]) end
return 1
""")

_RELEASE = Script("""
redis.call('ZREM', KEYS[1], ARGV[1])
for i = 2, #KEYS do
    if redis.call('GET', KEYS[i]) == ARGV[1] then redis.call('DEL', KEYS[i]) end
end
return 1
""")


class Partitions:
    """One worker's claim to its share of a view's partitions."""

    def __init__(self, redis: AsyncRedis, view: str, worker: str, *, ttl_s: float = 3.0) -> None:
        self._redis = redis
        self._keys = (
            f"atlas:readers:{view}",
            *(f"atlas:lease:view:{view}:{number}" for number in range(N_PARTITIONS)),
        )
        self._worker = worker
        self._ttl_s = ttl_s
        self._arguments = (worker, int(ttl_s * 1_000))
        self._until = 0.0
        self._held: frozenset[int] = frozenset()

    @property
    def held(self) -> frozenset[int]:
        """The partitions that are still ours, for a third of the lease at least."""
        safe = time.monotonic() < self._until - self._ttl_s / 3
        return self._held if safe else frozenset()

    async def share(self) -> frozenset[int]:
        """Take, renew and let go; return the partitions to serve now.

        To be called with nothing in hand. Leases with half their time left are not renewed yet,
        which spares a round trip a batch.

        Raises
        ------
        StoreUnavailable
            If Redis does not answer.
        """
        # From before the request: Redis counts from a later moment, so we stop before it does.
        asked = time.monotonic()
        if asked < self._until - self._ttl_s / 2 and self._held:
            return self._held
        held = await _SHARE.run_async(self._redis, self._keys, self._arguments)
        self._held = frozenset(map(int, held))
        self._until = asked + self._ttl_s
        return self._held

    async def keep(self, partitions: frozenset[int]) -> bool:
        """Tell whether these are still ours, with a batch of theirs in hand.

        A slow batch may have outlasted its leases; it goes on only if nobody took over.

        Raises
        ------
        StoreUnavailable
            If Redis does not answer.
        """
        if partitions <= self.held:
            return True
        keys = [self._keys[1 + number] for number in sorted(partitions)]
        return bool(await _KEEP.run_async(self._redis, keys, self._arguments))

    async def release(self) -> None:
        """Give all up, so that the other workers need not wait for the leases to end."""
        self._held, self._until = frozenset(), 0.0
        await _RELEASE.run_async(self._redis, self._keys, (self._worker,))
