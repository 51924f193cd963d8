"""Costs are charged once, where they happen, and trades add up to the path."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atlas.errors import InvalidInput
from atlas.fills import Costs, held, net_returns, trades

TEN = Costs(fee_bps=5, half_spread_bps=3, slippage_bps=2)  # 10 basis points a side

paths = st.lists(
    st.tuples(st.sampled_from([-1, 0, 1]), st.floats(-0.2, 0.2)), min_size=1, max_size=40
).map(lambda rows: (np.array([r[0] for r in rows]), np.array([r[1] for r in rows])))

costs = st.builds(
    Costs,
    fee_bps=st.floats(0, 50),
    half_spread_bps=st.floats(0, 50),
    slippage_bps=st.floats(0, 50),
)


def slow_trades(position, bar_returns, per_side):
    """Open, hold and close one trade after the other, as a broker would book them."""
    booked, side, start, profit = [], 0, 0, 0.0
    for i, wanted in enumerate([*position, 0]):
        if wanted != side:
            if side:
                booked.append((start, i - 1, side, profit - per_side))
            side, start, profit = wanted, i, -per_side
        if i < len(position):
            profit += side * bar_returns[i]
    return booked


@settings(max_examples=50, deadline=None)
@given(paths, costs)
def test_trades_equal_the_brokers_book(path, cost):
    position, market = path
    found = trades(position, net_returns(position, market, cost), cost)
    expected = slow_trades(position, market, cost.per_side)
    assert list(zip(found.start, found.end, found.side, strict=True)) == [t[:3] for t in expected]
    assert found.net == pytest.approx(np.array([t[3] for t in expected]), abs=1e-12)


@settings(max_examples=50, deadline=None)
@given(paths, costs)
def test_trades_add_up_to_the_path(path, cost):
    position, market = path
    net = net_returns(position, market, cost)
    assert trades(position, net, cost).net.sum() == pytest.approx(net.sum(), abs=1e-12)


@settings(max_examples=50, deadline=None)
@given(paths, costs)
def test_costs_never_help(path, cost):
    position, market = path
    free = net_returns(position, market, Costs.free())
    assert (net_returns(position, market, cost) <= free).all()
    assert free == pytest.approx(position * market)


def test_a_path_by_hand():
    """Long two bars, flip to short one, flat, long at the end: seven sides in all."""
    position = [0, 1, 1, -1, 0, 1]
    market = [0.05, 0.01, 0.02, -0.03, 0.04, 0.01]
    net = net_returns(position, market, TEN)
    assert net == pytest.approx([0, 0.009, 0.02, 0.028, -0.001, 0.008])
    found = trades(position, net, TEN)
    assert found.start.tolist() == [1, 3, 5]
    assert found.end.tolist() == [2, 3, 5]
    assert found.side.tolist() == [1, -1, 1]
    assert found.net == pytest.approx([0.028, 0.028, 0.008])
    assert len(found) == 3


def test_a_flip_gives_each_trade_its_own_entry_and_exit():
    position, market = [1, -1], [0.0015, -0.0015]
    found = trades(position, net_returns(position, market, TEN), TEN)
    assert found.net == pytest.approx([-0.0005, -0.0005])
    assert found.wins.tolist() == [False, False]


def test_a_fraction_of_a_unit_pays_for_its_change_only():
    net = net_returns([0.5, 1.0, 0.25], [0.0, 0.0, 0.0], TEN)
    assert net == pytest.approx([-0.0005, -0.0005, -0.001])


def test_a_path_without_a_position_has_no_trade():
    assert len(trades([0, 0], [0.0, 0.0], TEN)) == 0
    assert len(trades([], [], TEN)) == 0
    assert net_returns([], [], TEN).size == 0


def test_a_decision_acts_from_the_bar_after_its_own():
    assert held([1, -1, 0], [1, 3, 6], 9).tolist() == [0, 0, 1, 1, -1, -1, -1, 0, 0]


def test_a_decision_at_the_last_close_never_acts():
    assert held([1, -1], [0, 3], 4).tolist() == [0, 1, 1, 1]


@settings(max_examples=50, deadline=None)
@given(st.data(), st.integers(1, 30))
def test_what_is_held_never_depends_on_a_later_decision(data, n_bars):
    at = sorted(data.draw(st.sets(st.integers(0, n_bars - 1))))
    side = st.sampled_from([-1, 0, 1])
    decisions = data.draw(st.lists(side, min_size=len(at), max_size=len(at)))
    bar = data.draw(st.integers(0, n_bars - 1))
    known = [(i, d) for i, d in zip(at, decisions, strict=True) if i < bar]
    expected = known[-1][1] if known else 0
    assert held(decisions, at, n_bars)[bar] == expected


def test_costs_by_hand():
    assert TEN.per_side == pytest.approx(0.001)
    assert Costs.crypto_taker().per_side == pytest.approx(0.0007)
    assert 0 < Costs.index_fund().per_side < Costs.crypto_taker().per_side
    assert Costs.free().per_side == 0


@pytest.mark.parametrize("bad", [-1.0, math.nan, math.inf])
def test_a_cost_that_is_negative_or_not_a_number_is_refused(bad):
    with pytest.raises(InvalidInput, match="slippage_bps"):
        Costs(fee_bps=1, half_spread_bps=1, slippage_bps=bad)


@pytest.mark.parametrize(
    "call",
    [
        lambda: net_returns([1, 1], [0.1], TEN),
        lambda: net_returns([1, 1], [0.1, math.nan], TEN),
        lambda: net_returns([1, math.nan], [0.1, 0.1], TEN),
        lambda: net_returns([[1]], [[0.1]], TEN),
        lambda: trades([0.5], [0.1], TEN),
        lambda: trades([1], [0.1, 0.2], TEN),
        lambda: held([2], [0], 3),
        lambda: held([1, 1], [2, 2], 3),
        lambda: held([1, 1], [1, 0], 3),
        lambda: held([1], [3], 3),
        lambda: held([1], [-1], 3),
        lambda: held([1], [0.5], 3),
        lambda: held([1, 1], [0], 3),
    ],
)
def test_malformed_arguments_are_refused(call):
    with pytest.raises(InvalidInput):
        call()
