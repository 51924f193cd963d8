"""The project's clock in Redis, and what a Redis that is away means to everyone."""

import asyncio
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis import Redis

import atlas.bus
from atlas.bus import (
    AsyncRedisClock,
    RedisClock,
    connect,
    connect_async,
    grant,
    is_permitted,
    latest_signals,
    publish,
    publish_async,
    read_acks,
    read_replay,
    read_route,
    revoke,
    set_replay,
    set_wall,
    write_route,
)
from atlas.clock import ReplayState, from_micros, to_micros
from atlas.errors import StoreUnavailable
from atlas.serving import Route, Signal, Stage

SIGNAL = Signal("m", 1, Stage.LIVE, "BTC_USDT", 1, 0.5, 0, True, "h", 1)


def wall_us() -> int:
    return time.time_ns() // 1_000


def test_without_a_replay_the_clock_shows_the_wall(redis: Redis) -> None:
    before = datetime.now(UTC)
    shown = RedisClock(redis).now()
    assert before <= shown <= datetime.now(UTC)


def test_a_replay_runs_at_its_speed(redis: Redis) -> None:
    market = to_micros(datetime(2021, 4, 30, tzinfo=UTC))
    started = wall_us() - 2_000_000
    set_replay(redis, ReplayState(market, started, 60.0, market + 3_600_000_000))
    shown = to_micros(RedisClock(redis).now())
    elapsed = (shown - market) / 60
    assert 2_000_000 <= elapsed <= wall_us() - started


def test_a_replay_never_runs_past_its_ceiling(redis: Redis) -> None:
    market = to_micros(datetime(2021, 4, 30, tzinfo=UTC))
    set_replay(redis, ReplayState(market, wall_us() - 10**9, 60.0, market + 5))
    assert RedisClock(redis).now() == from_micros(market + 5)


def test_the_event_loop_reads_the_same_clock(redis: Redis, redis_port: int) -> None:
    set_replay(redis, ReplayState(10**15, 0, 1.0, 10**15 + 7))

    async def read() -> datetime:
        client = connect_async(port=redis_port)
        try:
            return await AsyncRedisClock(client).now()
        finally:
            await client.aclose()

    assert asyncio.run(read()) == RedisClock(redis).now() == from_micros(10**15 + 7)


def test_a_replay_that_ended_gives_way_to_the_wall(redis: Redis) -> None:
    set_replay(redis, ReplayState(10**15, wall_us(), 60.0, 10**15))
    set_wall(redis)
    assert read_replay(redis) is None
    assert datetime.now(UTC) - RedisClock(redis).now() < timedelta(seconds=5)


@settings(
    max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    state=st.builds(
        ReplayState,
        market_us=st.integers(0, 2**53),
        wall_us=st.integers(0, 2**53),
        speed=st.floats(1e-3, 1e6),
        ceiling_us=st.integers(0, 2**53),
    )
)
def test_a_replay_is_read_exactly_as_it_was_set(redis: Redis, state: ReplayState) -> None:
    set_replay(redis, state)
    assert read_replay(redis) == state


COMMANDS: dict[str, Callable[[Redis], object]] = {
    "clock": lambda redis: RedisClock(redis).now(),
    "grant": lambda redis: grant(redis, "ada"),
    "revoke": lambda redis: revoke(redis, "ada"),
    "is_permitted": is_permitted,
    "publish": lambda redis: publish(redis, [SIGNAL]),
    "latest_signals": lambda redis: latest_signals(redis, Stage.LIVE, 1),
    "write_route": lambda redis: write_route(redis, Route("m", 1)),
    "read_route": lambda redis: read_route(redis, "m"),
    "read_acks": lambda redis: read_acks(redis, "m"),
}


@pytest.mark.parametrize("name", COMMANDS)
def test_a_redis_that_is_away_is_one_clear_error(name: str, free_redis_port: int) -> None:
    with connect(port=free_redis_port, asks=False) as redis:
        began = time.monotonic()
        with pytest.raises(StoreUnavailable, match=f"127.0.0.1:{free_redis_port}.*make up"):
            COMMANDS[name](redis)
    assert time.monotonic() - began < 3


def test_the_event_loop_meets_the_same_error(free_redis_port: int) -> None:
    async def speak() -> None:
        client = connect_async(port=free_redis_port)
        try:
            await publish_async(client, [SIGNAL])
        finally:
            await client.aclose()

    with pytest.raises(StoreUnavailable, match="ATLAS_REDIS_PORT"):
        asyncio.run(speak())


def test_connecting_to_nothing_says_so_at_once(free_redis_port: int) -> None:
    with pytest.raises(StoreUnavailable, match=str(free_redis_port)):
        connect(port=free_redis_port)


def test_a_redis_out_of_memory_counts_as_unavailable(redis: Redis) -> None:
    grant(redis, "ada")
    limits: Any = redis.config_get("maxmemory*")
    redis.config_set("maxmemory-policy", "noeviction")
    redis.config_set("maxmemory", 1)
    try:
        with pytest.raises(StoreUnavailable, match="OOM"):
            publish(redis, [SIGNAL])
        revoke(redis, "ada", sequence=1)
    finally:
        redis.config_set("maxmemory", limits["maxmemory"])
        redis.config_set("maxmemory-policy", limits["maxmemory-policy"])
    assert not is_permitted(redis)


def test_the_bus_brings_nothing_heavy_along() -> None:
    heavy = "{'feast', 'pandas', 'prefect', 'mlflow', 'sklearn', 'torch', 'polars', 'numpy'}"
    code = f"import sys, atlas.bus; print(sorted({heavy} & set(sys.modules)))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_the_face_of_the_bus_is_what_it_promises() -> None:
    assert atlas.bus.__all__ == sorted(atlas.bus.__all__, key=_natural)
    assert all(hasattr(atlas.bus, name) for name in atlas.bus.__all__)


def _natural(name: str) -> tuple[int, str]:
    # Constants, then classes, then functions: ruff's order.
    return (0 if name.isupper() else 1 if name[0].isupper() else 2, name)
