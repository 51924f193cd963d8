"""Each kind of bad model is stopped where it should be, and the former version serves on.

Workers, routes, logs and books are real; the market is made so that one side always earns.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

import numpy as np
import polars as pl
import pytest
from moody_engine import Moody
from serving_desk import HASH, MODEL, PLAN, Desk, eventually, running, trained

from atlas.bus import set_replay
from atlas.clickhouse import insert_once
from atlas.clock import ReplayState, from_micros, wall_micros
from atlas.config import load_settings
from atlas.deployment import Conclusion, Outcome, Terms
from atlas.deployment import Desk as DeploymentDesk
from atlas.engines import Dataset, XGBoostEngine
from atlas.fills import Costs
from atlas.paper import Broker, PaperLedger
from atlas.runtime.installation import Installation
from atlas.runtime.rollout import roll_out
from atlas.serving import Manifest, Stage, feature_hash

SYMBOLS = [f"S{i}" for i in range(8)]
MINUTE_US = 60_000_000
FIRST_US = 1_609_459_200_000_000  # 2021-01-01
ENDLESS = replace(PLAN, ttl_us=0)
TERMS = Terms(min_rows=100, min_trades=20, patience=timedelta(seconds=120))


@dataclass
class Market:
    """Bars and rows of many hours, in which version 1 is right at every bar."""

    rows: np.ndarray
    """(n_minutes, n_symbols, n_features)"""
    closes: np.ndarray

    @staticmethod
    def made(n_minutes: int) -> "Market":
        rng = np.random.default_rng(3)
        wide = rng.normal(size=(40 * n_minutes, len(PLAN.features)))
        sides = [np.sign(trained(v).engine.score(wide.astype(np.float32)) - 0.5) for v in (1, 2)]
        # Where both are sure and of two opinions.
        kept = wide[sides[0] * sides[1] < 0][: n_minutes * len(SYMBOLS)]
        rows = kept.reshape(n_minutes, len(SYMBOLS), -1)
        side = np.sign(trained(1).engine.score(kept.astype(np.float32)) - 0.5)
        returns = 0.002 * side.reshape(n_minutes, -1)
        closes = 100.0 * np.cumprod(1.0 + np.vstack([0 * returns[:1], returns[:-1]]), axis=0)
        return Market(rows, closes)

    def bars(self) -> pl.DataFrame:
        n_minutes = len(self.rows)
        moment = [from_micros(FIRST_US + i * MINUTE_US) for i in range(n_minutes)]
        price = {name: self.closes.ravel() for name in ("open", "high", "low", "close")}
        return pl.DataFrame(
            {
                "symbol": SYMBOLS * n_minutes,
                "event_timestamp": np.repeat(moment, len(SYMBOLS)).tolist(),
                "known_at": np.repeat(moment, len(SYMBOLS)).tolist(),
                **price,
                "volume": np.ones(self.closes.size),
            },
            schema_overrides={
                "event_timestamp": pl.Datetime("us", "UTC"),
                "known_at": pl.Datetime("us", "UTC"),
            },
        )


@pytest.fixture(scope="module")
def market() -> Market:
    return Market.made(1_500)


@pytest.fixture
def installation(tmp_path, redis_port: int, clickhouse_port: int, database: str) -> Installation:
    from serving_desk import unused_port

    return Installation(
        load_settings(
            {},
            home=tmp_path,
            redis_port=redis_port,
            worker_port=unused_port(),
            clickhouse_port=clickhouse_port,
            clickhouse_database=database,
            trusted_engines="moody_engine:Moody",
        )
    )


@pytest.fixture
def stage_hand(installation: Installation, desk: Desk, clickhouse: Any, market: Market) -> Any:
    """Version 1 live on a worker, the market playing, the books kept."""
    insert_once(clickhouse, "bars_1m", market.bars().to_arrow())
    set_replay(desk.redis, ReplayState(FIRST_US, wall_micros(), 1.0, FIRST_US + 10**15))
    desk.permit()
    deployments = DeploymentDesk(installation.deployments, desk.redis, who="ada")
    _register(deployments, desk, _manifest(desk, 1))
    deployments.stage_shadow(MODEL, 1)
    deployments.promote(MODEL, 1)
    with running(installation.settings) as worker:
        eventually(worker.leads)
        with _playing(desk, market), _books_kept(installation, clickhouse):
            yield deployments, worker


def _manifest(desk: Desk, version: int, **changes: Any) -> Manifest:
    return desk.manifest(
        version, Stage.REGISTERED, plan=ENDLESS, threshold=0.0, decision_bars=1, **changes
    )


def _register(deployments: DeploymentDesk, desk: Desk, manifest: Manifest) -> None:
    deployments.register(manifest, passed=True, report="reports/x.html")


@contextmanager
def _in_thread(work: Callable[[], bool]) -> Iterator[None]:
    enough, failed = threading.Event(), []

    def run() -> None:
        try:
            while not enough.is_set() and work():
                pass
        except Exception as error:
            failed.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    yield
    enough.set()
    thread.join(30)
    assert failed == []


@contextmanager
def _playing(desk: Desk, market: Market) -> Iterator[None]:
    minutes = iter(range(len(market.rows)))

    def minute() -> bool:
        at = next(minutes, None)
        if at is None:
            return False
        desk.feed(SYMBOLS, FIRST_US + at * MINUTE_US, market.rows[at])
        while desk.unfinished() > 40:  # a slow machine makes the market slower
            time.sleep(0.005)
        return True

    with _in_thread(minute):
        yield


@contextmanager
def _books_kept(installation: Installation, clickhouse: Any) -> Iterator[None]:
    broker = Broker(
        PaperLedger(installation.settings.deployments_url),
        installation.redis,
        clickhouse,
        installation.deployments,
        costs=Costs(1.0, 0.5, 0.5),
    )

    def step() -> bool:
        if not broker.step():
            time.sleep(0.02)
        return True

    with _in_thread(step):
        yield


def deploy(installation: Installation, strategy: str = "canary", **terms: Any) -> Any:
    """Return how it ended, and the stages in which the candidate stood on its way."""
    stages: dict[Stage, None] = {}
    conclusion = roll_out(
        installation,
        MODEL,
        2,
        strategy=strategy,
        terms=replace(TERMS, **terms),
        who="ada",
        on_look=lambda intent, seen: stages.setdefault(intent.stage),
    )
    return conclusion, list(stages)


def taken_back(installation: Installation, desk: Desk, worker: Any, ended: Conclusion) -> str:
    """Check that version 1 serves on and version 2 does not trade; return why."""
    assert ended.outcome is Outcome.ROLLED_BACK
    state = installation.deployments.state(MODEL)
    assert state.live is not None
    assert (state.live.version, state.versions[2].stage) == (1, Stage.GATED)
    eventually(lambda: worker.serving() == {"live": 1})
    after = len(desk.signals())
    eventually(lambda: len(desk.signals()) > after + 20)
    assert {s.version for s in desk.signals()[after + 20 :]} <= {1}
    return ended.why


def test_one_that_errors_is_stopped_as_a_shadow(installation, desk, stage_hand):
    deployments, worker = stage_hand
    rng = np.random.default_rng(0)
    X = rng.normal(size=(400, len(PLAN.features)))
    spans = np.column_stack([np.arange(400), np.arange(400) + 5])
    y = np.where(X[:, 1] > 0, 1, -1)
    dataset = Dataset(X, y, features=PLAN.features, intervals=spans, symbols=["S0"] * 400)
    engine = Moody(n_rounds=5, max_depth=2, seed=1).fit(dataset)
    golden = np.abs(rng.normal(size=(3, len(PLAN.features)))).astype(np.float32)
    bad = _manifest(
        desk,
        2,
        engine="moody_engine:Moody",
        blob=desk.blobs.put(engine.dump()),
        golden_rows=tuple(map(tuple, golden.astype(float).tolist())),
        golden_scores=tuple(map(float, engine.score(golden))),
    )
    _register(deployments, desk, bad)
    ended, stages = deploy(installation)
    assert "predictions failed" in taken_back(installation, desk, worker, ended)
    assert stages == [Stage.SHADOW]


def test_one_that_is_slow_is_stopped_as_a_shadow(installation, desk, stage_hand):
    deployments, worker = stage_hand
    rng = np.random.default_rng(7)
    X = rng.normal(size=(600, len(PLAN.features)))
    spans = np.column_stack([np.arange(600), np.arange(600) + 5])
    y = np.where(X[:, 0] > 0, 1, -1)
    dataset = Dataset(X, y, features=PLAN.features, intervals=spans, symbols=["S0"] * 600)
    engine = XGBoostEngine(n_rounds=4_000, max_depth=6, seed=9, learning_rate=1e-4).fit(dataset)
    golden = rng.normal(size=(3, len(PLAN.features))).astype(np.float32)
    bad = _manifest(
        desk,
        2,
        blob=desk.blobs.put(engine.dump()),
        golden_rows=tuple(map(tuple, golden.astype(float).tolist())),
        golden_scores=tuple(map(float, engine.score(golden))),
    )
    _register(deployments, desk, bad)
    ended, stages = deploy(installation, max_latency_p99=timedelta(milliseconds=4))
    why = taken_back(installation, desk, worker, ended)
    assert "latency" in why or "predictions failed" in why
    assert stages == [Stage.SHADOW]


def test_one_that_loses_money_is_stopped_before_it_is_live(installation, desk, stage_hand):
    deployments, worker = stage_hand
    _register(deployments, desk, _manifest(desk, 2))
    # What it would have lost as a shadow may be enough already.
    ended, stages = deploy(installation, max_drawdown=0.05, min_chance=0.0)
    why = taken_back(installation, desk, worker, ended)
    assert "below its peak" in why
    assert stages in ([Stage.SHADOW], [Stage.SHADOW, Stage.CANARY])
    ledger = PaperLedger(installation.settings.deployments_url)
    live = ledger.profits(MODEL, stage=Stage.LIVE, version=1)
    assert float((live["gross"] - live["cost"]).sum()) > 0


def test_a_corrupt_artifact_is_refused_before_it_says_a_word(installation, desk, stage_hand):
    deployments, worker = stage_hand
    bad = _manifest(desk, 2)
    path = next((installation.settings.home / "blobs").glob(f"*/{bad.blob}*"))
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))
    _register(deployments, desk, bad)
    ended, stages = deploy(installation)
    assert "SHA-256" in taken_back(installation, desk, worker, ended)
    assert stages == [Stage.SHADOW]
    assert desk.signals(Stage.SHADOW) == []


def test_one_trained_on_other_features_is_refused_before_it_says_a_word(
    installation, desk, stage_hand
):
    deployments, worker = stage_hand
    fewer = replace(ENDLESS, features=PLAN.features[::-1])
    golden = np.zeros((1, len(PLAN.features)))
    bad = replace(
        _manifest(desk, 2),
        plan=fewer,
        feature_hash=feature_hash(fewer.view, fewer.features),
        golden_rows=tuple(map(tuple, golden.tolist())),
        golden_scores=(trained(2).score(golden[0]),),
    )
    assert bad.feature_hash != HASH
    _register(deployments, desk, bad)
    ended, stages = deploy(installation)
    assert "trained on" in taken_back(installation, desk, worker, ended)
    assert stages == [Stage.SHADOW]
    assert desk.signals(Stage.SHADOW) == []
