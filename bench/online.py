"""Reads of the online store, against raw redis-py and against Feast's SDK."""

from __future__ import annotations

import asyncio
import statistics
import time
import warnings
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
from redis import Redis
from redis.asyncio import Redis as AsyncRedis

from atlas.clock import from_micros, wall_micros
from atlas.config import Settings
from atlas.offline import ClickHouseSource
from atlas.online import OnlineReader, OnlineWriter
from atlas.online.wire import entity_key, feature_field, key_prefix
from atlas.serving import ReadPlan
from bench.feature_rows import feature_names, feature_store, view_of
from bench.measure import Measured

__all__ = ["online_reads"]

_N_FEATURES = 30
_TABLE = "wide"
_TIMES = {1: 2_000, 100: 300}


def online_reads(settings: Settings, folder: Path) -> list[Measured]:
    """One symbol, then a hundred, of thirty features: a row for each baseline."""
    source = ClickHouseSource(table=_TABLE, timestamp_field="event_timestamp")
    view = view_of(_TABLE, source, features=_N_FEATURES, ttl=timedelta(0))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        # Feast's own Redis store reads the same bytes.
        sdk = feature_store(folder, settings, [view], project="bench", online="redis")
        return [row for n in (1, 100) for row in _reads(settings, sdk, n)]


def _reads(settings: Settings, sdk: Any, n: int) -> list[Measured]:
    names = tuple(feature_names(_N_FEATURES))
    plan = ReadPlan("bench", _TABLE, ("symbol",), names, 0)
    symbols = [f"S{i}" for i in range(n)]
    now = wall_micros()
    values = np.random.default_rng(0).normal(size=(n, _N_FEATURES))
    prefix = key_prefix(["symbol"])
    keys = [entity_key(prefix, symbol, plan.project) for symbol in symbols]
    fields = [feature_field(_TABLE, name) for name in names]
    references = [f"{_TABLE}:{name}" for name in names]
    rows = [{"symbol": symbol} for symbol in symbols]

    with Redis(port=settings.redis_port) as redis:
        OnlineWriter(redis, plan).write(symbols, [now] * n, [now] * n, values)

        def raw() -> Any:
            if n == 1:
                return redis.hmget(keys[0], fields)  # type: ignore[arg-type]
            pipeline = redis.pipeline(transaction=False)
            for key in keys:
                pipeline.hmget(key, fields)  # type: ignore[arg-type]
            return pipeline.execute()

        def feast() -> Any:
            return sdk.get_online_features(references, rows).to_dict()

        answer = feast()
        found = np.column_stack([answer[name] for name in names])
        ours, raw_async, others = asyncio.run(
            _timed(settings, plan, keys, fields, symbols, now, found, [raw, feast])
        )
    work = f"online read, {n} x {_N_FEATURES}"
    return [
        Measured(work, ours, others[0], "raw redis-py, blocking", "<= 1.3 x"),
        Measured(work, ours, raw_async, "raw redis-py, asyncio", "<= 1.3 x"),
        Measured(work, ours, others[1], "Feast's SDK", ""),
    ]


async def _timed(
    settings: Settings,
    plan: ReadPlan,
    keys: list[bytes],
    fields: list[bytes],
    symbols: list[str],
    now: int,
    expected: np.ndarray,
    others: list[Callable[[], Any]],
) -> tuple[float, float, list[float]]:
    redis = AsyncRedis(port=settings.redis_port)
    reader = OnlineReader(redis, plan)
    moment = from_micros(now)

    async def ours() -> Any:
        return await reader.read(symbols, now=moment)

    async def raw() -> Any:
        if len(keys) == 1:
            return await redis.hmget(keys[0], fields)  # type: ignore[arg-type]
        pipeline = redis.pipeline(transaction=False)
        for key in keys:
            pipeline.hmget(key, fields)  # type: ignore[arg-type]
        return await pipeline.execute()

    if not np.array_equal((await ours()).values, expected):
        raise RuntimeError("the reader and Feast's SDK give different values")
    asynchronous: list[Callable[[], Awaitable[Any]]] = [ours, raw]
    taken: list[list[float]] = [[] for _ in range(2 + len(others))]
    for _ in range(_TIMES[len(symbols)]):
        for work, seconds in zip(asynchronous, taken, strict=False):
            began = time.perf_counter()
            await work()
            seconds.append(time.perf_counter() - began)
        for other, seconds in zip(others, taken[2:], strict=True):
            began = time.perf_counter()
            other()
            seconds.append(time.perf_counter() - began)
    await redis.aclose()
    medians = [statistics.median(seconds) for seconds in taken]
    return medians[0], medians[1], medians[2:]
