"""A feature that looks ahead is named; honest ones agree with themselves to the last bit."""

from dataclasses import replace
from datetime import timedelta

import polars as pl
import pytest
from labelled_market import bars, candidate, features, join_in_memory
from peeking import peeking

from atlas.training import audit_features, join_features, label_events


@pytest.mark.parametrize("leaks", [False, True])
def test_only_features_that_see_the_future_are_named(leaks: bool) -> None:
    wanted = candidate()
    features_ = (
        peeking(wanted.features, name="return_1", bars_ahead=1) if leaks else wanted.features
    )
    wanted = replace(wanted, features=features_)
    rows = features_.compute(bars().lazy()).collect()
    events = label_events(bars(), wanted.features.interval, wanted.target)
    frame = join_features(events, wanted, join_in_memory(rows), min_rows=100)
    found = audit_features(features_, frame, bars())
    assert found.rows > 50
    assert found.leaked == (("return_1",) if leaks else ())


def test_rows_whose_bars_came_late_are_passed_over() -> None:
    wanted = candidate()
    events = label_events(bars(), wanted.features.interval, wanted.target)
    frame = join_features(events, wanted, join_in_memory(features("ohlcv_1m")), min_rows=100)
    late = bars().with_columns(
        known_at=pl.when(pl.col("symbol") == "SIM_A")
        .then(pl.col("event_timestamp") + timedelta(days=400))
        .otherwise("known_at"),
        close=pl.when(pl.col("symbol") == "SIM_A").then(pl.col("close") * 1.01).otherwise("close"),
    )
    whole = audit_features(wanted.features, frame, bars())
    part = audit_features(wanted.features, frame, late)
    assert part.leaked == ()
    assert 0 < part.rows < whole.rows
