"""The worker beside raw calls, `mlflow models serve` and Feast's SDK, with one model and rows."""

from __future__ import annotations

import asyncio
import os
import statistics
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import xgboost
from redis.asyncio import Redis as AsyncRedis

from atlas.offline import ClickHouseSource
from atlas.online.wire import entity_key, feature_field, key_prefix
from bench.feature_rows import feature_names, feature_store, view_of
from bench.http_load import load
from bench.measure import Measured, free_port
from bench.worker_desk import MODEL, N_FEATURES, WorkerDesk, await_http, running_worker

__all__ = ["serving"]

_BARS = {1: 500, 50: 200, 500: 60}
_PAUSE_S = 0.01
_CONNECTIONS = (1, 16, 64)
_SECONDS = 4.0
_SWAPS = 12


def serving(settings: Any, folder: Path) -> list[Measured]:
    """Latency of signals, answers a second, and latency while models are swapped."""
    with running_worker(settings) as desk:
        rows = [row for n in _BARS for row in _signals(desk, n)]
        rows += _questions(desk, folder)
        rows.append(_swaps(desk))
    return rows


def _signals(desk: WorkerDesk, n: int) -> list[Measured]:
    """From the notification of n rows to the last of their signals, and the raw parts."""
    symbols = [f"S{i}" for i in range(n)]
    values = np.random.default_rng(n).normal(size=(n, N_FEATURES))
    own, raw = _latencies(desk, symbols, values)
    p99, p999 = np.percentile(own, (99, 99.9))
    work = f"features to signals, {n} symbol{'s' if n > 1 else ''}"
    notes = {
        "p99 us": 1e6 * p99,
        "p99.9 us": 1e6 * p999,
        "raw p99 us": 1e6 * np.percentile(raw, 99),
    }
    raw_p50 = statistics.median(raw)
    whole = Measured(
        work, statistics.median(own), raw_p50, "raw read and raw predict", "<= 3 x", notes
    )
    if n > 1:
        return [whole]
    entries: Any = desk.redis.xrange("atlas:outbox:predictions")
    told = _recorded_latencies(desk) if not entries else []
    if not told:
        return [whole]
    return [
        whole,
        Measured(
            "read request to publish reply, 1 symbol",
            statistics.median(told),
            raw_p50,
            "raw read and raw predict",
            "<= 3 x",
        ),
    ]


def _recorded_latencies(desk: WorkerDesk) -> list[float]:
    from atlas.runtime.installation import Installation

    found = Installation(desk.settings).clickhouse.query("SELECT latency_us FROM predictions")
    return [us / 1e6 for (us,) in found.result_rows]


def _latencies(
    desk: WorkerDesk, symbols: list[str], values: np.ndarray
) -> tuple[list[float], list[float]]:
    """Measure bar after bar, ours and the raw parts by turns, at the pace of the rows."""
    plan, n = desk.plan, len(symbols)
    keys = [entity_key(key_prefix(plan.join_keys), s, plan.project) for s in symbols]
    fields = [feature_field(plan.view, name) for name in plan.features]
    booster = desk.engines[0].booster_
    row = values.astype(np.float32)

    async def raw() -> list[float]:
        client = AsyncRedis(port=desk.settings.redis_port)
        took = []
        for _ in range(_BARS[n]):
            await asyncio.sleep(_PAUSE_S)
            began = time.perf_counter()
            async with client.pipeline(transaction=False) as pipeline:
                for key in keys:
                    pipeline.hmget(key, fields)  # type: ignore[arg-type]
                await pipeline.execute()
            booster.inplace_predict(row, validate_features=False)
            took.append(time.perf_counter() - began)
        await client.aclose()
        return took

    newest: Any = desk.redis.xrevrange("atlas:signals", count=1)
    last = newest[0][0] if newest else b"0"
    own = []
    for _ in range(_BARS[n]):
        event_us = desk.store(symbols, values)
        time.sleep(_PAUSE_S)
        began = time.perf_counter()
        desk.tell(symbols, event_us)
        last = desk.signal_after(last, n)
        own.append(time.perf_counter() - began)
    time.sleep(1.0)  # the outbox reaches ClickHouse
    return own, asyncio.run(raw())


def _questions(desk: WorkerDesk, folder: Path) -> list[Measured]:
    """Answers a second at 1, 16 and 64 connections, as seconds a question."""
    symbols = [f"S{i}" for i in range(50)]
    desk.store(symbols, np.random.default_rng(1).normal(size=(50, N_FEATURES)))
    asked: list[object] = [{"model": MODEL, "symbols": [symbol]} for symbol in symbols]
    names = feature_names(N_FEATURES)
    row = np.random.default_rng(2).normal(size=N_FEATURES).tolist()
    given: list[object] = [{"dataframe_split": {"columns": names, "data": [row]}}]
    measured = []
    with _mlflow_server(desk, folder) as theirs:
        for connections in _CONNECTIONS:
            both = []
            for url, bodies in ((f"{desk.url}/predict", asked), (theirs, given)):
                load(url, bodies, connections=connections, seconds=0.5)
                both.append(load(url, bodies, connections=connections, seconds=_SECONDS))
            ours, other = both
            if ours.failed or other.failed:
                raise RuntimeError(f"failed requests: {ours.failed} ours, {other.failed} MLflow's")
            measured.append(
                Measured(
                    f"a question over HTTP, {connections} connections",
                    1 / ours.per_second,
                    1 / other.per_second,
                    "mlflow models serve, features given",
                    "<= 0.1 x",
                    {
                        "a second": ours.per_second,
                        "MLflow's a second": other.per_second,
                        "p50 us": 1e6 * ours.p50_s,
                        "p99 us": 1e6 * ours.p99_s,
                        "MLflow's p99 us": 1e6 * other.p99_s,
                    },
                )
            )
    one = load(f"{desk.url}/predict", asked, connections=1, seconds=_SECONDS)
    measured.append(
        Measured(
            "a question over HTTP, 1 connection",
            one.p50_s,
            _feast_s(desk, folder),
            "Feast's SDK and predict, in one process",
            "",
        )
    )
    return measured


@contextmanager
def _mlflow_server(desk: WorkerDesk, folder: Path) -> Iterator[str]:
    path, port = folder / "mlflow-model", free_port()
    booster = xgboost.Booster()
    booster.load_model(bytearray(desk.engines[0].booster_.save_raw("ubj")))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mlflow.xgboost.save_model(booster, str(path), model_format="ubj", pip_requirements=[])
    command = [sys.executable, "-m", "mlflow", "models", "serve", "-m", str(path)]
    command += ["--env-manager", "local", "--host", "127.0.0.1", "--port", str(port)]
    quiet = {"MLFLOW_DISABLE_TELEMETRY": "true", "OMP_NUM_THREADS": "1"}
    scripts = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    server = subprocess.Popen(
        command,
        env=os.environ | quiet | {"PATH": scripts},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        await_http(f"http://127.0.0.1:{port}/ping", within_s=120)
        yield f"http://127.0.0.1:{port}/invocations"
    finally:
        os.killpg(server.pid, 15)
        server.wait(20)


def _feast_s(desk: WorkerDesk, folder: Path) -> float:
    source = ClickHouseSource(table="wide", timestamp_field="event_timestamp")
    view = view_of("wide", source, features=N_FEATURES, ttl=timedelta(0))
    names = feature_names(N_FEATURES)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        sdk = feature_store(folder / "sdk", desk.settings, [view], project="bench", online="redis")
        return _median(lambda: _ask(sdk, names, desk), times=300)


def _ask(sdk: Any, names: list[str], desk: WorkerDesk) -> Any:
    found = sdk.get_online_features([f"wide:{n}" for n in names], [{"symbol": "S1"}]).to_dict()
    row = np.array([[found[name][0] for name in names]], dtype=np.float32)
    return desk.engines[0].booster_.inplace_predict(row, validate_features=False)


def _median(work: Callable[[], object], *, times: int) -> float:
    took = []
    for _ in range(times):
        began = time.perf_counter()
        work()
        took.append(time.perf_counter() - began)
    return statistics.median(took)


def _swaps(desk: WorkerDesk) -> Measured:
    """Return the 99th percentile of signals while models are swapped, and while none is."""
    symbols = [f"S{i}" for i in range(50)]
    values = np.random.default_rng(3).normal(size=(50, N_FEATURES))
    calm, busy = [], []
    for took, swapped in ((calm, False), (busy, True)):
        done = threading.Event()

        def swap(done: threading.Event = done) -> None:
            for number in range(_SWAPS):
                desk.serve((number + 1) % 2)
                time.sleep(0.25)
            done.set()

        def pause(done: threading.Event = done) -> None:
            time.sleep(_SWAPS * 0.3)
            done.set()

        swapper = threading.Thread(target=swap if swapped else pause)
        swapper.start()
        newest: Any = desk.redis.xrevrange("atlas:signals", count=1)
        last = newest[0][0]
        while not done.is_set():
            event_us = desk.store(symbols, values)
            began = time.perf_counter()
            desk.tell(symbols, event_us)
            last = desk.signal_after(last, 50)
            took.append(time.perf_counter() - began)
            time.sleep(0.002)
        swapper.join()
    quiet, during = (float(np.percentile(took, 99)) for took in (calm, busy))
    return Measured(
        f"features to signals, 50 symbols, p99 during {_SWAPS} swaps",
        during,
        quiet,
        "p99 without a swap",
        "<= 2 x",
        {"bars": len(busy), "bars without": len(calm)},
    )
