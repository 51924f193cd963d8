"""A canary trades its units and no others, and a bad one costs the desk no signal."""

import time
from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from serving_desk import (
    HASH,
    MINUTE_US,
    PLAN,
    Trained,
    eventually,
    last_minute,
    running,
    trained,
    unused_port,
)

from atlas.engines import Dataset, XGBoostEngine
from atlas.serving import Manifest, Stage

HOUR_US = 60 * MINUTE_US
SYMBOLS = [f"S{i}" for i in range(40)]


def canary(desk: Any, share: float, **changes: Any) -> Manifest:
    return desk.manifest(2, Stage.CANARY, share=share, split="2", **changes)


def by_row(signals):
    return {(s.symbol, s.event_us): (s.stage, s.version, s.score) for s in signals}


@given(st.floats(0, 1), st.text(max_size=9), st.text(min_size=1, max_size=9), st.integers(0, 2**52))
def test_a_unit_is_a_symbol_in_an_hour_and_keeps_its_side_as_the_share_grows(
    share, split, symbol, event_us
):
    base = Manifest("m", 1, Stage.CANARY, 1, "x", "b", PLAN, HASH, "1m", 0.0, 1)
    small, large = (replace(base, share=s, split=split) for s in (share, min(1.0, share * 1.5)))
    takes = small.takes(symbol, event_us, "w")
    hour = event_us // HOUR_US * HOUR_US
    assert takes == small.takes(symbol, hour, "w") == small.takes(symbol, hour + HOUR_US - 1, "v")
    assert large.takes(symbol, event_us, "w") or not takes
    assert replace(base, share=0.0, workers=("w",)).takes(symbol, event_us, "w")
    assert not replace(base, share=0.0, split=split).takes(symbol, event_us, "w")
    assert replace(base, share=1.0, split=split).takes(symbol, event_us, "w")


@pytest.mark.parametrize("share", [0.1, 0.25, 0.5])
def test_the_units_given_are_the_share_asked_for(share):
    base = Manifest("m", 1, Stage.CANARY, 1, "x", "b", PLAN, HASH, "1m", 0.0, 1)
    manifest = replace(base, share=share, split="7")
    # Five symbols for a year.
    given_ = [
        manifest.takes(f"S{i}", hour * HOUR_US, "w") for i in range(5) for hour in range(8_760)
    ]
    error = np.sqrt(share * (1 - share) / len(given_))
    assert abs(np.mean(given_) - share) < 4 * error
    lengths = np.diff(np.flatnonzero(np.diff(given_)))
    # Whether the next hour is its own does not depend on whether this one was.
    assert abs(np.corrcoef(given_[:-1], given_[1:])[0, 1]) < 4 / np.sqrt(len(given_))
    assert lengths.size


def test_of_each_row_exactly_one_version_speaks_by_whose_unit_it_is(desk, worker):
    desk.permit()
    manifest = canary(desk, 0.25)
    desk.route(1, desk.manifest(1, Stage.LIVE), manifest)
    eventually(worker.leads)
    rows, first_us = desk.rows(3 * 40), last_minute() - MINUTE_US
    for i in range(3):
        desk.feed(SYMBOLS, first_us + i, rows[40 * i : 40 * i + 40])
    eventually(lambda: len(desk.signals()) == 120)
    expected = {}
    for i in range(3):
        for j, symbol in enumerate(SYMBOLS):
            own = manifest.takes(symbol, first_us + i, "")
            version = 2 if own else 1
            score = trained(version).score(rows[40 * i + j])
            stage = Stage.CANARY if own else Stage.LIVE
            expected[symbol, first_us + i] = (stage, version, score)
    assert by_row(desk.signals()) == expected
    assert {stage for stage, *_ in expected.values()} == {Stage.LIVE, Stage.CANARY}
    kept = Counter((r["stage"], r["version"]) for r in desk.recorded())
    assert kept == Counter((str(stage), version) for stage, version, _ in expected.values())


def test_a_growing_share_takes_no_unit_away(desk, worker):
    desk.permit()
    desk.route(1, desk.manifest(1, Stage.LIVE), canary(desk, 0.1))
    eventually(worker.leads)
    first_us = last_minute()
    own = []
    for step, share in enumerate((0.1, 0.5)):
        desk.route(2 + step, desk.manifest(1, Stage.LIVE), canary(desk, share))
        eventually(lambda: worker.state()["models"][1]["generation"] == 2 + step)  # noqa: B023
        desk.feed(SYMBOLS, first_us + step, desk.rows(40))
        eventually(lambda: desk.unfinished() == 0)
        said = [s for s in desk.signals() if s.event_us == first_us + step]
        assert len(said) == 40
        own.append({s.symbol for s in said if s.stage is Stage.CANARY})
    assert own[0] < own[1]


def test_where_a_canary_fails_the_live_version_speaks(desk, worker, monkeypatch):
    desk.permit()
    desk.route(1, desk.manifest(1, Stage.LIVE), canary(desk, 1.0))
    eventually(lambda: worker.serving() == {"live": 1, "canary": 2})
    eventually(worker.leads)
    monkeypatch.setattr(XGBoostEngine, "score", failing(XGBoostEngine.score))
    rows, event_us = desk.rows(40), last_minute()
    desk.feed(SYMBOLS, event_us, rows)
    eventually(lambda: len(desk.signals()) == 40)
    assert by_row(desk.signals()) == {
        (symbol, event_us): (
            (Stage.LIVE, 1, trained(1).score(row))
            if row[3] < 0
            else (Stage.CANARY, 2, trained(2).score(row))
        )
        for symbol, row in zip(SYMBOLS, rows, strict=True)
    }
    failed = int((rows[:, 3] < 0).sum())
    ack = eventually(lambda: served_of(desk, 2, errors=failed))
    assert (ack.rows, ack.errors) == (40 - failed, failed)


def failing(score):
    """Version 2, known by its seed, raises on a low rsi."""

    def asked(engine, rows):
        if engine.seed == 2 and (rows[:, 3] < 0).any():
            raise ValueError("no opinion of a low rsi")
        return score(engine, rows)

    return asked


def served_of(desk, version, *, errors):
    from serving_desk import MODEL

    from atlas.bus import read_acks

    for ack in read_acks(desk.redis, MODEL).values():
        found = ack.served.get(version)
        if found is not None and found.errors >= errors:
            return found
    return None


@pytest.fixture(scope="module")
def slow_model():
    """A model of so many trees that a batch of forty rows takes it most of a second."""
    rng = np.random.default_rng(7)
    X = rng.normal(size=(600, len(PLAN.features)))
    y = np.where(X[:, 0] + 0.1 * rng.normal(size=600) > 0, 1, -1)
    spans = np.column_stack([np.arange(600), np.arange(600) + 5])
    dataset = Dataset(X, y, features=PLAN.features, intervals=spans, symbols=["BTC_USDT"] * 600)
    engine = XGBoostEngine(n_rounds=6_000, max_depth=6, seed=9, learning_rate=1e-4).fit(dataset)
    return Trained(engine, engine.dump())


@pytest.mark.parametrize("stage", [Stage.CANARY, Stage.SHADOW])
def test_a_slow_candidate_holds_up_nobody(desk, worker, slow_model, monkeypatch, stage):
    monkeypatch.setattr("atlas.inference.view_consumer._CALL_S", 0.002)
    monkeypatch.setattr("atlas.inference.view_consumer._ROW_S", 0.0)
    desk.permit()
    golden = np.random.default_rng(0).normal(size=(4, len(PLAN.features)))
    slow = desk.manifest(
        2,
        stage,
        blob=desk.blobs.put(slow_model.data),
        golden_rows=tuple(map(tuple, golden.tolist())),
        golden_scores=tuple(slow_model.score(row) for row in golden),
        share=1.0,
    )
    desk.route(1, desk.manifest(1, Stage.LIVE), slow)
    eventually(lambda: worker.serving() == {"live": 1, stage.value: 2})
    eventually(worker.leads)
    first_us, n_bars = last_minute() - MINUTE_US, 20
    began = time.monotonic()
    for i in range(n_bars):
        desk.feed(SYMBOLS, first_us + i, desk.rows(40, seed=i))
    eventually(lambda: desk.unfinished() == 0)
    took = time.monotonic() - began
    live = [s for s in desk.signals() if s.stage is Stage.LIVE]
    assert len(live) >= 0.9 * 40 * n_bars
    assert len(desk.signals()) == 40 * n_bars
    assert served_of(desk, 2, errors=1) or eventually(lambda: served_of(desk, 2, errors=1))
    assert took < 10


def test_rolling_lets_the_named_worker_trade_it_and_the_others_not(desk, settings):
    desk.permit()
    desk.deploy(1, live=1)
    other = settings.model_copy(update={"worker_port": unused_port()})
    with running(settings) as first, running(other) as second:
        eventually(lambda: len(first.partitions()) == len(second.partitions()) == 8)
        named = first.state()["worker"]
        manifest = desk.manifest(2, Stage.CANARY, share=0.0, workers=(named,))
        desk.route(2, desk.manifest(1, Stage.LIVE), manifest)
        for face in (first, second):
            eventually(lambda face=face: face.serving() == {"live": 1, "canary": 2})
        before = [face.metric("predictions_total") for face in (first, second)]
        event_us = last_minute()
        desk.feed(SYMBOLS, event_us, desk.rows(40))
        eventually(lambda: len(desk.signals()) == 40)
        eventually(lambda: desk.unfinished() == 0)
        said = Counter(s.stage for s in desk.signals())
        made = [
            face.metric("predictions_total") - n
            for face, n in zip((first, second), before, strict=True)
        ]
    assert said == {Stage.CANARY: made[0], Stage.LIVE: made[1]}
    assert min(made) > 0
