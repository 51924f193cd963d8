"""A small desk around the worker: a real Redis, small trained models, a feed, and its face."""

import asyncio
import functools
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import uvloop
from numpy.typing import NDArray
from redis import Redis

from atlas.bus import decode_signal, grant, write_route
from atlas.clock import wall_micros
from atlas.config import Settings
from atlas.engines import Dataset, XGBoostEngine
from atlas.inference import Worker
from atlas.inference.http_server import listen
from atlas.online import OnlineWriter
from atlas.online.wire import entity_key, key_prefix
from atlas.registry import BlobStore
from atlas.serving import (
    Manifest,
    ReadPlan,
    Route,
    Signal,
    Stage,
    feature_hash,
    rows_stream,
    rows_streams,
    signals_stream,
)

Floats = NDArray[np.float64]

MODEL = "direction_ohlcv_1m"
MINUTE_US = 60_000_000
PLAN = ReadPlan(
    project="atlas",
    view="ohlcv_1m",
    join_keys=("symbol",),
    features=("return_1", "return_5", "trend_60", "rsi_14", "atr_14", "flow_60"),
    ttl_us=5 * MINUTE_US,
)
HASH = feature_hash(PLAN.view, PLAN.features)


def eventually(holds: Callable[[], Any], *, within: float = 20.0) -> Any:
    """Return what `holds` returns as soon as it is true."""
    deadline = time.monotonic() + within
    while True:
        found = holds()
        if found:
            return found
        assert time.monotonic() < deadline, f"not within {within} s; the last answer was {found!r}"
        time.sleep(0.02)


def last_minute() -> int:
    """Return the last whole minute on the wall, in microseconds."""
    return wall_micros() // MINUTE_US * MINUTE_US


def unused_port() -> int:
    """Return a port on which nobody listens now."""
    with listen("127.0.0.1", 0) as probe:
        return int(probe.getsockname()[1])


@dataclass(frozen=True)
class Trained:
    """A trained engine and its bytes."""

    engine: XGBoostEngine
    data: bytes

    def score(self, row: Sequence[float] | Floats) -> float:
        """Return what it says of one row."""
        return float(self.engine.score(np.asarray([row], dtype=np.float32))[0])


@functools.cache
def trained(number: int) -> Trained:
    """Return a small engine by number; no two of them agree."""
    rng = np.random.default_rng(number)
    X = rng.normal(size=(800, len(PLAN.features)))
    y = np.where(X @ rng.normal(size=X.shape[1]) > 0, 1, -1)
    spans = np.column_stack([np.arange(800), np.arange(800) + 5])
    dataset = Dataset(X, y, features=PLAN.features, intervals=spans, symbols=["BTC_USDT"] * 800)
    engine = XGBoostEngine(n_rounds=20, max_depth=3, seed=number).fit(dataset)
    return Trained(engine, engine.dump())


class Desk:
    """What the other parts of Atlas do around the worker: store, deploy, feed, read signals."""

    def __init__(self, redis: Redis, blobs: BlobStore) -> None:
        self.redis = redis
        self.blobs = blobs
        self._writer = OnlineWriter(redis, PLAN)

    def manifest(self, version: int, stage: Stage, **changes: Any) -> Manifest:
        """Return the manifest of the model that was trained under that number."""
        model = trained(version)
        golden = np.random.default_rng(0).normal(size=(4, len(PLAN.features)))
        golden[0, 0] = np.nan
        manifest = Manifest(
            model=MODEL,
            version=version,
            stage=stage,
            generation=1,
            engine="xgboost",
            blob=self.blobs.put(model.data),
            plan=PLAN,
            feature_hash=HASH,
            interval="1m",
            threshold=0.05,
            decision_bars=30,
            golden_rows=tuple(
                tuple(None if np.isnan(v) else float(v) for v in row) for row in golden
            ),
            golden_scores=tuple(model.score(row) for row in golden),
        )
        return replace(manifest, **changes)

    def route(self, generation: int, *manifests: Manifest) -> None:
        """Write the route of these manifests."""
        stages = {m.stage: replace(m, generation=generation) for m in manifests}
        model = manifests[0].model if manifests else MODEL
        write_route(
            self.redis,
            Route(
                model,
                generation,
                stages.get(Stage.LIVE),
                stages.get(Stage.SHADOW),
                stages.get(Stage.REJECTED),
                stages.get(Stage.CANARY),
            ),
        )

    def deploy(self, generation: int, **versions: int) -> None:
        """Route `live=3, shadow=4`: versions by stage."""
        self.route(generation, *(self.manifest(v, Stage(s)) for s, v in versions.items()))

    def permit(self) -> None:
        """Permit live signals."""
        grant(self.redis, "test")

    def rows(self, n: int, seed: int = 0) -> Floats:
        """Return n feature rows."""
        return np.random.default_rng(seed).normal(size=(n, len(PLAN.features)))

    def feed(
        self,
        symbols: Sequence[str],
        event_us: int,
        values: Floats,
        *,
        carry: bool = True,
        notify: bool = True,
    ) -> None:
        """Store one row a symbol and then tell of them, as the live path does."""
        times = [event_us] * len(symbols)
        self._writer.write(symbols, times, times, values)
        if not notify:
            return
        with self.redis.pipeline(transaction=False) as pipeline:
            for symbol, row in zip(symbols, values, strict=True):
                fields: dict[Any, Any] = {"symbol": symbol, "event_us": event_us}
                if carry:
                    fields |= {"feature_hash": HASH, "values": row.astype("<f8").tobytes()}
                pipeline.xadd(rows_stream(PLAN.view, symbol), fields)
            pipeline.execute()

    def feed_now(self, symbols: Sequence[str]) -> int:
        """Store and tell of one row a symbol, of the last whole minute; return its time."""
        event_us = last_minute()
        self.feed(symbols, event_us, self.rows(len(symbols)))
        return event_us

    def spoil(self, symbol: str) -> bytes:
        """Leave something that is no row where a symbol's row should be; return its key."""
        key = entity_key(key_prefix(PLAN.join_keys), symbol, PLAN.project)
        self.redis.set(key, "not a row")
        return key

    def recorded(self) -> list[dict[str, Any]]:
        """Return the predictions that wait for ClickHouse, oldest first."""
        entries: Any = self.redis.xrange("atlas:outbox:predictions")
        return [json.loads(fields[b"row"]) for _, fields in entries]

    def signals(self, stage: Stage = Stage.LIVE) -> list[Signal]:
        """Return all signals of a stage, oldest first."""
        entries: Any = self.redis.xrange(signals_stream(stage))
        return [decode_signal(fields) for _, fields in entries]

    def n_signals(self) -> int:
        """Return how many live signals there are."""
        return int(self.redis.xlen(signals_stream(Stage.LIVE)))

    def unfinished(self) -> int:
        """Return how many rows were read and not finished, or not read."""
        return sum(map(self._unfinished, rows_streams(PLAN.view)))

    def _unfinished(self, stream: str) -> int:
        groups: Any = self.redis.xinfo_groups(stream)
        unread: Any = self.redis.xrange(stream, min=b"(" + groups[0]["last-delivered-id"])
        return int(groups[0]["pending"]) + len(unread)


class Face:
    """The worker as it is seen over HTTP."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.http = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=10, trust_env=False)

    def state(self) -> dict[str, Any]:
        """Return what `/ready` says."""
        reply: dict[str, Any] = self.http.get("/ready").json()
        return reply

    def ready(self) -> bool:
        """Tell whether `/ready` answers, and says yes."""
        try:
            return self.http.get("/ready").status_code == 200
        except httpx.TransportError:
            return False

    def serving(self) -> dict[str, int]:
        """Return the versions in service by stage."""
        return {m["stage"]: m["version"] for m in self.state()["models"]}

    def leads(self) -> bool:
        """Tell whether this worker turns the view's rows into signals."""
        return self.state()["views"].get(PLAN.view) == "leading"

    def partitions(self) -> list[int]:
        """Return the partitions of the view that this worker serves."""
        found: list[int] = self.state()["partitions"].get(PLAN.view, [])
        return found

    def predict(self, *symbols: str, **more: Any) -> httpx.Response:
        """Ask what the model says."""
        return self.http.post("/predict", json={"model": MODEL, "symbols": symbols, **more})

    def metric(self, name: str) -> float:
        """Return the sum of a metric's samples of exactly that name (and labels)."""
        lines = self.http.get("/metrics").text.splitlines()
        found = [line for line in lines if line.startswith(name) and line[len(name)] in " {"]
        return sum(float(line.rsplit(" ", 1)[1]) for line in found)


@contextmanager
def running(settings: Settings) -> Iterator[Face]:
    """Run a worker in a thread of this process."""
    listener = listen(settings.host, settings.worker_port)
    started = threading.Event()
    handle: dict[str, Any] = {}

    async def serve() -> None:
        handle["worker"] = Worker(settings, listener)
        handle["loop"] = asyncio.get_running_loop()
        started.set()
        await handle["worker"].run()

    thread = threading.Thread(target=lambda: uvloop.run(serve()))
    thread.start()
    started.wait(10)
    face = Face(settings.worker_port)
    try:
        yield face
    finally:
        handle["loop"].call_soon_threadsafe(handle["worker"].stop)
        thread.join(30)
        face.http.close()
        assert not thread.is_alive(), "the worker did not stop"


class WorkerProcess:
    """The worker as a process of its own."""

    def __init__(self, settings: Settings, log: Path) -> None:
        self.settings = settings
        self.log = log
        self.face = Face(settings.worker_port)
        self.process: subprocess.Popen[bytes] | None = None

    def environment(self) -> dict[str, str]:
        """Return its environment variables."""
        # Feast, when imported in this process, asks those that it starts to share their metrics.
        ours = ("ATLAS_", "PROMETHEUS_")
        kept = {k: v for k, v in os.environ.items() if not k.startswith(ours)}
        return kept | {
            "ATLAS_HOME": str(self.settings.home),
            "ATLAS_REDIS_PORT": str(self.settings.redis_port),
            "ATLAS_WORKER_PORT": str(self.settings.worker_port),
            "ATLAS_CLICKHOUSE_PORT": str(self.settings.clickhouse_port),
            "ATLAS_CLICKHOUSE_DATABASE": self.settings.clickhouse_database,
        }

    def start(self) -> None:
        """Start it."""
        with self.log.open("ab") as out:
            self.process = subprocess.Popen(
                [sys.executable, "-W", "error", "-m", "atlas.inference"],
                env=self.environment(),
                stdout=out,
                stderr=subprocess.STDOUT,
            )

    def kill(self) -> None:
        """End it as a crash would."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        """Ask it to end; return its exit status."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(20)
