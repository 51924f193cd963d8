"""Which feature rows were told of: by the live path, and by whoever looks for rows it did not tell.

A hash a view, symbol to the event time told last. It can be rebuilt from nothing: without it a row
is told of once more, and the bus refuses the repeat of what was said of it.
"""

from __future__ import annotations

from collections.abc import Mapping

from redis import Redis
from redis.asyncio import Redis as AsyncRedis

from atlas.bus.connection import reaching
from atlas.bus.script import Argument, Script
from atlas.serving import rows_stream

__all__ = ["ROWS_LENGTH", "forget_told", "tell_newer_async", "told_key"]

ROWS_LENGTH = 4_000
"""Entries of a stream of rows; what a worker that was away for longer has missed is counted."""

# KEYS: the events told last, then each row's stream. ARGV: the streams' length, then for each row
# its symbol and event.
_TELL = Script("""
local told = 0
for i = 2, #KEYS do
    local symbol, event_us = ARGV[2 * i - 2], ARGV[2 * i - 1]
    local known = redis.call('HGET', KEYS[1], symbol)
    if not known or tonumber(event_us) > tonumber(known) then
        redis.call('HSET', KEYS[1], symbol, event_us)
        redis.call('XADD', KEYS[i], 'MAXLEN', '~', ARGV[1], '*',
            'symbol', symbol, 'event_us', event_us)
        told = told + 1
    end
end
return told
""")


def told_key(view: str) -> str:
    """Return the hash of what was told of a view; whoever tells of a row writes its event there."""
    return f"atlas:told:{view}"


async def tell_newer_async(redis: AsyncRedis, view: str, events_us: Mapping[str, int]) -> int:
    """Tell of each symbol's row that is newer than what was told of; return how many are.

    Raises
    ------
    StoreUnavailable
        If Redis does not answer.
    """
    if not events_us:
        return 0
    arguments: list[Argument] = [ROWS_LENGTH]
    for symbol, event_us in events_us.items():
        arguments += (symbol, event_us)
    keys = [told_key(view), *(rows_stream(view, symbol) for symbol in events_us)]
    return int(await _TELL.run_async(redis, keys, arguments))


def forget_told(redis: Redis, view: str) -> None:
    """Let rows be told of again: for a replay that is wound back."""
    with reaching(redis):
        redis.delete(told_key(view))
