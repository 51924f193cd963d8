"""Every store is killed under load and comes back: what degraded, for how long, and nothing lost.

`pytest -m slow -s tests/inference/test_chaos.py` prints the table of docs/deployment.md.
"""

import http.client
import json
import os
import pwd
import shlex
import signal
import subprocess
import threading
import time
from contextlib import ExitStack, contextmanager
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from postgres_server import running_server
from psycopg import OperationalError
from redis import Redis
from redis.exceptions import RedisError
from rich.console import Console
from rich.table import Table
from serving_desk import MODEL, PLAN, Desk, eventually, unused_port
from sqlalchemy import create_engine, text
from sqlalchemy.exc import DBAPIError

from atlas.bus import set_replay
from atlas.clickhouse import connect, insert_once
from atlas.clock import ReplayState, from_micros, wall_micros
from atlas.config import load_settings
from atlas.deployment import Desk as DeploymentDesk
from atlas.registry import DeploymentLog, HaltLog, Latch, open_blobs
from atlas.runtime import State, supervise
from atlas.runtime.state import read_states
from atlas.serving import Stage

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1_200)]

SYMBOLS = [f"S{i}" for i in range(8)]
MINUTE_US = 60_000_000
FIRST_US = 1_609_459_200_000_000  # 2021-01-01
N_MINUTES = 40_000
ENDLESS = replace(PLAN, ttl_us=0)


class Watch:
    """Plays rows, asks questions and looks at the stores, ten times a second each."""

    def __init__(self, desk, settings):
        self.fed = {}
        self.asked = []
        self.late = []
        self._desk, self._settings = desk, settings
        self._enough = threading.Event()
        jobs = (self._feed, self._ask, self._look)
        self._threads = [threading.Thread(target=job, daemon=True) for job in jobs]

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self._enough.set()
        for thread in self._threads:
            thread.join(60)

    def _feed(self):
        minute = 0
        while not self._enough.wait(0.05):
            values = self._desk.rows(len(SYMBOLS), seed=minute)
            event_us = FIRST_US + minute * MINUTE_US
            while True:
                try:
                    self._desk.feed(SYMBOLS, event_us, values)
                    break
                except Exception:  # whatever was told is told again: a feed does the same
                    time.sleep(0.05)
            self.fed |= {(symbol, event_us): None for symbol in SYMBOLS}
            minute += 1

    def _ask(self):
        body = json.dumps({"model": MODEL, "symbols": ["S1"]})
        while not self._enough.wait(0.1):
            began = time.time()
            try:
                port = self._settings.worker_port
                connection = http.client.HTTPConnection("127.0.0.1", port, timeout=3)
                connection.request("POST", "/predict", body)
                status = connection.getresponse().status
                connection.close()
            except OSError:
                status = 0
            self.asked.append((began, status))

    def _look(self):
        """How many predictions are not in ClickHouse yet, and signals not in the books."""
        engine = create_engine(self._settings.deployments_url)
        redis = Redis(port=self._settings.redis_port, socket_timeout=2)
        while not self._enough.wait(0.2):
            at = time.time()
            try:
                outbox = redis.xlen("atlas:outbox:predictions")
                said = redis.xlen("atlas:signals")
                with engine.connect() as connection:
                    kept = connection.scalar(
                        text("SELECT count(*) FROM paper_orders WHERE stream = 'atlas:signals'")
                    )
            except (RedisError, OSError, DBAPIError):
                continue
            self.late.append((at, outbox, said - kept))
        engine.dispose()


def test_every_store_is_killed_under_load_and_nothing_is_lost(tmp_path):
    ports = {
        f"{name}_port": unused_port()
        for name in ("clickhouse", "redis", "mlflow", "worker", "prefect")
    }
    with ExitStack() as ending:
        server = ending.enter_context(running_server())
        started = ending.enter_context(processes_that_end())
        database = ending.enter_context(server.database())
        settings = load_settings(
            {}, home=tmp_path / "home", database_url=server.url(database), **ports
        )
        log = DeploymentLog(settings.deployments_url)
        with supervise(settings, only=["worker", "paper", "mlflow"]) as stack:
            stack.settle(timeout_s=240)
            states = read_states(settings.home)
            assert {s.name for s in states.values() if s.state is not State.HEALTHY} <= {"tables"}
            desk = at_work(settings, log)
            kill = {
                name: lambda name=name: os.kill(
                    read_states(settings.home)[name].pid, signal.SIGKILL
                )
                for name in ("redis", "clickhouse", "mlflow")
            }
            kill["sql"] = lambda: restart_postgres(server, started)
            with Watch(desk, settings) as watch:
                eventually(lambda: len(watch.fed) > 200, within=60)
                told = {name: disturb(name, kill[name], settings, watch) for name in kill}
            whole_end(desk, settings, watch)
            _print(told)


@contextmanager
def processes_that_end():
    started = []
    try:
        yield started
    finally:
        for process in started:
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
                process.wait(30)


def at_work(settings, log):
    """Route versions 1 and 2, fill the market, permit trade; return the desk."""
    redis = Redis(port=settings.redis_port)
    desk = Desk(redis, open_blobs(settings))
    deployments = DeploymentDesk(log, redis, who="ada")
    for version in (1, 2):
        manifest = desk.manifest(
            version, Stage.REGISTERED, plan=ENDLESS, threshold=0.0, decision_bars=1
        )
        deployments.register(manifest, passed=True, report="r")
        deployments.stage_shadow(MODEL, version)
        if version == 1:
            deployments.promote(MODEL, version)
    set_replay(redis, ReplayState(FIRST_US, wall_micros(), 1.0, FIRST_US + 10**15))
    Latch(HaltLog(settings.deployments_url), redis).release("ada", "test", expected=0)
    rng = np.random.default_rng(0)
    price = 100 + np.cumsum(rng.normal(size=N_MINUTES)) / 100
    with connect(
        port=settings.clickhouse_port, database=settings.clickhouse_database
    ) as clickhouse:
        for symbol in SYMBOLS:
            moment = pl.Series(
                [from_micros(FIRST_US + i * MINUTE_US) for i in range(N_MINUTES)],
                dtype=pl.Datetime("us", "UTC"),
            )
            bars = pl.DataFrame(
                {"symbol": [symbol] * N_MINUTES, "event_timestamp": moment, "known_at": moment}
            ).with_columns(
                **{name: pl.Series(price) for name in ("open", "high", "low", "close", "volume")}
            )
            insert_once(clickhouse, "bars_1m", bars.to_arrow())
    return desk


def disturb(name, kill, settings, watch):
    """Kill one store, wait until all is well again, and return from when to when that was."""
    time.sleep(3)
    killed = time.time()
    kill()
    eventually(lambda: healthy(settings), within=180)
    eventually(lambda: watch.late and watch.late[-1][0] > killed + 3, within=60)
    eventually(lambda: watch.late[-1][1] < 400 and watch.late[-1][2] < 100, within=120)
    return killed, time.time(), watch


def healthy(settings):
    time.sleep(0.1)
    names = ("redis", "clickhouse", "mlflow", "worker", "paper")
    states = read_states(settings.home)
    return all(states[name].state is State.HEALTHY for name in names)


def restart_postgres(server, started):
    """Kill the server as a crash would, and start it with its own command two seconds later."""
    data = server.folder / "data"
    postmaster = int((data / "postmaster.pid").read_text().split()[0])
    os.kill(postmaster, signal.SIGKILL)
    os.waitpid(postmaster, 0)  # a zombie would still be taken for a server
    time.sleep(2)
    command = shlex.split((data / "postmaster.opts").read_text())
    owner = pwd.getpwnam("nobody") if os.getuid() == 0 else None
    account = {"user": owner.pw_uid, "group": owner.pw_gid, "extra_groups": []} if owner else {}

    def answers():
        # It refuses while a child of the killed one lives.
        if not started or started[-1].poll() is not None:
            with (server.folder / "log").open("ab") as out:
                process = subprocess.Popen(
                    command, stdout=out, stderr=out, cwd=server.folder, **account
                )
            started.append(process)
        try:
            return server.say("SELECT 1")
        except OperationalError:
            time.sleep(0.2)
            return None

    eventually(answers, within=60)


def whole_end(desk, settings, watch):
    """All rows have their signals, predictions and orders, each once."""
    rows = watch.fed.keys()
    eventually(lambda: desk.unfinished() == 0, within=60)
    said = {stage: desk.signals(stage) for stage in (Stage.LIVE, Stage.SHADOW)}
    for signals in said.values():
        keys = [(s.symbol, s.event_us) for s in signals]
        assert len(keys) == len(set(keys))
        assert set(keys) >= rows  # the feed may have been killed between telling and noting
    n_said = sum(map(len, said.values()))
    eventually(lambda: desk.redis.xlen("atlas:outbox:predictions") == 0, within=60)
    query = "SELECT count(), uniqExact(stage, symbol, event_timestamp) FROM predictions"
    with connect(
        port=settings.clickhouse_port, database=settings.clickhouse_database
    ) as clickhouse:
        assert clickhouse.query(query).result_rows == [(n_said, n_said)]
    engine = create_engine(settings.deployments_url)
    orders = text("SELECT count(*), count(price) FROM paper_orders WHERE status = 'filled'")

    def booked():
        with engine.connect() as connection:
            return tuple(connection.execute(orders).one()) == (n_said, n_said)

    eventually(booked, within=120)
    engine.dispose()


def _print(told):
    columns = ("killed", "signals stop", "questions fail", "predictions late", "books late", "lost")
    table = Table(*columns)
    for name, (killed, well, watch) in told.items():
        ids = watch._desk.redis.xrange("atlas:signals")
        times = np.array([int(id.split(b"-")[0]) for id, _ in ids]) / 1e3
        near = times[(times > killed - 1) & (times < well + 1)]
        failing = [at for at, status in watch.asked if status != 200 and killed - 1 < at < well + 1]
        outbox = [at for at, depth, _ in watch.late if depth > 400 and killed < at < well + 1]
        books = [at for at, _, behind in watch.late if behind > 100 and killed < at < well + 1]
        seen = [at for at, *_ in watch.late if killed < at < well + 1]
        table.add_row(
            name,
            f"{np.diff(near).max():.1f} s",
            f"{max(failing) - min(failing) + 0.1:.1f} s" if failing else "-",
            _until(killed, outbox),
            _until(killed, books or ([seen[0]] if seen[0] - killed > 1.5 else [])),
            "nothing",
        )
    Console(width=110).print(table)


def _until(killed, times):
    return f"{max(times) - killed:.1f} s" if times else "-"
