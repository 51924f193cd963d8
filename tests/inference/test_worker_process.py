"""The worker as a process: how it starts, is killed, stops, and outlives its stores."""

import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path

import numpy as np
import psutil
import pytest
from redis import Redis
from serving_desk import (
    MINUTE_US,
    MODEL,
    PLAN,
    Desk,
    eventually,
    last_minute,
    running,
    trained,
    unused_port,
)

from atlas.clock import to_micros
from atlas.inference.http_server import listen
from atlas.registry import BlobStore
from atlas.serving import Stage, rows_streams

SYMBOLS = ("A", "B", "C")
KEPT_OUT = ("feast", "mlflow", "pandas", "polars", "prefect", "sklearn", "sqlalchemy", "torch")

# The worker with one more task: it waits until a model is loaded and ClickHouse was looked for, and
# then says what was imported.
IMPORTS = """
import asyncio, json, sys
from atlas.config import load_settings
from atlas.inference import Worker
from atlas.clock import to_micros
from atlas.inference.http_server import listen

async def main():
    settings = load_settings()
    worker = Worker(settings, listen(settings.host, settings.worker_port))
    running = asyncio.create_task(worker.run())
    while not (worker._lineups.views and "prediction_log" in worker._parts.failing):
        await asyncio.sleep(0.02)
    worker.stop()
    await running
    print(json.dumps(sorted(sys.modules)))

asyncio.run(main())
"""


class Feed:
    """Plays ticks of all symbols in a thread until it is told to end."""

    def __init__(self, desk, pause_s):
        self.rows = {}
        self._desk, self._pause_s = desk, pause_s
        self._first_us = last_minute() - MINUTE_US
        self._enough = threading.Event()
        self._thread = threading.Thread(target=self._play)

    def _play(self):
        tick = 0
        while not self._enough.wait(self._pause_s):
            values = self._desk.rows(len(SYMBOLS), seed=tick)
            at = self._first_us + tick
            self.rows |= {(s, at): v for s, v in zip(SYMBOLS, values, strict=True)}
            self._desk.feed(SYMBOLS, at, values)
            tick += 1

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._enough.set()
        self._thread.join()

    def expected(self, version):
        """Return what is to be said of each row."""
        scores = trained(version).engine.score(np.array(list(self.rows.values()), np.float32))
        return by_symbol((*at, float(s)) for at, s in zip(self.rows, scores, strict=True))


def by_symbol(said):
    """Put symbol after symbol; each one's rows stay in their order, which is all that is kept."""
    return sorted(said, key=lambda one: one[0])


def said(signals):
    return by_symbol((s.symbol, s.event_us, s.score) for s in signals)


def recorded(desk, stage):
    """Return what was recorded as published of a stage."""
    return by_symbol(
        (r["symbol"], to_micros(datetime.fromisoformat(r["event_timestamp"] + "Z")), r["score"])
        for r in desk.recorded()
        if r["stage"] == stage and r["published"]
    )


@pytest.mark.parametrize("n_kills", [2, pytest.param(12, marks=pytest.mark.slow)])
def test_killed_at_random_moments_it_loses_no_row_and_says_none_twice(
    desk, worker_process, n_kills
):
    desk.permit()
    desk.deploy(1, live=1, shadow=2)
    worker_process.start()
    eventually(worker_process.face.ready)
    moments = np.random.default_rng(n_kills).uniform(0.0, 0.3, size=n_kills)
    with Feed(desk, 0.01) as feed:
        for moment in moments:
            before = desk.n_signals()
            eventually(lambda n=before: desk.n_signals() > n, within=60)  # it is at work again
            time.sleep(moment)
            before = desk.n_signals()
            # At once after a publication: its record has hardly been made.
            while desk.n_signals() == before:
                pass
            worker_process.kill()
            worker_process.start()
    eventually(lambda: desk.unfinished() == 0, within=60)
    worker_process.stop()
    assert said(desk.signals(Stage.LIVE)) == feed.expected(1)
    assert said(desk.signals(Stage.SHADOW)) == feed.expected(2)
    assert recorded(desk, "live") == feed.expected(1)
    assert recorded(desk, "shadow") == feed.expected(2)


def test_asked_to_stop_it_finishes_its_rows_and_leaves_no_claim(desk, worker_process):
    desk.permit()
    desk.deploy(1, live=1)
    worker_process.start()
    eventually(worker_process.face.ready)
    with Feed(desk, 0.002):
        eventually(lambda: len(desk.signals()) > 50)
        status = worker_process.stop()
    streams = rows_streams(PLAN.view)
    pending = [desk.redis.xpending(stream, "worker")["pending"] for stream in streams]
    assert (status, sum(pending)) == (0, 0)
    assert len(desk.recorded()) == len(desk.signals())
    assert desk.redis.keys("atlas:lease:*") == []
    assert [desk.redis.xinfo_consumers(stream, "worker") for stream in streams] == [[]] * 16
    assert desk.redis.keys("atlas:readers:*") == []
    assert desk.redis.hgetall(f"atlas:acks:{MODEL}") == {}


def test_it_imports_nothing_of_training(desk, worker_process):
    desk.deploy(1, live=1)
    desk.redis.xadd("atlas:outbox:predictions", {"row": "{}"})
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", IMPORTS],
        env=worker_process.environment(),
        capture_output=True,
        timeout=60,
        check=True,
    )
    modules = set(json.loads(done.stdout))
    assert "xgboost" in modules
    assert sorted(modules & set(KEPT_OUT)) == []


# As on a machine that has nothing but the extra: whatever is not of it cannot be imported.
ALONE = """
import re, sys, tomllib
from importlib.abc import MetaPathFinder
from importlib.metadata import distribution, packages_distributions, PackageNotFoundError
from pathlib import Path

def name_of(requirement):
    return re.match(r"[\\w.-]+", requirement)[0].lower().replace("_", "-")

project = tomllib.loads(Path("pyproject.toml").read_text())["project"]
wanted, allowed = list(project["optional-dependencies"]["worker"]), set()
while wanted:
    name = name_of(wanted.pop())
    if name not in allowed:
        allowed.add(name)
        try:
            needs = distribution(name).requires or ()
        except PackageNotFoundError:
            continue
        wanted += (need for need in needs if "extra ==" not in need)
known = {
    module: {found.lower().replace("_", "-") for found in names}
    for module, names in packages_distributions().items()
}

class Absent(MetaPathFinder):
    def find_spec(self, fullname, path=None, target=None):
        owners = known.get(fullname.split(".")[0])
        if owners and not owners & allowed and not fullname.startswith("atlas"):
            raise ModuleNotFoundError(f"No module named {fullname!r}", name=fullname)

sys.meta_path.insert(0, Absent())
"""


def test_its_own_extra_is_all_that_it_needs(desk, worker_process):
    desk.deploy(1, live=1)
    desk.redis.xadd("atlas:outbox:predictions", {"row": "{}"})
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", ALONE + IMPORTS],
        env=worker_process.environment(),
        capture_output=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr.decode()
    assert "xgboost" in json.loads(done.stdout)


@pytest.mark.slow
def test_it_is_ready_within_two_and_a_half_seconds(desk, worker_process):
    desk.deploy(1, live=1)
    took = []
    for _ in range(5):
        began = time.monotonic()
        worker_process.start()
        eventually(worker_process.face.ready)
        took.append(time.monotonic() - began)
        assert worker_process.face.serving() == {"live": 1}
        worker_process.stop()
    # The best of five: neighbours can only make it longer.
    assert min(took) <= 2.5


def test_a_taken_port_ends_it_with_one_sentence(desk, worker_process):
    with listen("127.0.0.1", worker_process.settings.worker_port):
        refused = subprocess.run(
            [sys.executable, "-m", "atlas.inference"],
            env=worker_process.environment(),
            capture_output=True,
            timeout=60,
            check=False,
        )
    assert refused.returncode == 2
    [sentence] = refused.stderr.decode().splitlines()
    assert "ATLAS_WORKER_PORT" in sentence


class FrailLine:
    """Stands between the worker and Redis, and cuts all connections when it is told to."""

    def __init__(self, redis_port: int) -> None:
        self._redis_port = redis_port
        self._listener = listen("127.0.0.1", 0)
        self.port = self._listener.getsockname()[1]
        self._ends: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                far = socket.create_connection(("127.0.0.1", self._redis_port))
                self._ends += (near, far)
                for source, sink in ((near, far), (far, near)):
                    threading.Thread(target=self._pump, args=(source, sink), daemon=True).start()

    @staticmethod
    def _pump(source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65_536):
                sink.sendall(data)
        _close(source, sink)

    def cut(self) -> None:
        _close(*self._ends)
        self._ends.clear()

    def close(self) -> None:
        _close(self._listener)
        self.cut()


def _close(*ends: socket.socket) -> None:
    for end in ends:
        with suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
        end.close()


def test_a_reply_of_redis_that_is_lost_neither_loses_nor_repeats_anything(
    desk, settings, redis_port
):
    desk.permit()
    desk.deploy(1, live=1, shadow=2)
    line = FrailLine(redis_port)
    try:
        with running(settings.model_copy(update={"redis_port": line.port})) as worker:
            eventually(worker.leads)
            with Feed(desk, 0.005) as feed:
                for _ in range(30):
                    before = desk.n_signals()
                    eventually(lambda n=before: desk.n_signals() > n)
                    # While it is about to publish, is publishing, or has just done so.
                    line.cut()
            eventually(lambda: desk.unfinished() == 0)
    finally:
        line.close()
    assert said(desk.signals(Stage.LIVE)) == feed.expected(1)
    assert recorded(desk, "live") == feed.expected(1)
    assert recorded(desk, "shadow") == feed.expected(2)


class OwnRedis:
    """A Redis that the test may end and start again over the same data."""

    def __init__(self, binary: str, folder: Path) -> None:
        self.port = unused_port()
        self._command = [
            *(binary, "--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(folder)),
            *("--save", "", "--appendonly", "yes", "--logfile", str(folder / "redis.log")),
        ]
        self.client = Redis(port=self.port)
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self.process = subprocess.Popen(self._command)
        eventually(self._answers)

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def _answers(self) -> bool:
        try:
            return bool(self.client.ping())
        except Exception:
            return False


@contextmanager
def own_redis(binary: str, folder: Path) -> Iterator[OwnRedis]:
    redis = OwnRedis(binary, folder)
    redis.start()
    try:
        yield redis
    finally:
        redis.client.close()
        redis.kill()


@pytest.fixture
def frail(redis_binary, tmp_path):
    """A Redis of this test's own, and the desk over it."""
    with own_redis(redis_binary, tmp_path) as redis:
        yield redis, Desk(redis.client, BlobStore(tmp_path / "blobs"))


def test_it_recovers_by_itself_when_redis_comes_back(frail, settings):
    redis, desk = frail
    desk.permit()
    desk.deploy(1, live=1)
    with running(settings.model_copy(update={"redis_port": redis.port})) as worker:
        eventually(worker.leads)
        event_us = desk.feed_now(SYMBOLS)
        eventually(lambda: len(desk.signals()) == 3)
        redis.kill()
        eventually(lambda: not worker.ready())
        assert worker.state()["halted"]
        assert worker.http.get("/health").status_code == 200
        redis.start()
        eventually(worker.leads)
        desk.feed(SYMBOLS, event_us + 1, desk.rows(3))
        eventually(lambda: len(desk.signals()) == 6)
        assert [s.event_us for s in desk.signals()] == [event_us] * 3 + [event_us + 1] * 3
        eventually(lambda: worker.state()["failing"].keys() <= {"prediction_log"})


def test_it_serves_on_when_redis_comes_back_empty(frail, settings):
    redis, desk = frail
    desk.permit()
    desk.deploy(1, live=1)
    with running(settings.model_copy(update={"redis_port": redis.port})) as worker:
        eventually(worker.leads)
        redis.client.flushall()
        event_us = desk.feed_now(SYMBOLS)
        eventually(lambda: worker.metric("publications_total") >= 3)
        assert (desk.signals(), worker.state()["halted"]) == ([], True)
        desk.permit()
        desk.deploy(1, live=1)
        desk.feed(SYMBOLS, event_us + 1, desk.rows(3))
        eventually(lambda: len(desk.signals()) == 3)


def test_a_silent_redis_leaves_the_worker_answering(frail, settings):
    redis, desk = frail
    desk.permit()
    desk.deploy(1, live=1)
    with running(settings.model_copy(update={"redis_port": redis.port})) as worker:
        eventually(worker.leads)
        silent = psutil.Process(redis.process.pid)
        silent.suspend()
        try:
            began = time.monotonic()
            reply = worker.http.get("/ready")
            assert (reply.status_code, reply.json()["halted"]) == (503, True)
            assert time.monotonic() - began < 5
        finally:
            silent.resume()
        eventually(worker.leads)
        desk.feed_now(SYMBOLS)
        eventually(lambda: len(desk.signals()) == 3)
