"""What is made of profit rows: hours, trades, and whether they hold what the gates expected."""

import math
from itertools import pairwise

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atlas.errors import InvalidInput
from atlas.matured import HOUR_US, PROFIT_SCHEMA, hourly_returns, mature, trade_returns

PER_SIDE = 0.0007
Row = tuple[str, int, int, int, float, float]


def frame(rows: list[Row], version: int = 1) -> pl.DataFrame:
    """Build from symbol, from, to, side, gross and cost."""
    fields = [("m", "live", version, *row) for row in rows]
    return pl.DataFrame(fields, schema=PROFIT_SCHEMA, orient="row")


@st.composite
def ledgers(draw: st.DrawFn) -> list[Row]:
    """Draw rows of up to three symbols, with pauses in which another route owned them."""
    rows: list[Row] = []
    for symbol in draw(st.lists(st.sampled_from("ABC"), unique=True, max_size=3)):
        moment, held = draw(st.integers(0, 10)) * HOUR_US // 4, 0
        for _ in range(draw(st.integers(0, 12))):
            if draw(st.integers(0, 4)) == 0:
                moment += draw(st.integers(1, 12)) * HOUR_US // 4
                held = draw(st.sampled_from([-1, 0, 1]))  # what the other route left
            side = draw(st.sampled_from([-1, 0, 1]))
            until = moment + draw(st.integers(1, 12)) * HOUR_US // 4
            gross = side * draw(st.floats(-0.1, 0.1))
            rows.append((symbol, moment, until, side, gross, PER_SIDE * abs(side - held)))
            moment, held = until, side
    return rows


def hours_by_hand(rows: list[Row]) -> list[tuple[int, float, int]]:
    held: dict[int, set[str]] = {}
    net: dict[int, float] = {}
    for symbol, begin, end, _, gross, cost in rows:
        first = begin // HOUR_US
        net[first] = net.get(first, 0.0) + gross - cost
        held.setdefault(first, set()).add(symbol)
        for hour in range(first + 1, end // HOUR_US):
            held.setdefault(hour, set()).add(symbol)
    return [(h, net.get(h, 0.0) / len(held[h]), len(held[h])) for h in sorted(held)]


def trades_by_hand(rows: list[Row]) -> list[float]:
    trades: list[float] = []
    for symbol in sorted({row[0] for row in rows}):
        path = sorted(row for row in rows if row[0] == symbol)
        previous: Row | None = None
        running: float | None = None
        for row in path:
            _, begin, _, side, gross, cost = row
            joined = previous is not None and previous[2] == begin
            if not (joined and previous is not None and previous[3] == side):
                exit_cost = PER_SIDE * abs(previous[3]) if joined and previous is not None else 0.0
                if running is not None:
                    trades.append(running - exit_cost)
                running = exit_cost if side else None
            if running is not None:
                running += gross - cost
            previous = row
        if running is not None:
            trades.append(running)
    return trades


@settings(deadline=None)
@given(ledgers(), st.randoms())
def test_hours_and_trades_are_those_counted_by_hand(rows: list[Row], random: object) -> None:
    shuffled = list(rows)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    found = hourly_returns(frame(shuffled)).rows()
    expected = hours_by_hand(rows)
    assert [(h, n) for h, _, n in found] == [(h, n) for h, _, n in expected]
    assert [r for _, r, _ in found] == pytest.approx([r for _, r, _ in expected], abs=1e-12)
    assert list(trade_returns(frame(shuffled))) == pytest.approx(trades_by_hand(rows), abs=1e-12)


def test_a_tenth_of_the_traffic_earns_by_the_unit_what_all_of_it_does() -> None:
    everything = [
        (s, h * HOUR_US, (h + 1) * HOUR_US, 1, 0.01, 0.0) for s in "ABCDE" for h in (0, 1)
    ]
    one = [everything[0]]
    assert mature(frame(one)).mean == pytest.approx(mature(frame(everything)).mean)


def test_figures_of_a_short_record_say_that_they_do_not_know() -> None:
    found = mature(frame([("A", 0, HOUR_US, 1, 0.02, 0.01)]), expected=0.5)
    assert (found.trades, found.win_rate, found.hours, found.since_us) == (1, 1.0, 1, 0)
    assert math.isnan(found.error)
    assert (found.shortfall_p, found.meets_expectation()) == (None, None)


def test_nothing_earned_is_no_figure() -> None:
    found = mature(frame([]))
    assert (found.trades, found.hours, found.net, found.since_us) == (0, 0, 0.0, None)
    assert math.isnan(found.mean)


def test_rows_of_two_versions_are_refused() -> None:
    row = ("A", 0, HOUR_US, 1, 0.02, 0.01)
    with pytest.raises(InvalidInput, match="one version on one route; found 2"):
        mature(pl.concat([frame([row]), frame([row], version=2)]))


def hourly(returns: np.ndarray) -> pl.DataFrame:
    return frame([("A", h * HOUR_US, (h + 1) * HOUR_US, 1, r, 0.0) for h, r in enumerate(returns)])


def test_drawdown_is_that_of_the_hours() -> None:
    assert mature(hourly(np.array([0.1, -0.2, 0.05]))).max_drawdown == pytest.approx(0.2)


@pytest.mark.parametrize("root", [0.0, 0.5])
def test_the_expectation_is_held_to_be_missed_no_more_often_than_it_should_be(root: float) -> None:
    rng = np.random.default_rng(5)
    missed = 0
    for _ in range(400):
        noise = rng.standard_t(4, 700) * 0.01
        for hour in range(1, noise.size):
            noise[hour] += root * noise[hour - 1]
        found = mature(hourly(0.001 + noise[200:]), expected=0.001)
        missed += not found.meets_expectation(0.05)
    # A rate of 5 % is exceeded by so much once in a thousand times.
    assert missed <= 36
    assert missed >= 6


def test_a_version_that_loses_what_it_should_earn_is_found_out() -> None:
    rng = np.random.default_rng(6)
    found = mature(hourly(rng.normal(-0.001, 0.01, 2_000)), expected=0.001)
    assert found.meets_expectation() is False
    assert [a <= b for a, b in pairwise([found.mean, 0.0, 0.001])] == [True, True]
