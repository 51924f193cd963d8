"""Signals in their streams: exact, in order, once."""

import asyncio
import dataclasses
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis import Redis

from atlas.bus import (
    SIGNAL_STAGES,
    Publication,
    connect_async,
    forget_published,
    grant,
    latest_signals,
    publish,
    publish_async,
    read_signals,
)
from atlas.errors import InvalidInput
from atlas.serving import Signal, Stage, signals_stream

SIGNALS = st.builds(
    Signal,
    model=st.sampled_from(["direction_ohlcv_1m", "direction_ohlcv_1h"]),
    version=st.integers(1, 2**31),
    stage=st.sampled_from(SIGNAL_STAGES),
    symbol=st.sampled_from(["BTC_USDT", "ETH_USDT", "SIM_A"]),
    event_us=st.integers(0, 2**53 - 1),
    score=st.floats(0, 1),
    side=st.sampled_from([-1, 0, 1]),
    decides=st.booleans(),
    feature_hash=st.text("0123456789abcdef", min_size=16, max_size=16),
    generation=st.integers(0, 2**53),
)


def one(event_us: int = 1, **changes: object) -> Signal:
    signal = Signal("m", 3, Stage.LIVE, "BTC_USDT", event_us, 0.61, 1, True, "abc", 7)
    return dataclasses.replace(signal, **changes)  # type: ignore[arg-type]


def expected_of(batches: list[list[Signal]]) -> tuple[list[list[str]], dict[str, list[Signal]]]:
    """The rule, told slowly: per model, stream and symbol, time moves forward only."""
    newest: dict[tuple[str, str, str], int] = {}
    replies, streams = [], {signals_stream(stage): list[Signal]() for stage in SIGNAL_STAGES}
    for batch in batches:
        said = []
        for signal in batch:
            key = (signal.model, signals_stream(signal.stage), signal.symbol)
            fresh = signal.event_us > newest.get(key, -1)
            if fresh:
                newest[key] = signal.event_us
                streams[signals_stream(signal.stage)].append(signal)
            said.append("published" if fresh else "duplicate")
        replies.append(said)
    return replies, streams


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(batches=st.lists(st.lists(SIGNALS, max_size=12), max_size=5))
def test_streams_hold_every_new_signal_exactly_and_once(
    redis: Redis, batches: list[list[Signal]]
) -> None:
    redis.flushall()
    grant(redis, "ada")
    replies = [publish(redis, batch) for batch in batches]
    streams = {
        signals_stream(s): [x for _, x in latest_signals(redis, s, 1_000)] for s in SIGNAL_STAGES
    }
    assert (replies, streams) == expected_of(batches)


def test_the_event_loop_publishes_the_same(redis: Redis, redis_port: int) -> None:
    grant(redis, "ada")

    async def speak() -> list[Publication]:
        client = connect_async(port=redis_port)
        try:
            return await publish_async(client, [one(1), one(2), one(2)])
        finally:
            await client.aclose()

    assert asyncio.run(speak()) == ["published", "published", "duplicate"]
    assert [signal for _, signal in latest_signals(redis, Stage.LIVE, 9)] == [one(1), one(2)]


def test_an_older_row_that_comes_late_is_a_duplicate(redis: Redis) -> None:
    grant(redis, "ada")
    assert publish(redis, [one(5), one(4)]) == ["published", "duplicate"]


def test_a_new_version_does_not_repeat_what_the_former_one_said(redis: Redis) -> None:
    grant(redis, "ada")
    publish(redis, [one(5)])
    assert publish(redis, [one(5, version=4)]) == ["duplicate"]


def test_a_repeat_during_a_halt_is_told_as_a_repeat(redis: Redis) -> None:
    grant(redis, "ada")
    publish(redis, [one(5)])
    redis.delete("atlas:permit")
    assert publish(redis, [one(5), one(6)]) == ["duplicate", "halted"]


def test_only_live_signals_reach_the_stream_that_is_traded(redis: Redis) -> None:
    grant(redis, "ada")
    publish(redis, [one(1, stage=Stage.SHADOW), one(1, stage=Stage.REJECTED), one(1)])
    assert signals_stream(Stage.LIVE) == "atlas:signals"
    entries: Any = redis.xrange("atlas:signals")
    assert [fields[b"stage"] for _, fields in entries] == [b"live"]


def test_of_one_row_either_the_live_version_or_the_canary_speaks(redis: Redis) -> None:
    grant(redis, "ada")
    canary = one(5, stage=Stage.CANARY, version=4)
    assert publish(redis, [canary]) == ["published"]
    assert publish(redis, [one(5), one(6)]) == ["duplicate", "published"]
    assert [s for _, s in latest_signals(redis, Stage.LIVE, 9)] == [canary, one(6)]


def test_a_canary_needs_the_permit(redis: Redis) -> None:
    assert publish(redis, [one(5, stage=Stage.CANARY)]) == ["halted"]


@pytest.mark.parametrize("stage", sorted(set(Stage) - set(SIGNAL_STAGES)))
def test_other_stages_have_nothing_to_say(redis: Redis, stage: Stage) -> None:
    with pytest.raises(InvalidInput, match="stage with signals"):
        publish(redis, [one(stage=stage)])


def test_a_forecast_return_may_lie_below_zero(redis: Redis) -> None:
    grant(redis, "ada")
    publish(redis, [one(score=-0.013)])
    assert [s.score for _, s in latest_signals(redis, Stage.LIVE, 9)] == [-0.013]


@pytest.mark.parametrize("score", [float("nan"), float("inf")])
def test_a_score_that_is_no_number_publishes_nothing_of_its_batch(
    redis: Redis, score: float
) -> None:
    grant(redis, "ada")
    with pytest.raises(InvalidInput, match="score that is a number"):
        publish(redis, [one(1), one(2, score=score)])
    assert redis.keys("atlas:signals*") == []


def test_numbers_of_numpy_are_published_exactly(redis: Redis) -> None:
    grant(redis, "ada")
    score = np.float32(0.1)
    publish(
        redis,
        [one(np.int64(7), score=score, side=np.int8(-1), decides=np.bool_(True))],  # type: ignore[arg-type]
    )
    [(_, signal)] = latest_signals(redis, Stage.LIVE, 9)
    assert signal == one(7, score=float(score), side=-1, decides=True)


def test_an_empty_batch_asks_nothing_of_redis(redis: Redis) -> None:
    assert publish(redis, []) == []


def test_a_stream_is_kept_short(redis: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("atlas.bus.signals.STREAM_LENGTH", 200)
    grant(redis, "ada")
    for start in range(0, 2_000, 500):
        publish(redis, [one(start + i) for i in range(1, 501)])
    # Redis trims whole nodes of its list, so a little more than asked for stays.
    length: Any = redis.xlen("atlas:signals")
    assert 200 <= length < 500
    assert latest_signals(redis, Stage.LIVE, 1)[0][1].event_us == 2_000


def test_reading_goes_on_where_it_left_off_and_waits_for_more(redis: Redis) -> None:
    grant(redis, "ada")
    publish(redis, [one(1), one(2), one(3)])
    first = read_signals(redis, Stage.LIVE, after="0", count=2)
    second = read_signals(redis, Stage.LIVE, after=first[-1][0], count=2)
    assert [s.event_us for _, s in first + second] == [1, 2, 3]
    assert read_signals(redis, Stage.LIVE, after=second[-1][0], wait_ms=10) == []


def test_a_replay_that_is_wound_back_may_speak_again_once_told(redis: Redis) -> None:
    grant(redis, "ada")
    publish(redis, [one(5), one(5, model="other")])
    forget_published(redis, ["m"])
    assert publish(redis, [one(2), one(2, model="other")]) == ["published", "duplicate"]


def test_scripts_survive_a_redis_that_forgot_them(redis: Redis) -> None:
    grant(redis, "ada")
    publish(redis, [one(1)])
    redis.script_flush()
    assert publish(redis, [one(2)]) == ["published"]
