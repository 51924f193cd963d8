"""Drawdowns and the probability of a breach, against enumeration and a slow bootstrap."""

import csv
from itertools import pairwise, product

import numpy as np
import pytest
from arch.bootstrap import optimal_block_length
from hypothesis import given, settings
from hypothesis import strategies as st

from atlas.errors import InvalidInput, NotEnoughData
from atlas.stats import automatic_block, breach_probability, clopper_pearson, max_drawdown


def slow_drawdown(returns):
    wealth = np.concatenate([[1.0], np.cumprod(1 + np.asarray(returns))])
    return float(max(1 - w / wealth[: i + 1].max() for i, w in enumerate(wealth)))


def exact_breach(returns, limit, horizon, mean_block):
    """Add up the probability of every path: the places visited are a Markov chain."""
    n, total = len(returns), 0.0
    for places in product(range(n), repeat=horizon):
        probability = 1 / n
        for here, then in pairwise(places):
            follows = then == (here + 1) % n
            probability *= (1 - 1 / mean_block) * follows + 1 / mean_block / n
        if slow_drawdown([returns[place] for place in places]) > limit:
            total += probability
    return total


@settings(deadline=None)
@given(st.lists(st.floats(-0.9, 2.0), min_size=1, max_size=30))
def test_drawdown_equals_the_slow_one(returns):
    assert max_drawdown(returns) == pytest.approx(slow_drawdown(returns), abs=1e-12)


@pytest.mark.parametrize(
    ("returns", "expected"),
    [
        ([-0.1], 0.1),  # the start is a peak
        ([0.5, -0.2, 0.1, -0.25], 0.34),  # 1 - 0.8 * 1.1 * 0.75
        ([0.1, 0.2], 0.0),
        ([0.1, -1.0, 5.0], 1.0),
        ([-1.5, 2.0], 1.0),  # a short may lose more than its notional: gone is gone
    ],
)
def test_drawdown_by_hand(returns, expected):
    assert max_drawdown(returns) == pytest.approx(expected)


def test_endless_blocks_equal_the_enumeration_of_all_starts():
    returns = np.random.default_rng(1).normal(0, 0.05, 11)
    circle = [np.roll(returns, -i)[:7] for i in range(11)]
    falls = sorted(slow_drawdown(path) for path in circle)
    limit = (falls[3] + falls[4]) / 2
    exact = np.mean([fall > limit for fall in falls])
    estimate, _ = breach_probability(
        returns, limit=limit, horizon=7, mean_block=1e300, n_paths=100_000
    )
    assert 0 < exact < 1
    assert estimate == pytest.approx(exact, abs=0.01)


@pytest.mark.parametrize("mean_block", [1.0, 1.5, 3.0, 8.0])
def test_blocks_equal_the_law_of_the_stationary_bootstrap(mean_block):
    returns, paths = [0.05, -0.08, -0.06, 0.04], 200_000
    exact = exact_breach(returns, 0.17, 5, mean_block)
    estimate, _ = breach_probability(
        returns, limit=0.17, horizon=5, mean_block=mean_block, n_paths=paths
    )
    k = round(estimate * paths)
    assert 0.01 < exact < 0.99
    assert clopper_pearson(k, paths, 0.9999, "lower") < exact
    assert exact < clopper_pearson(k, paths, 0.9999, "upper")


def test_independent_draws_hide_the_danger_of_clustered_losses():
    rng = np.random.default_rng(3)
    loss = np.where(np.arange(500) % 100 < 8, -0.02, 0.004) + rng.normal(0, 0.001, 500)
    clustered, _ = breach_probability(loss, limit=0.1, horizon=250, mean_block=50)
    alone, _ = breach_probability(loss, limit=0.1, horizon=250, mean_block=1)
    assert alone < 0.5 * clustered


@pytest.mark.parametrize(("limit", "expected"), [(0.2, 0.0), (0.19999, 1.0)])
def test_a_fall_of_exactly_the_limit_is_no_breach(limit, expected):
    estimate, _ = breach_probability([-0.2], limit=limit, horizon=1, n_paths=100)
    assert estimate == expected


def test_compounding_rounds_no_breach_into_being():
    """0.7 * 0.7 leaves a fall of 0.51 and a little more in binary."""
    estimate, _ = breach_probability([-0.3], limit=0.51, horizon=2, n_paths=100)
    assert estimate == 0.0


def test_a_short_that_loses_all_is_in_breach_and_stays_there():
    assert breach_probability([-3.0], limit=0.99, horizon=2, n_paths=50)[0] == 1.0


@pytest.mark.parametrize(("paths", "upper"), [(100, 0.0295), (10_000, 0.0003)])
def test_no_breach_in_few_paths_proves_little(paths, upper):
    estimate, bound = breach_probability([0.01], limit=0.2, horizon=5, n_paths=paths)
    assert (estimate, bound) == (0.0, pytest.approx(upper, abs=5e-5))


def test_the_same_seed_gives_the_same_answer_and_another_does_not():
    returns = np.random.default_rng(4).normal(0, 0.03, 100)
    ask = {"limit": 0.2, "horizon": 50, "n_paths": 2_000}
    first = breach_probability(returns, seed=7, **ask)
    assert breach_probability(returns, seed=7, **ask) == first
    assert breach_probability(returns, seed=8, **ask) != first


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 1_000), st.floats(0.05, 0.3), st.integers(1, 60), st.floats(1, 50))
def test_the_bound_is_above_and_a_longer_path_is_no_safer(seed, limit, horizon, block):
    returns = np.random.default_rng(seed).normal(0, 0.03, 80)
    ask = {"limit": limit, "mean_block": block, "n_paths": 500}
    estimate, upper = breach_probability(returns, horizon=horizon, **ask)
    longer, _ = breach_probability(returns, horizon=2 * horizon, **ask)
    assert 0 <= estimate <= upper <= 1
    assert longer >= estimate - 0.12


def test_the_automatic_block_is_that_of_absolute_returns():
    rng = np.random.default_rng(5)
    volatility = np.exp(np.convolve(rng.normal(0, 0.3, 3_000), 0.97 ** np.arange(200), "same"))
    returns = 0.01 * volatility * rng.normal(0, 1, 3_000)
    chosen = float(optimal_block_length(np.abs(returns))["stationary"].iloc[0])
    assert chosen > 5
    assert automatic_block(returns) == pytest.approx(chosen)


@pytest.mark.parametrize("n", [1, 2, 5, 11, 12, 13, 20, 1_000])
@pytest.mark.parametrize("kind", ["constant", "one spike", "alternating", "noise"])
def test_the_automatic_block_is_at_least_five_on_any_record(n, kind):
    returns = {
        "constant": np.full(n, 0.01),
        "one spike": np.eye(1, n)[0] * 0.1,
        "alternating": np.where(np.arange(n) % 2, 0.01, -0.01),
        "noise": np.random.default_rng(6).normal(0, 0.01, n),
    }[kind]
    assert 5.0 <= automatic_block(returns) < max(12, n)


@pytest.mark.parametrize(
    "changed",
    [
        {"limit": 1.0},
        {"limit": np.nan},
        {"limit": -0.1},
        {"horizon": 0},
        {"horizon": 2.5},
        {"mean_block": 0.5},
        {"mean_block": np.nan},
        {"mean_block": np.inf},
        {"n_paths": 0},
        {"seed": -1},
        {"returns": [0.1, np.nan]},
        {"returns": [[0.1]]},
    ],
)
def test_arguments_out_of_range_are_refused(changed):
    arguments = {"returns": [0.1, -0.1], "limit": 0.2, "horizon": 5} | changed
    with pytest.raises(InvalidInput):
        breach_probability(**arguments)


def test_an_empty_record_is_refused():
    with pytest.raises(NotEnoughData):
        breach_probability([], limit=0.2, horizon=5)


@pytest.mark.parametrize(
    ("k", "n", "level", "side", "expected"),
    [
        (0, 100, 0.95, "upper", 0.0295),  # 1 - 0.05^(1/100)
        (270, 10_000, 0.95, "upper", 0.0298),
        (570, 1_000, 0.95, "lower", 0.5436),
        (5, 5, 0.95, "upper", 1.0),
        (0, 5, 0.95, "lower", 0.0),
        (5, 5, 0.95, "lower", 0.5493),  # 0.05^(1/5)
    ],
)
def test_exact_bounds_by_hand(k, n, level, side, expected):
    assert clopper_pearson(k, n, level, side) == pytest.approx(expected, abs=5e-5)


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 40).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_exact_bounds_invert_the_binomial_law(counts):
    k, n = counts
    upper, lower = clopper_pearson(k, n, 0.9, "upper"), clopper_pearson(k, n, 0.9, "lower")
    ways = np.cumprod([1, *((n - np.arange(n)) / (np.arange(n) + 1))])

    def at_most(p, last):
        i = np.arange(n + 1)
        return float((ways * p**i * (1 - p) ** (n - i))[: last + 1].sum())

    assert lower <= k / n <= upper
    assert upper == 1.0 or at_most(upper, k) == pytest.approx(0.1)
    assert lower == 0.0 or 1 - at_most(lower, k - 1) == pytest.approx(0.1)


@pytest.mark.parametrize(("k", "n"), [(3, 2), (-1, 2), (0, 0), (0.5, 2)])
def test_counts_out_of_range_are_refused(k, n):
    with pytest.raises(InvalidInput):
        clopper_pearson(k, n, 0.95, "upper")


def test_the_nasdaq_fell_by_83_percent_after_the_year_2000(market_data):
    with (market_data / "index_daily" / "jumpmodels_NDX.csv").open() as lines:
        rows = list(csv.DictReader(lines))
    daily = [float(row["ret"]) for row in rows if "2000" <= row["date"] < "2003"]
    assert max_drawdown(daily) == pytest.approx(0.829, abs=5e-4)
