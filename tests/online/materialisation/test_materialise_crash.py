"""A run killed at any moment, and two runs at once, leave what one undisturbed run leaves."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from clickhouse_connect.driver.client import Client
from feast import FeatureStore, RepoConfig
from online_rows import T0, bid_ask, ledger, put, quotes, rows_of
from redis import Redis

S = timedelta(seconds=1)
UNTIL = T0 + timedelta(days=1)
N_KEYS = 3_000


class Runs:
    """Runs of the view `quotes`, each in a process of its own."""

    def __init__(self, log: Path) -> None:
        self.log = log
        with log.open("wb") as errors:
            self._process = subprocess.Popen(
                [sys.executable, str(Path(__file__).parent / "materialising_process.py")],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )
        assert self._answer() == "ready"

    def start(
        self, config: dict[str, Any], *, times: int = 1, kill_after_s: float | None = None
    ) -> list[int]:
        """Start runs at once and return their process ids."""
        assert self._process.stdin is not None
        asked = {"config": config, "until": UNTIL.isoformat(), "times": times}
        asked |= {"kill_after_s": kill_after_s}
        print(json.dumps(asked), file=self._process.stdin, flush=True)
        found: list[int] = json.loads(self._answer())
        return found

    def end(self) -> list[int]:
        """Return the statuses with which they ended; 0 is success."""
        found: list[int] = json.loads(self._answer())
        return found

    def close(self) -> None:
        """End the process."""
        self._process.communicate(timeout=30)

    def _answer(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline().strip()
        assert line, self.log.read_text()[-3000:]
        return line


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runs]:
    """The process that starts runs."""
    made = Runs(tmp_path_factory.mktemp("runs") / "log")
    yield made
    made.close()


@pytest.fixture
def config(
    clickhouse: Client, clickhouse_port: int, redis: Redis, redis_port: int, tmp_path: Path
) -> Callable[..., dict[str, Any]]:
    """Make a project's configuration, with a registry of its own and the view applied."""

    def make(name: str, **engine: object) -> dict[str, Any]:
        made: dict[str, Any] = {
            "project": "desk",
            "provider": "local",
            "registry": {
                "registry_type": "sql",
                "path": f"sqlite:///{tmp_path / name}.db",
                "sqlalchemy_config_kwargs": {"connect_args": {"timeout": 30}},
            },
            "offline_store": {
                "type": "atlas.offline.ClickHouseOfflineStore",
                "host": "127.0.0.1",
                "port": clickhouse_port,
                "database": clickhouse.database,
            },
            "online_store": {
                "type": "atlas.online.RedisOnlineStore",
                "connection_string": f"127.0.0.1:{redis_port}",
            },
            "batch_engine": {
                "type": "atlas.online.ComputeEngine",
                "lease_s": 0.5,
                "keys_per_query": 200,
            }
            | engine,
            "entity_key_serialization_version": 3,
            "data_quality_monitoring": {"auto_baseline": False},
        }
        FeatureStore(config=RepoConfig(**made)).apply(bid_ask())
        return made

    return make


def feed(client: Client, step: int, chance: random.Random) -> None:
    """Insert later events, late rows, and corrections."""
    rows: list[tuple[str, datetime, datetime | None, float]] = []
    for number in range(N_KEYS) if step == 0 else chance.sample(range(N_KEYS), N_KEYS // 4):
        event = T0 + chance.randrange(step + 1) * S
        known = T0 + (step + chance.randrange(3)) * S
        rows.append((f"S{number}", event, known, chance.random()))
    put(client, rows)


def state(redis: Redis, config: dict[str, Any]) -> Any:
    """Return all that a run leaves: rows, ledger, and the registry's view."""
    view = FeatureStore(config=RepoConfig(**config)).registry.get_feature_view("quotes", "desk")
    return rows_of(redis), ledger(redis, "quotes"), view.materialization_intervals, view.state


def killed_runs_end_as_a_clean_one(
    runs: Runs,
    config: Callable[..., dict[str, Any]],
    clickhouse: Client,
    redis: Redis,
    *,
    kills: int,
    seed: int,
) -> None:
    chance = random.Random(seed)
    quotes(clickhouse)
    feed(clickhouse, 0, chance)
    warm = config("warm")
    started = time.monotonic()
    runs.start(warm)
    assert runs.end() == [0]
    took = time.monotonic() - started
    redis.flushall()

    disturbed = config("disturbed")
    statuses = []
    for step in range(1, kills + 1):
        feed(clickhouse, step, chance)
        runs.start(disturbed, kill_after_s=chance.uniform(0, took))
        statuses += runs.end()
    runs.start(disturbed)
    assert runs.end() == [0], runs.log.read_text()[-3000:]
    found = state(redis, disturbed)

    redis.flushall()
    clean = config("clean")
    runs.start(clean)
    assert runs.end() == [0]
    assert len(found[0]) == N_KEYS
    assert found == state(redis, clean)
    # Or nothing was killed in the middle.
    assert signal.SIGKILL in statuses


def test_a_run_killed_four_times_ends_as_a_clean_one(
    runs: Runs, config: Callable[..., dict[str, Any]], clickhouse: Client, redis: Redis
) -> None:
    killed_runs_end_as_a_clean_one(runs, config, clickhouse, redis, kills=4, seed=1)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [2, 3])
def test_a_run_killed_twenty_times_ends_as_a_clean_one(
    runs: Runs, config: Callable[..., dict[str, Any]], clickhouse: Client, redis: Redis, seed: int
) -> None:
    killed_runs_end_as_a_clean_one(runs, config, clickhouse, redis, kills=20, seed=seed)


def test_two_runs_at_once_end_as_one(
    runs: Runs, config: Callable[..., dict[str, Any]], clickhouse: Client, redis: Redis
) -> None:
    quotes(clickhouse)
    feed(clickhouse, 0, random.Random(4))
    once, twice = config("once"), config("twice")
    runs.start(once)
    assert runs.end() == [0]
    alone = state(redis, once)
    redis.flushall()
    runs.start(twice, times=2)
    assert runs.end() == [0, 0], runs.log.read_text()[-3000:]
    assert state(redis, twice) == alone


def test_of_two_runs_that_must_not_wait_one_works_and_one_says_why_not(
    runs: Runs, config: Callable[..., dict[str, Any]], clickhouse: Client, redis: Redis
) -> None:
    quotes(clickhouse)
    feed(clickhouse, 0, random.Random(5))
    impatient = config("impatient", wait_s=0)
    both = runs.start(impatient, times=2)
    statuses = sorted(runs.end())
    told = runs.log.read_text()
    assert (statuses[0], len(rows_of(redis))) == (0, N_KEYS)
    if statuses[1]:
        assert "ViewBusy: Expected to be the only run that brings view quotes online" in told
        assert any(f"process {process}" in told for process in both)


def test_a_paused_holder_that_comes_back_cannot_enter_its_work(
    runs: Runs, config: Callable[..., dict[str, Any]], clickhouse: Client, redis: Redis
) -> None:
    quotes(clickhouse)
    feed(clickhouse, 0, random.Random(6))
    paused = config("paused", keys_per_query=50)
    [process] = runs.start(paused)
    claim = "atlas:online:{desk/quotes}:claim"
    _until(lambda: redis.exists(claim) and len(rows_of(redis)) > 0)
    os.kill(process, signal.SIGSTOP)
    try:
        _until(lambda: not redis.exists(claim))
        redis.set(claim, "another")
    finally:
        os.kill(process, signal.SIGCONT)
    [status] = runs.end()
    assert (status != 0, ledger(redis, "quotes")) == (True, None)
    assert "ViewBusy: Expected to hold the claim to bring view quotes online" in (
        runs.log.read_text()
    )


def _until(true: Callable[[], object]) -> None:
    deadline = time.monotonic() + 30
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)
