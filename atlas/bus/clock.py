"""The project's clock as Redis keeps it: the wall, or where a replayed market stands.

The hash `atlas:clock` needs no store to be rebuilt from: without it the wall rules, and a feed that
replays writes it anew when it starts.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from redis import Redis
from redis.asyncio import Redis as AsyncRedis

from atlas.bus.connection import reaching
from atlas.clock import ReplayState, from_micros, wall_micros

__all__ = ["CLOCK_KEY", "AsyncRedisClock", "RedisClock", "read_replay", "set_replay", "set_wall"]

CLOCK_KEY = "atlas:clock"


class RedisClock:
    """Tells the project's time by asking Redis each time; a `Clock`."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    def now(self) -> datetime:
        """Return the present moment, in UTC.

        Raises
        ------
        StoreUnavailable
            If Redis does not answer: a guess could make a stale row look fresh.
        """
        return _moment(read_replay(self._redis))


class AsyncRedisClock:
    """Tells the project's time to the event loop."""

    def __init__(self, redis: AsyncRedis) -> None:
        self._redis = redis

    async def now(self) -> datetime:
        """Return the present moment, in UTC; otherwise as `RedisClock.now`."""
        with reaching(self._redis):
            fields: Any = self._redis.hgetall(CLOCK_KEY)
            return _moment(_replay(await fields))


def read_replay(redis: Redis) -> ReplayState | None:
    """Return where the replayed market stands, or None when the wall rules."""
    with reaching(redis):
        fields: Any = redis.hgetall(CLOCK_KEY)
    return _replay(fields)


def set_replay(redis: Redis, state: ReplayState) -> None:
    """Let the project's time follow a replayed market from now on."""
    with reaching(redis):
        redis.hset(
            CLOCK_KEY,
            mapping={
                "mode": "replay",
                "market_us": state.market_us,
                "wall_us": state.wall_us,
                "speed": repr(state.speed),
                "ceiling_us": state.ceiling_us,
            },
        )


def set_wall(redis: Redis) -> None:
    """Let the project's time be the wall's from now on."""
    with reaching(redis):
        # One command, so that no reader sees a clock between the two.
        redis.hset(CLOCK_KEY, "mode", "wall")


def _moment(replay: ReplayState | None) -> datetime:
    wall = wall_micros()
    return from_micros(wall if replay is None else replay.at(wall))


def _replay(fields: Mapping[bytes, bytes]) -> ReplayState | None:
    if fields.get(b"mode") != b"replay":
        return None
    return ReplayState(
        market_us=int(fields[b"market_us"]),
        wall_us=int(fields[b"wall_us"]),
        speed=float(fields[b"speed"]),
        ceiling_us=int(fields[b"ceiling_us"]),
    )
