"""Rows become signals: the right ones, once, in order, and from fit rows only."""

import json
from collections import Counter
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from serving_desk import (
    HASH,
    MINUTE_US,
    MODEL,
    PLAN,
    eventually,
    last_minute,
    running,
    trained,
    unused_port,
)

from atlas.bus import forget_published, publish, revoke, set_replay
from atlas.clock import ReplayState, wall_micros
from atlas.decision import on_grid, sides
from atlas.inference.outbox import Outbox
from atlas.inference.row_feed import GROUP
from atlas.online import OnlineWriter
from atlas.serving import Signal, Stage, rows_stream

STREAM = rows_stream(PLAN.view, "A")


def expected_signal(version, stage, symbol, event_us, row, generation=1):
    score = trained(version).score(row)
    return Signal(
        model=MODEL,
        version=version,
        stage=stage,
        symbol=symbol,
        event_us=event_us,
        score=score,
        side=int(sides(score, 0.05)),
        decides=bool(on_grid(event_us, MINUTE_US, 30)),
        feature_hash=HASH,
        generation=generation,
    )


@pytest.fixture
def serving(desk, worker):
    """A worker that serves version 1 live, and 2 as its shadow."""
    desk.permit()
    desk.deploy(1, live=1, shadow=2)
    eventually(worker.leads)
    return worker


def test_every_row_becomes_one_signal_of_each_version(desk, serving):
    rows = desk.rows(3)
    rows[1, 2] = np.nan  # a null that the engine has a branch for
    event_us = last_minute()
    desk.feed(["A", "B", "C"], event_us, rows)
    eventually(lambda: len(desk.signals(Stage.SHADOW)) == 3)
    for version, stage in ((1, Stage.LIVE), (2, Stage.SHADOW)):
        assert desk.signals(stage) == [
            expected_signal(version, stage, symbol, event_us, row)
            for symbol, row in zip("ABC", rows, strict=True)
        ]


def test_a_row_that_is_told_of_twice_is_said_and_recorded_once(desk, serving):
    rows, event_us = desk.rows(1), last_minute()
    for _ in range(3):
        desk.feed(["A"], event_us, rows)
    desk.feed(["A"], event_us + 1, rows)
    eventually(lambda: len(desk.signals()) == 2)
    eventually(lambda: desk.unfinished() == 0)
    assert [s.event_us for s in desk.signals()] == [event_us, event_us + 1]
    assert len(desk.recorded()) == 4


def test_without_a_permit_no_live_signal_leaves_and_the_shadow_goes_on(desk, serving):
    revoke(desk.redis)
    event_us = desk.feed_now(["A"])
    eventually(lambda: desk.signals(Stage.SHADOW))
    assert desk.signals() == []
    assert serving.metric("halted") == 1
    records = eventually(desk.recorded)
    assert {(r["stage"], r["published"]) for r in records} == {("live", False), ("shadow", True)}
    desk.permit()
    desk.feed(["A"], event_us + 1, desk.rows(1))
    eventually(desk.signals)
    assert [s.event_us for s in desk.signals()] == [event_us + 1]


def test_a_rejected_version_is_watched_on_a_stream_of_its_own(desk, worker):
    desk.permit()
    desk.deploy(1, rejected=3)
    eventually(worker.leads)
    desk.feed_now(["A"])
    eventually(lambda: desk.signals(Stage.REJECTED))
    assert desk.signals() == []


def test_rows_that_are_not_fit_are_counted_by_reason_and_the_others_go_on(desk, serving):
    rows, event_us = desk.rows(4), last_minute()
    rows[1] = np.nan
    rows[2, 0] = np.inf
    desk.feed(["A", "B", "C"], event_us, rows[:3], carry=False)
    desk.feed(["D"], event_us - PLAN.ttl_us - 120 * MINUTE_US, rows[3:], carry=False)
    desk.redis.xadd(rows_stream(PLAN.view, "E"), {"symbol": "E", "event_us": event_us})
    desk.redis.xadd(STREAM, {"symbol": "F", "event_us": "yesterday"})
    eventually(lambda: desk.unfinished() == 0)
    assert [s.symbol for s in desk.signals()] == ["A"]
    reasons = ("not_warm", "not_finite", "stale", "missing", "malformed")
    eventually(lambda: serving.metric("unusable_total") == 5)
    counted = {r: serving.metric(f'unusable_total{{reason="{r}"}}') for r in reasons}
    assert counted == dict.fromkeys(reasons, 1)


def test_a_row_told_of_on_another_symbols_stream_is_counted_and_not_served(desk, serving):
    event_us = last_minute()
    desk.feed(["A", "B"], event_us, desk.rows(2), notify=False)
    assert rows_stream(PLAN.view, "B") != STREAM
    for symbol in "BA":
        desk.redis.xadd(STREAM, {"symbol": symbol, "event_us": event_us})
    eventually(lambda: desk.unfinished() == 0)
    assert [s.symbol for s in desk.signals()] == ["A"]
    eventually(lambda: serving.metric('unusable_total{reason="malformed"}') == 1)


def test_staleness_is_judged_by_the_replayed_markets_clock(desk, serving):
    long_ago = 1_600_000_020_000_000
    set_replay(desk.redis, ReplayState(long_ago, wall_micros(), 1.0, long_ago + MINUTE_US))
    desk.feed(["A"], long_ago, desk.rows(1))
    eventually(desk.signals)
    assert [s.event_us for s in desk.signals()] == [long_ago]


def test_a_symbol_whose_bytes_are_no_row_costs_only_that_symbol(desk, serving):
    key = desk.spoil("B")
    event_us = last_minute()
    desk.feed(["A"], event_us, desk.rows(1), notify=False)
    with desk.redis.pipeline() as pipeline:
        for symbol in "BA":
            told = {"symbol": symbol, "event_us": event_us}
            pipeline.xadd(rows_stream(PLAN.view, symbol), told)
        pipeline.execute()
    eventually(lambda: desk.unfinished() == 0)
    assert [s.symbol for s in desk.signals()] == ["A"]
    assert serving.metric('unusable_total{reason="unreadable"}') == 1
    desk.redis.delete(key)
    desk.feed(["B"], event_us, desk.rows(1))
    eventually(lambda: len(desk.signals()) == 2)
    assert serving.state()["failing"].keys() <= {"prediction_log"}


def test_rows_that_came_while_no_worker_ran_are_served_in_order(desk, settings):
    desk.permit()
    desk.deploy(1, live=1)
    with running(settings) as worker:
        eventually(worker.leads)
    rows, first_us = desk.rows(20), last_minute() - MINUTE_US
    for i in range(10):
        desk.feed(["A", "B"], first_us + i, rows[2 * i : 2 * i + 2])
    with running(settings):
        eventually(lambda: len(desk.signals()) == 20)
    said = desk.signals()
    assert [s for symbol in "AB" for s in said if s.symbol == symbol] == [
        expected_signal(1, Stage.LIVE, symbol, first_us + i, rows[2 * i + j])
        for j, symbol in enumerate("AB")
        for i in range(10)
    ]


def test_a_later_row_stands_for_those_that_nobody_carried(desk, settings):
    desk.permit()
    desk.deploy(1, live=1)
    with running(settings) as worker:
        eventually(worker.leads)
    first_us = last_minute() - MINUTE_US
    for i in range(3):
        desk.feed(["A"], first_us + i, desk.rows(1, seed=i), carry=False)
    with running(settings) as worker:
        eventually(lambda: worker.metric('unusable_total{reason="superseded"}') == 2)
    assert [s.event_us for s in desk.signals()] == [first_us + 2]


def dead_workers_rows(desk, consumer, rows, first_us):
    """Leave rows as a worker leaves them that was killed before it finished them."""
    desk.redis.xgroup_create(STREAM, GROUP, mkstream=True)
    for i, row in enumerate(rows):
        desk.feed(["A"], first_us + i, row[None])
    desk.redis.xreadgroup(GROUP, consumer, {STREAM: ">"})


def test_a_dead_workers_rows_are_served_before_newer_ones(desk, settings):
    rows, first_us = desk.rows(4), last_minute() - MINUTE_US
    dead_workers_rows(desk, "another", rows[:3], first_us)
    desk.feed(["A"], first_us + 3, rows[3:])
    desk.permit()
    desk.deploy(1, live=1)
    with running(settings):
        eventually(lambda: len(desk.signals()) == 4)
        eventually(lambda: desk.unfinished() == 0)
    assert desk.signals() == [
        expected_signal(1, Stage.LIVE, "A", first_us + i, row) for i, row in enumerate(rows)
    ]


def test_what_a_dead_worker_said_is_recorded_as_it_said_it(desk, settings):
    rows, first_us = desk.rows(2), last_minute() - MINUTE_US
    dead_workers_rows(desk, "another", rows, first_us)
    desk.permit()
    # It died after publishing the first row, and version 2 went live meanwhile.
    said = expected_signal(1, Stage.LIVE, "A", first_us, rows[0], generation=1)
    publish(desk.redis, [said])
    others = [replace(said, model="other", event_us=first_us + i) for i in range(1_200)]
    publish(desk.redis, others)
    desk.deploy(2, live=2)
    with running(settings):
        eventually(lambda: desk.recorded() and desk.unfinished() == 0)
    later = expected_signal(2, Stage.LIVE, "A", first_us + 1, rows[1], generation=2)
    assert desk.signals() == [said, *others, later]
    assert [(r["version"], r["score"], r["published"]) for r in desk.recorded()] == [
        (1, said.score, True),
        (2, later.score, True),
    ]


def test_rows_that_left_the_stream_unread_are_counted_and_finished(desk, settings):
    rows, first_us = desk.rows(3), last_minute() - MINUTE_US
    dead_workers_rows(desk, "another", rows, first_us)
    desk.redis.xtrim(STREAM, maxlen=1, approximate=False)
    desk.permit()
    desk.deploy(1, live=1)
    with running(settings) as worker:
        eventually(lambda: worker.metric('unusable_total{reason="trimmed"}') == 2)
        assert [s.event_us for s in desk.signals()] == [first_us + 2]
        assert desk.unfinished() == 0


def test_a_second_worker_takes_its_share_of_the_symbols_and_leaves_it_again(desk, settings):
    symbols = [f"S{i}" for i in range(40)]
    desk.permit()
    desk.deploy(1, live=1)
    other = settings.model_copy(update={"worker_port": unused_port()})

    def said_by(worker, first_us):
        desk.feed(symbols, first_us, desk.rows(40))
        eventually(lambda: desk.unfinished() == 0)
        return worker.metric("predictions_total")

    with running(settings) as first:
        eventually(first.leads)
        at = last_minute() - MINUTE_US
        assert said_by(first, at) == 40
        with running(other) as second:
            eventually(lambda: len(second.partitions()) == len(first.partitions()) == 8)
            assert not set(first.partitions()) & set(second.partitions())
            theirs = said_by(second, at + 1)
            assert 0 < theirs < 40
        eventually(lambda: len(first.partitions()) == 16)
        assert said_by(first, at + 2) == 40 + (40 - theirs) + 40
    assert Counter((s.symbol, s.event_us) for s in desk.signals()) == Counter(
        (symbol, at + i) for symbol in symbols for i in range(3)
    )


def test_two_models_on_one_view_are_served_side_by_side(desk, serving):
    narrow = replace(PLAN, ttl_us=PLAN.ttl_us * 2)
    desk.route(1, desk.manifest(4, Stage.LIVE, model="other_ohlcv_1m", plan=narrow))
    eventually(lambda: len(serving.state()["models"]) == 3)
    desk.feed_now(["A"])
    eventually(lambda: len(desk.signals()) == 2)
    assert {s.model: s.version for s in desk.signals()} == {MODEL: 1, "other_ohlcv_1m": 4}


def test_rows_wait_while_predictions_cannot_be_kept(desk, settings, monkeypatch):
    monkeypatch.setattr("atlas.inference.worker.Outbox", partial(Outbox, limit=2))
    desk.permit()
    desk.deploy(1, live=1)
    with running(settings) as worker:
        eventually(worker.leads)
        event_us = desk.feed_now(["A", "B"])
        eventually(lambda: worker.state()["views"][PLAN.view] == "outbox full")
        assert not worker.ready()
        desk.feed(["A"], event_us + 1, desk.rows(1))
        eventually(lambda: desk.unfinished() == 1)
        assert len(desk.signals()) == 2
        desk.redis.xtrim("atlas:outbox:predictions", maxlen=0, approximate=False)
        eventually(lambda: len(desk.signals()) == 3)
        eventually(worker.ready)


def test_a_wound_back_replay_is_served_from_its_start(desk, serving):
    event_us = desk.feed_now(["A"])
    eventually(desk.signals)
    desk.redis.delete(STREAM)
    forget_published(desk.redis, [MODEL])
    OnlineWriter(desk.redis, PLAN).forget(["A"])
    desk.feed(["A"], event_us - MINUTE_US, desk.rows(1))
    eventually(lambda: len(desk.signals()) == 2)
    assert [s.event_us for s in desk.signals()] == [event_us, event_us - MINUTE_US]


def test_a_model_is_silent_about_symbols_that_it_was_not_judged_on(desk, worker):
    desk.permit()
    own = desk.manifest(1, Stage.LIVE, symbols=("A", "C"))
    desk.route(1, own, desk.manifest(2, Stage.SHADOW))
    eventually(worker.leads)
    desk.feed_now(["A", "B", "C"])
    eventually(lambda: desk.unfinished() == 0)
    said = {stage: [s.symbol for s in desk.signals(stage)] for stage in (Stage.LIVE, Stage.SHADOW)}
    assert said == {Stage.LIVE: ["A", "C"], Stage.SHADOW: ["A", "B", "C"]}


def test_counts_say_what_was_done(desk, serving):
    desk.feed_now(["A", "B"])
    eventually(lambda: desk.unfinished() == 0)
    eventually(lambda: serving.metric("predictions_total") == 4)
    assert serving.metric(f'predictions_total{{model="{MODEL}",symbol="B"}}') == 2
    assert serving.metric("prediction_latency_seconds_count") == 4
    assert serving.metric("swaps_total") == 1
    acks = desk.redis.hgetall(f"atlas:acks:{MODEL}")
    [said] = [json.loads(ack.split(b" ", 1)[1]) for ack in acks.values()]
    assert said["versions"] == {"live": 1, "shadow": 2}
