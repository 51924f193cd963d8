"""Brokers that are killed, or share the work, leave the tables of one that ran alone."""

from __future__ import annotations

import os
import signal as signals
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from random import Random
from typing import Any

import pytest
from clickhouse_connect.driver.client import Client
from local_processes import end
from paper_market import COSTS, bars, register, signal, store
from redis import Redis
from sqlalchemy import create_engine, select

from atlas.bus import grant, publish
from atlas.paper import Broker, PaperLedger
from atlas.paper.tables import CURSORS, ORDERS, POSITIONS, PROFITS
from atlas.registry import DeploymentLog
from atlas.serving import Stage

ROUTES = ((Stage.LIVE, 1), (Stage.SHADOW, 2), (Stage.REJECTED, 3))
LAST = 3_000


def tables(url: str) -> dict[str, list[Any]]:
    """Return every row of every table of the paper trader."""
    engine = create_engine(url)
    with engine.connect() as connection:
        found = {
            table.name: sorted(map(tuple, connection.execute(select(table))))
            for table in (CURSORS, ORDERS, POSITIONS, PROFITS)
        }
    engine.dispose()
    return found


@pytest.mark.parametrize("turns", [2, pytest.param(6, marks=pytest.mark.slow)])
def test_killed_brokers_and_two_at_once_leave_the_same_tables(
    turns: int,
    tmp_path: Path,
    url: str,
    redis: Redis,
    clickhouse: Client,
    redis_port: int,
    clickhouse_port: int,
) -> None:
    random = Random(3)
    symbols = ("A", "B", "C")
    stored = [m for m in range(5, LAST, 5) if random.random() < 0.95]
    prices = {s: {m: random.uniform(50, 150) for m in stored} for s in symbols}
    store(clickhouse, [bars(prices[s], s) for s in symbols])
    grant(redis, "ada")
    for minute in range(5, LAST, 5):
        said = [
            signal(minute, random.choice((-1, 0, 1)), symbol, stage=stage, version=version)
            for symbol in symbols
            for stage, version in ROUTES
        ]
        publish(redis, said)

    reference = f"sqlite:///{tmp_path / 'reference.db'}"
    log = DeploymentLog(reference)
    register(log, 1, 2, 3)
    broker = Broker(
        PaperLedger(reference), redis, clickhouse, log, costs=COSTS, patience=timedelta(0)
    )
    while broker.step():
        pass
    expected = tables(reference)
    assert {name: len(rows) > 2 for name, rows in expected.items()} == dict.fromkeys(expected, True)

    register(DeploymentLog(url), 1, 2, 3)
    environment = {
        **{name: text for name, text in os.environ.items() if not name.startswith("ATLAS_")},
        "ATLAS_HOME": str(tmp_path / "home"),
        "ATLAS_DATABASE_URL": url,
        "ATLAS_REDIS_PORT": str(redis_port),
        "ATLAS_CLICKHOUSE_PORT": str(clickhouse_port),
        "ATLAS_CLICKHOUSE_DATABASE": str(clickhouse.database),
        "ATLAS_PAPER_PATIENCE": "PT0S",
    }
    log_path = tmp_path / "brokers.log"

    def start() -> subprocess.Popen[bytes]:
        with log_path.open("ab") as out:
            return subprocess.Popen(
                [sys.executable, "-m", "atlas.paper"],
                env=environment,
                stdout=out,
                stderr=subprocess.STDOUT,
            )

    ledger, cut_off = PaperLedger(url), 0
    for turn in range(turns):
        redis.delete("atlas:paper")
        running = [start() for _ in range(1 + turn % 2)]
        wait_until(lambda: bool(redis.exists("atlas:paper")), log_path)
        time.sleep(random.random() * 0.1 * turn)
        for process in running:
            process.send_signal(signals.SIGKILL)
            process.wait()
        cut_off += tables(url) != expected
    assert cut_off  # the first kill, at least, fell into the work
    running = [start(), start()]
    try:
        wait_until(lambda: is_done(ledger, expected), log_path)
    finally:
        for process in running:
            end(process)
    assert tables(url) == expected


def is_done(ledger: PaperLedger, expected: dict[str, list[Any]]) -> bool:
    read = all(ledger.cursor(stream) == f"{ms}-{seq}" for stream, ms, seq in expected[CURSORS.name])
    return read and not ledger.waiting(1)


def wait_until(ready: Callable[[], bool], log: Path, patience_s: float = 60.0) -> None:
    deadline = time.monotonic() + patience_s
    while not ready():
        assert time.monotonic() < deadline, log.read_text()[-2000:]
        time.sleep(0.02)
