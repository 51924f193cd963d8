"""What each worker says it serves: its acknowledgement of a route, and its heartbeat.

A worker renews its entry at every look at the routes. Redis stamps it, so that the clocks of
several machines need not agree. The entries need no store: workers write them anew.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import timedelta
from typing import Any

from redis import Redis
from redis.asyncio import Redis as AsyncRedis

from atlas.bus.connection import reaching
from atlas.bus.script import Script

__all__ = ["Ack", "Served", "acknowledge", "read_acks", "withdraw_ack"]


@dataclass(frozen=True, slots=True)
class Served:
    """How one model version fares in one worker since it was loaded there."""

    rows: int = 0
    """Predictions made."""
    errors: int = 0
    """Predictions that raised."""
    latency_p99_us: float = 0.0
    """From reading the notification of a row to the reply of the publication."""


@dataclass(frozen=True, slots=True)
class Ack:
    """What one worker serves of one model."""

    worker: str
    generation: int
    """Of the newest route that the worker has acted upon, whether it took or refused it."""
    versions: Mapping[str, int]
    """Stage to the version that is loaded and serves."""
    error: str | None = None
    """Why a version of this generation was refused, in one sentence; the former one serves on."""
    served: Mapping[int, Served] = field(default_factory=dict)
    """Version to how it fares."""
    age: timedelta = timedelta(0)
    """Since the worker last renewed it, as Redis saw it; set on reading."""


# Entries of workers that died are dropped after an hour, so that the hash stays small.
_ACKNOWLEDGE = Script("""
local now = redis.call('TIME')
local stamp = now[1] .. string.format('%06d', now[2])
redis.call('HSET', KEYS[1], ARGV[1], stamp .. ' ' .. ARGV[2])
local entries = redis.call('HGETALL', KEYS[1])
for i = 1, #entries, 2 do
    local at = tonumber(string.match(entries[i + 1], '^%d+') or '0')
    if tonumber(stamp) - at > 3600000000 then redis.call('HDEL', KEYS[1], entries[i]) end
end
return 1
""")


async def acknowledge(redis: AsyncRedis, model: str, ack: Ack) -> None:
    """Say what this worker serves of a model; call it after each swap and at each heartbeat."""
    said = {
        "generation": ack.generation,
        "versions": dict(ack.versions),
        "error": ack.error,
        "served": {str(version): asdict(served) for version, served in ack.served.items()},
    }
    await _ACKNOWLEDGE.run_async(redis, (_key(model),), (ack.worker, json.dumps(said)))


async def withdraw_ack(redis: AsyncRedis, model: str, worker: str) -> None:
    """Say that this worker serves the model no longer."""
    with reaching(redis):
        reply: Any = redis.hdel(_key(model), worker)
        await reply


def read_acks(
    redis: Redis, model: str, *, max_age: timedelta = timedelta(seconds=10)
) -> dict[str, Ack]:
    """Return what each worker that is alive serves of a model, by worker.

    Parameters
    ----------
    max_age : timedelta
        A worker that has not renewed its entry for longer is taken for dead.
    """
    with reaching(redis):
        now: Any = redis.time()
        entries: Any = redis.hgetall(_key(model))
    now_us = now[0] * 1_000_000 + now[1]
    acks = (_decode(worker.decode(), entry, now_us) for worker, entry in entries.items())
    return {ack.worker: ack for ack in acks if ack.age <= max_age}


def _decode(worker: str, entry: bytes, now_us: int) -> Ack:
    stamp, text = entry.split(b" ", 1)
    said: dict[str, Any] = json.loads(text)
    return Ack(
        worker=worker,
        generation=said["generation"],
        versions=said["versions"],
        error=said["error"],
        served={int(version): Served(**served) for version, served in said["served"].items()},
        age=timedelta(microseconds=now_us - int(stamp)),
    )


def _key(model: str) -> str:
    return f"atlas:acks:{model}"
