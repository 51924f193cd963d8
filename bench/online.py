"""Reads of the online store, against raw HMGET."""

from __future__ import annotations

import asyncio
import statistics
import time

import numpy as np
from redis import Redis
from redis.asyncio import Redis as AsyncRedis

from atlas.clock import from_micros, wall_micros
from atlas.config import Settings
from atlas.online import OnlineReader, OnlineWriter
from atlas.online.wire import entity_key, feature_field, key_prefix
from atlas.serving import ReadPlan
from bench.measure import Measured

__all__ = ["read_many", "read_one"]

_FEATURES = tuple(f"feature_{i}" for i in range(30))
_PLAN = ReadPlan("bench", "wide", "symbol", _FEATURES, 0)


def read_one(settings: Settings) -> Measured:
    """One symbol of thirty features."""
    return _read(settings, 1, times=2_000)


def read_many(settings: Settings) -> Measured:
    """A hundred symbols of thirty features in one round trip."""
    return _read(settings, 100, times=300)


def _read(settings: Settings, n: int, *, times: int) -> Measured:
    symbols = [f"S{i}" for i in range(n)]
    now = wall_micros()
    values = np.random.default_rng(0).normal(size=(n, len(_FEATURES)))
    with Redis(port=settings.redis_port) as redis:
        OnlineWriter(redis, _PLAN).write(symbols, [now] * n, [now] * n, values)
    ours, raw = asyncio.run(_timed(settings.redis_port, symbols, now, times))
    return Measured(f"online read, {n} x 30", ours, raw, "raw HMGET", "<= 1.3 x")


async def _timed(port: int, symbols: list[str], now: int, times: int) -> tuple[float, float]:
    redis = AsyncRedis(port=port)
    reader = OnlineReader(redis, _PLAN)
    moment = from_micros(now)
    prefix = key_prefix(["symbol"])
    keys = [entity_key(prefix, symbol, _PLAN.project) for symbol in symbols]
    fields = [feature_field(_PLAN.view, name) for name in _FEATURES]
    taken: tuple[list[float], list[float]] = ([], [])
    for _ in range(times):
        began = time.perf_counter()
        await reader.read(symbols, now=moment)
        taken[0].append(time.perf_counter() - began)
        began = time.perf_counter()
        pipeline = redis.pipeline(transaction=False)
        for key in keys:
            pipeline.hmget(key, fields)  # type: ignore[arg-type]
        await pipeline.execute()
        taken[1].append(time.perf_counter() - began)
    await redis.aclose()
    return statistics.median(taken[0]), statistics.median(taken[1])
