"""Two versions are compared over the same time, and only over hours that are over."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atlas.deployment.experiments import long_run_variance, paired_hours, split_periods
from atlas.matured import HOUR_US, PROFIT_SCHEMA

Unit = tuple[int, str, float]
units = st.dictionaries(
    st.tuples(st.integers(0, 12), st.sampled_from("ABC")), st.floats(-0.1, 0.1), max_size=30
).map(lambda found: [(hour, symbol, net) for (hour, symbol), net in sorted(found.items())])


def rows(own: list[Unit], *, until: int = 20) -> pl.DataFrame:
    """Return rows of whole units of traffic, and one of another symbol that ends much later."""
    fields = [
        ("m", "live", 1, symbol, hour * HOUR_US, (hour + 1) * HOUR_US, 1, net, 0.0)
        for hour, symbol, net in own
    ]
    last = ("m", "live", 1, "Z", (until - 1) * HOUR_US, until * HOUR_US, 0, 0.0, 0.0)
    return pl.DataFrame([*fields, last], schema=PROFIT_SCHEMA, orient="row")


def means(own: list[Unit]) -> dict[int, list[float]]:
    hours: dict[int, list[float]] = {}
    for hour, _, net in own:
        hours.setdefault(hour, []).append(net)
    return hours


@settings(deadline=None)
@given(units, units, st.integers(0, 12))
def test_paired_arms_are_the_hours_that_both_held(ours: list[Unit], theirs: list[Unit], since: int):
    found = paired_hours(rows(ours), rows(theirs), since_us=since * HOUR_US)
    one, two = means(ours), means(theirs)
    both = [hour for hour in sorted(one.keys() & two.keys()) if hour >= since]
    assert list(found.champion) == pytest.approx([np.mean(one[h]) for h in both], abs=1e-15)
    assert list(found.challenger) == pytest.approx([np.mean(two[h]) for h in both], abs=1e-15)


@settings(deadline=None)
@given(units, units)
def test_a_split_period_lasts_until_both_have_had_a_unit(ours: list[Unit], theirs: list[Unit]):
    found = split_periods(rows(ours), rows(theirs))
    expected: list[tuple[float, float]] = []
    one: list[float] = []
    two: list[float] = []
    for hour in range(13):
        one += means(ours).get(hour, [])
        two += means(theirs).get(hour, [])
        if one and two:
            expected.append((float(np.mean(one)), float(np.mean(two))))
            one, two = [], []
    assert list(found.champion) == pytest.approx([a for a, _ in expected], abs=1e-15)
    assert list(found.challenger) == pytest.approx([b for _, b in expected], abs=1e-15)


def test_an_hour_counts_when_no_row_of_it_can_still_come():
    ours = [(hour, "A", 0.01) for hour in range(6)]
    theirs = [(hour, "A", 0.02) for hour in range(4)]
    counted = paired_hours(rows(ours, until=7), rows(theirs, until=5)).champion.size
    # The slower one tells of five hours, the last of which may be a symbol short.
    assert counted == 4


def test_nobody_is_compared_with_nothing():
    empty = pl.DataFrame(schema=PROFIT_SCHEMA)
    assert paired_hours(rows([(0, "A", 0.1)]), empty).champion.size == 0
    assert split_periods(empty, empty).challenger.size == 0


@pytest.mark.parametrize("root", [0.0, 0.5])
def test_the_variance_pays_for_dependence(root: float):
    rng = np.random.default_rng(1)
    path = rng.standard_normal(50_000)
    for hour in range(1, path.size):
        path[hour] += root * path[hour - 1]
    assert long_run_variance(path) == pytest.approx(1 / (1 - root) ** 2, rel=0.1)
