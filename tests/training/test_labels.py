"""Labels know the future, features do not; the width of a barrier knows only the past."""

from datetime import timedelta

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from labelled_market import bars, features

from atlas.errors import InvalidInput
from atlas.features import feature_set
from atlas.market import interval_of
from atlas.training import Target, default_target, label_events, meta_labels

MINUTE = interval_of("1m")
TARGET = default_target(MINUTE)


def one_symbol(n: int = 2_000) -> pl.DataFrame:
    return bars().filter(pl.col("symbol") == "SIM_A").head(n)


def test_decisions_lie_on_the_grid() -> None:
    events = label_events(one_symbol(), MINUTE, TARGET)
    minutes = events["event_timestamp"].dt.epoch("s") // 60
    assert (minutes % 30).unique().to_list() == [0]
    assert events.height == pytest.approx(2_000 / 30, abs=6)


def test_a_label_is_the_first_barrier_touched() -> None:
    own = one_symbol()
    events = label_events(own, MINUTE, TARGET)
    rows = own.rows(named=True)
    at = {row["event_timestamp"]: i for i, row in enumerate(rows)}
    expected = []
    for moment in events["event_timestamp"]:
        i = at[moment]
        steps = np.diff(np.log([row["close"] for row in rows[max(0, i - 121) : i]]))
        width = np.std(steps[-120:], ddof=1) * np.sqrt(60)
        entry, label = rows[i]["close"], 0
        for row in rows[i + 1 : i + 61]:
            if row["low"] <= entry * (1 - width):
                label = -1
            elif row["high"] >= entry * (1 + width):
                label = 1
            if label:
                break
        else:
            label = int(np.sign(rows[i + 60]["close"] - entry))
        expected.append(label)
    assert events["label"].to_list() == expected
    assert set(expected) == {-1, 1}


def test_the_return_until_the_next_decision_is_close_to_close() -> None:
    own = one_symbol()
    events = label_events(own, MINUTE, TARGET)
    close = dict(own.select("event_timestamp", "close").iter_rows())
    last = own["event_timestamp"][-1]
    expected = [
        close[min(t + timedelta(minutes=30), last)] / close[t] - 1
        for t in events["event_timestamp"]
    ]
    assert events["forward_return"].to_list() == pytest.approx(expected)


def test_the_future_moves_labels_and_no_feature_nor_any_barrier_that_was_set() -> None:
    cut = bars()["event_timestamp"][10_000]
    shifted = bars().with_columns(
        pl.when(pl.col("event_timestamp") > cut).then(pl.col(c) * 1.1).otherwise(pl.col(c)).alias(c)
        for c in ("open", "high", "low", "close")
    )
    past = pl.col("event_timestamp") <= cut
    for view in ("ohlcv_1m", "lunar_1m"):
        again = feature_set(view).compute(shifted.lazy()).collect()
        assert again.filter(past).equals(features(view).filter(past))
    before, after = (label_events(b, MINUTE, TARGET) for b in (bars(), shifted))
    horizon = cut - timedelta(minutes=60)
    known = pl.col("event_timestamp") <= horizon
    assert before.filter(known).equals(after.filter(known))
    crossing = pl.col("event_timestamp").is_between(horizon, cut, closed="right")
    assert not before.filter(crossing)["ret"].equals(after.filter(crossing)["ret"])


def test_longer_bars_decide_on_every_bar() -> None:
    assert default_target(interval_of("1h")) == Target(1, 2, 1.0)
    assert default_target(interval_of("5m")) == Target(6, 12, 1.0)


def test_a_target_that_makes_no_sense_is_refused() -> None:
    with pytest.raises(ValueError, match="decision_bars <= horizon_bars"):
        Target(decision_bars=10, horizon_bars=5, width=1.0)


def test_a_meta_label_says_whether_following_paid() -> None:
    assert meta_labels([1, 1, -1, -1, 0, 1], [0.1, -0.1, -0.1, 0.1, 0.1, 0.0]).tolist() == [
        1,
        0,
        1,
        0,
        0,
        0,
    ]


@settings(max_examples=50)
@given(st.lists(st.tuples(st.sampled_from([-1, 0, 1]), st.floats(-1, 1)), max_size=30))
def test_turning_market_and_side_changes_no_meta_label(pairs: list[tuple[int, float]]) -> None:
    sides, returns = np.array([s for s, _ in pairs], int), np.array([r for _, r in pairs])
    found = meta_labels(sides, returns)
    assert found.tolist() == meta_labels(-sides, -returns).tolist()
    assert found.tolist() == meta_labels(sides, 3 * returns).tolist()
    assert (found + meta_labels(sides, -returns) <= 1).all()


@pytest.mark.parametrize(("sides", "returns"), [([2], [0.1]), ([1], [np.nan]), ([1, 1], [0.1])])
def test_meta_labels_of_nonsense_are_refused(sides: list[int], returns: list[float]) -> None:
    with pytest.raises(InvalidInput, match="found"):
        meta_labels(sides, returns)
