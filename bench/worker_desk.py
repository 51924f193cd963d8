"""A worker of the measurements' own: a trained model, its route, rows to feed, and its face."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from redis import Redis

from atlas.bus import grant, read_acks, write_route
from atlas.clock import wall_micros
from atlas.config import Settings
from atlas.engines import Dataset, XGBoostEngine
from atlas.online import OnlineWriter
from atlas.registry import open_blobs
from atlas.serving import Manifest, ReadPlan, Route, Stage, feature_hash, rows_stream
from bench.feature_rows import feature_names
from bench.measure import free_port

__all__ = ["MODEL", "N_FEATURES", "WorkerDesk", "await_http", "running_worker"]

MODEL = "direction_wide"
N_FEATURES = 30
_NAMES = tuple(feature_names(N_FEATURES))
_PLAN = ReadPlan("bench", "wide", ("symbol",), _NAMES, 0)


class WorkerDesk:
    """What stands around the worker."""

    def __init__(self, settings: Settings, redis: Redis) -> None:
        self.settings = settings
        self.redis = redis
        self.plan = _PLAN
        self.engines = [_trained(seed) for seed in (0, 1)]
        self.url = f"http://{settings.host}:{settings.worker_port}"
        self._writer = OnlineWriter(redis, _PLAN)
        self._blobs = open_blobs(settings)
        self._manifests = [self._manifest(n, engine) for n, engine in enumerate(self.engines)]
        self._generation = 0
        self._event_us = wall_micros()
        grant(redis, "bench")

    def serve(self, number: int) -> None:
        """Route one of the two models as live, and return when the worker serves it."""
        self._generation += 1
        live = replace(self._manifests[number], generation=self._generation)
        write_route(self.redis, Route(MODEL, self._generation, live))
        while not any(
            ack.generation == self._generation and not ack.error
            for ack in read_acks(self.redis, MODEL).values()
        ):
            time.sleep(0.005)

    def store(self, symbols: list[str], values: NDArray[np.float64]) -> int:
        """Write a row a symbol; return its time."""
        self._event_us += 1
        times = [self._event_us] * len(symbols)
        self._writer.write(symbols, times, times, values)
        return self._event_us

    def tell(self, symbols: list[str], event_us: int) -> None:
        """Say that the rows are there."""
        with self.redis.pipeline(transaction=False) as pipeline:
            for symbol in symbols:
                pipeline.xadd(
                    rows_stream(_PLAN.view, symbol), {"symbol": symbol, "event_us": event_us}
                )
            pipeline.execute()

    def signal_after(self, last: bytes, n: int) -> bytes:
        """Wait for n further signals; return the id of the newest."""
        while n > 0:
            reply: Any = self.redis.xread({"atlas:signals": last}, block=4_000, count=n)
            if not reply:
                raise RuntimeError(f"{n} signals did not come in 4 s")
            entries = reply[0][1]
            n -= len(entries)
            last = entries[-1][0]
        return last

    def _manifest(self, number: int, engine: XGBoostEngine) -> Manifest:
        golden = np.random.default_rng(0).normal(size=(2, N_FEATURES))
        return Manifest(
            model=MODEL,
            version=number + 1,
            stage=Stage.LIVE,
            generation=0,
            engine="xgboost",
            blob=self._blobs.put(engine.dump()),
            plan=_PLAN,
            feature_hash=feature_hash(_PLAN.view, _NAMES),
            interval="1m",
            threshold=0.05,
            decision_bars=30,
            golden_rows=tuple(map(tuple, golden.tolist())),
            golden_scores=tuple(map(float, engine.score(golden.astype(np.float32)))),
        )


def _trained(seed: int) -> XGBoostEngine:
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(4_000, N_FEATURES))
    y = np.where(X @ rng.normal(size=N_FEATURES) > 0, 1, -1)
    spans = np.column_stack([np.arange(4_000), np.arange(4_000) + 5])
    dataset = Dataset(X, y, features=_NAMES, intervals=spans, symbols=["S0"] * 4_000)
    return XGBoostEngine(n_rounds=100, max_depth=6, seed=seed).fit(dataset)


@contextmanager
def running_worker(settings: Settings) -> Iterator[WorkerDesk]:
    """Start a worker process over the settings' Redis; it ends with the block."""
    own = settings.model_copy(update={"worker_port": free_port()})
    names = ("HOST", "REDIS_PORT", "WORKER_PORT", "CLICKHOUSE_PORT", "CLICKHOUSE_DATABASE")
    told = {f"ATLAS_{name}": str(getattr(own, name.lower())) for name in names}
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("ATLAS_", "PROMETHEUS_"))}
    worker = subprocess.Popen(
        [sys.executable, "-m", "atlas.inference"],
        env=kept | told | {"ATLAS_HOME": str(own.home.resolve())},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        with Redis(port=own.redis_port) as redis:
            desk = WorkerDesk(own, redis)
            desk.serve(0)
            await_http(f"{desk.url}/ready")
            yield desk
    finally:
        worker.terminate()
        worker.wait(20)


def await_http(url: str, within_s: float = 60.0) -> None:
    """Return when somebody answers there with success."""
    deadline = time.monotonic() + within_s
    while True:
        try:
            with urllib.request.urlopen(url, timeout=2):
                return
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
