"""The permit to trade: one key in Redis, whose absence means halted.

It can be rebuilt from the log of halts and releases in SQL, which is the truth; each of that log's
entries has a sequence number. `atlas:halts` remembers the newest halt that reached Redis, so that
an older release that is slow to arrive cannot undo it.
"""

from __future__ import annotations

import json

from redis import Redis
from redis.asyncio import Redis as AsyncRedis

from atlas.bus.connection import reaching
from atlas.bus.script import Script

__all__ = [
    "PERMIT_KEY",
    "forget_halts_after",
    "grant",
    "is_permitted",
    "is_permitted_async",
    "revoke",
]

PERMIT_KEY = "atlas:permit"
_HALTS_KEY = "atlas:halts"

_GRANT = Script("""
local sequence, by_a_person = ARGV[1], ARGV[2] == '1'
if sequence ~= '' then
    local halted = tonumber(redis.call('HGET', KEYS[2], 'sequence') or '-1')
    if tonumber(sequence) < halted then return 0 end
end
if redis.call('HEXISTS', KEYS[2], 'unrecorded') == 1 and not by_a_person then return 0 end
redis.call('HDEL', KEYS[2], 'unrecorded')
redis.call('SET', KEYS[1], ARGV[3])
return 1
""")

_FORGET = Script("""
if tonumber(redis.call('HGET', KEYS[1], 'sequence') or '-1') <= tonumber(ARGV[1]) then return 0 end
redis.call('HSET', KEYS[1], 'sequence', ARGV[1])
return 1
""")

_REVOKE = Script("""
local sequence = ARGV[1]
local was = redis.call('DEL', KEYS[1])
if sequence == '' then
    redis.call('HSET', KEYS[2], 'unrecorded', ARGV[2])
elseif tonumber(sequence) > tonumber(redis.call('HGET', KEYS[2], 'sequence') or '-1') then
    redis.call('HSET', KEYS[2], 'sequence', sequence)
end
return was
""")


def grant(
    redis: Redis, by: str, *, sequence: int | None = None, lifts_unrecorded: bool = True
) -> bool:
    """Permit live signals; return whether the permit was given.

    Parameters
    ----------
    by : str
        The person who answers for it.
    sequence : int or None
        Number of the release in the log of halts. A halt with a later number that has already
        reached Redis wins, and False is returned. None asks nothing of the log.
    lifts_unrecorded : bool
        Whether this also lifts a halt that the log did not take because SQL was away. Only a
        person's own release does; restoring the permit from the log does not.
    """
    value = json.dumps({"by": by, "sequence": sequence})
    arguments = ("" if sequence is None else sequence, int(lifts_unrecorded), value)
    return bool(_GRANT.run(redis, (PERMIT_KEY, _HALTS_KEY), arguments))


def revoke(redis: Redis, by: str = "", *, sequence: int | None = None) -> bool:
    """Halt: when this returns, no live signal follows. Return whether there was a permit.

    Parameters
    ----------
    sequence : int or None
        Number of the halt in the log of halts. None says that the log did not take it: it then
        holds until a person releases it, whatever the log says.
    """
    arguments = ("" if sequence is None else sequence, by)
    return bool(_REVOKE.run(redis, (PERMIT_KEY, _HALTS_KEY), arguments))


def forget_halts_after(redis: Redis, sequence: int) -> bool:
    """Forget halts that the log of halts does not hold, as it was replaced by a shorter one.

    Parameters
    ----------
    sequence : int
        Number of the log's newest entry. The permit is not touched.
    """
    return bool(_FORGET.run(redis, (_HALTS_KEY,), (sequence,)))


def is_permitted(redis: Redis) -> bool:
    """Tell whether live signals may leave at this moment; to act on it, publish."""
    with reaching(redis):
        return bool(redis.exists(PERMIT_KEY))


async def is_permitted_async(redis: AsyncRedis) -> bool:
    """Tell whether live signals may leave at this moment; to act on it, publish."""
    with reaching(redis):
        return bool(await redis.exists(PERMIT_KEY))
