"""The test of two Sharpe ratios equals the paper's formulas, term by term."""

import math

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from arch.covariance.kernel import Parzen
from hypothesis import given, settings
from hypothesis import strategies as st

from atlas.errors import InvalidInput, NotEnoughData
from atlas.stats import sharpe_difference, sharpe_difference_bootstrap, sharpe_ratio
from atlas.stats.arguments import FloatArray
from atlas.stats.long_run import bandwidth, parzen


def records(seed, n, *, root=0.0, unit=1.0):
    """Two records that depend on each other and, by `root`, on their past."""
    rng = np.random.default_rng(seed)
    shocks = rng.standard_t(6, (n, 2)) @ np.array([[1.0, 0.6], [0.0, 0.8]])
    for i in range(1, n):
        shocks[i] += root * shocks[i - 1]
    return unit * (shocks[:, 0] + 0.1), unit * (0.5 * shocks[:, 1] + 0.02)


def slow_moments(a, b):
    """The centred means and second moments, and the gradient (Ledoit, Wolf, section 3)."""
    mean_a, mean_b, second_a, second_b = a.mean(), b.mean(), (a**2).mean(), (b**2).mean()
    centred = np.column_stack([a - mean_a, b - mean_b, a**2 - second_a, b**2 - second_b])
    gradient = np.array(
        [
            second_a / (second_a - mean_a**2) ** 1.5,
            -second_b / (second_b - mean_b**2) ** 1.5,
            -mean_a / 2 / (second_a - mean_a**2) ** 1.5,
            mean_b / 2 / (second_b - mean_b**2) ** 1.5,
        ]
    )
    return centred, gradient


def slow_bandwidth(moments):
    """Andrews (1991), 6.4: each series by its own regression on its past, all with weight 1."""
    above = below = 0.0
    for series in moments.T:
        fit = sm.OLS(series[1:], sm.add_constant(series[:-1])).fit()
        root, variance = fit.params[1], np.mean(fit.resid**2)
        above += 4 * root**2 * variance**2 / (1 - root) ** 8
        below += variance**2 / (1 - root) ** 4
    return min(2.6614 * (above / below * len(moments)) ** 0.2, len(moments) - 1)


def slow_covariance(moments):
    """Parzen's weights on the autocovariance matrices, one lag at a time."""
    n, k = moments.shape
    width = slow_bandwidth(moments)
    total = moments.T @ moments / n
    for lag in range(1, n):
        x = lag / width
        weight = 1 - 6 * x**2 + 6 * x**3 if x <= 0.5 else 2 * (1 - x) ** 3 if x <= 1 else 0
        product = sum(np.outer(moments[t], moments[t - lag]) for t in range(lag, n)) / n
        total = total + weight * (product + product.T)
    return n / (n - k) * total


def slow_prewhitened(moments):
    """A vector autoregression by statsmodels, its singular values held at 0.97."""
    before, after = moments[:-1], moments[1:]
    matrix = np.array([sm.OLS(column, before).fit().params for column in after.T])
    left, singular, right = np.linalg.svd(matrix)
    matrix = left @ np.diag(np.minimum(singular, 0.97)) @ right
    inverse = np.linalg.inv(np.eye(4) - matrix)
    return inverse @ slow_covariance(after - before @ matrix.T) @ inverse.T


def slow_error(a, b, covariance=slow_covariance):
    moments, gradient = slow_moments(a, b)
    return math.sqrt(gradient @ covariance(moments) @ gradient / len(a))


def slow_difference(a, b):
    return a.mean() / a.std(ddof=1) - b.mean() / b.std(ddof=1)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize(("n", "root"), [(6, 0.0), (40, 0.0), (120, 0.5), (121, -0.4)])
def test_it_equals_the_slow_formula(seed, n, root):
    a, b = records(seed, n, root=root)
    difference = slow_difference(a, b)
    p = math.erfc(abs(difference) / slow_error(a, b) / math.sqrt(2))
    assert sharpe_difference(a, b) == pytest.approx((difference, p), rel=1e-9, abs=1e-12)


def test_two_records_by_hand():
    """Two even coins, as often alike as not; one of them earns 1 a period on average.

    The root of each is near -1/19 or 1/19, which puts the bandwidth below 2, and `y`, the one coin
    less the other, has no product with its own past. With deviations of 1 the gradient of the
    earning one is (2, -1/2) on `z` and `2 z`, that of the other (1, 0): the influence of a period
    is `y`, with a mean square of 2. The error is sqrt(20 / 16 * 2 / 20).
    """
    a = np.array([1, -1, 1, 1, 1, -1, 1, -1, -1, -1, 1, 1, -1, 1, -1, -1, -1, -1, 1, 1])
    b = np.array([1, -1, 1, 1, -1, -1, -1, -1, 1, -1, -1, -1, 1, 1, 1, 1, -1, 1, -1, 1])
    y = a - b
    assert (a.sum(), b.sum(), a @ b, y[1:] @ y[:-1]) == (0, 0, 0, 0)
    assert slow_bandwidth(slow_moments(1.0 + a, 1.0 * b)[0][:, :3]) < 2
    ratio = math.sqrt(19 / 20)
    expected = (ratio, math.erfc(ratio / math.sqrt(1 / 8) / math.sqrt(2)))
    assert sharpe_difference(1 + a, b) == pytest.approx(expected)


def test_parzens_weights_by_hand():
    weights = [parzen(x) for x in (0.0, 0.25, 0.5, 0.75, 1.0, 2.0)]
    assert weights == [1.0, 0.71875, 0.25, 0.03125, 0.0, 0.0]


def test_parzens_weights_are_those_of_arch():
    theirs = Parzen(np.zeros((50, 1)) + np.arange(50)[:, None], bandwidth=7.0).kernel_weights
    assert [parzen(lag / 8) for lag in range(8)] == pytest.approx(theirs.tolist())


def test_the_error_is_the_classical_one_for_independent_normal_records():
    """Jobson, Korkie (1981), corrected by Memmel (2003): two independent ratios near 0."""
    rng = np.random.default_rng(3)
    found = [sharpe_difference(*rng.normal(0, 1, (2, 400)))[1] for _ in range(2_000)]
    assert np.mean(np.array(found) < 0.05) == pytest.approx(0.05, abs=0.015)
    assert np.mean(np.array(found) < 0.5) == pytest.approx(0.5, abs=0.035)


@pytest.mark.slow
def test_dependent_records_of_equal_ratio_are_rejected_no_more_often_than_claimed():
    """Two twins in law, each an autoregression with root 0.3, 500 periods."""

    def rejected(seed):
        rng = np.random.default_rng(seed)
        shocks = rng.standard_normal((550, 2)) @ np.array([[1.0, 0.5], [0.0, math.sqrt(0.75)]])
        for i in range(1, 550):
            shocks[i] += 0.3 * shocks[i - 1]
        a, b = (0.1 + shocks[50:]).T
        by_blocks = sharpe_difference_bootstrap(a, b, mean_block=8, n_resamples=499, seed=seed)
        return sharpe_difference(a, b)[1] <= 0.05, by_blocks[1] <= 0.05

    rates = np.mean([rejected(seed) for seed in range(1_000)], axis=0)
    assert (rates > 0.02).all()
    assert (rates < 0.075).all()


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(6, 80))
def test_to_swap_the_records_turns_the_sign_and_keeps_the_p_value(seed, n):
    a, b = records(seed, n)
    difference, p = sharpe_difference(a, b)
    assert sharpe_difference(b, a) == pytest.approx((-difference, p), rel=1e-9)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(6, 80))
def test_to_sell_both_records_turns_the_sign_and_keeps_the_p_value(seed, n):
    a, b = records(seed, n)
    difference, p = sharpe_difference(a, b)
    assert sharpe_difference(-a, -b) == pytest.approx((-difference, p), rel=1e-9)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(-3, 3), st.floats(-3, 3))
def test_leverage_leaves_the_difference_and_nearly_the_p_value(seed, first, second):
    """The bandwidth alone sees the unit; a record without memory needs little of it."""
    a, b = records(seed, 400)
    difference, p = sharpe_difference(a, b)
    levered, p_levered = sharpe_difference(10**first * a, 10**second * b)
    assert levered == pytest.approx(difference, rel=1e-9)
    assert p_levered == pytest.approx(p, abs=0.15)


@pytest.mark.parametrize("unit", [1e-300, 1e-100, 1e100, 1e300])
def test_returns_of_any_size_stay_numbers(unit):
    a, b = records(1, 60)
    difference, p = sharpe_difference(unit * a, unit * b)
    assert difference == pytest.approx(slow_difference(a, b))
    assert 0 < p < 1


@pytest.mark.parametrize("leverage", [1.0, 2.0, 3.0, 0.1])
def test_a_record_does_not_differ_from_itself_at_another_leverage(leverage):
    a, _ = records(2, 50)
    difference, p = sharpe_difference(a, leverage * a)
    by_blocks = sharpe_difference_bootstrap(a, leverage * a, mean_block=4, n_resamples=49, seed=0)
    assert difference == pytest.approx(0, abs=1e-12)
    assert (p, by_blocks[1]) == (1.0, 1.0)


def test_a_large_mean_does_not_eat_the_digits_of_a_small_deviation():
    rng = np.random.default_rng(4)
    a, b = 1e6 + rng.normal(0, 1, 300), 1e6 + rng.normal(0, 1.5, 300)
    difference, p = sharpe_difference(a, b)
    # The ratios are 1e6 and 0.67e6: the difference is some ten errors wide, each of 0.05e6.
    assert difference == pytest.approx(sharpe_ratio(a) - sharpe_ratio(b), rel=1e-9)
    assert p < 1e-8


def slow_bootstrap(a, b, block, starts):
    """Section 3.2.2 with the drawn starts given, one resample after the other."""
    n, difference = len(a), slow_difference(a, b)
    studentised = abs(difference) / slow_error(a, b, slow_prewhitened)
    far = 0
    for drawn in starts:
        places = np.concatenate([(start + np.arange(block)) % n for start in drawn])
        moments, gradient = slow_moments(a[places], b[places])
        blocks = moments.reshape(len(drawn), block, 4).sum(axis=1) / math.sqrt(block)
        covariance = sum(np.outer(z, z) for z in blocks) / len(drawn)
        error = math.sqrt(gradient @ covariance @ gradient / len(places))
        far += abs(slow_difference(a[places], b[places]) - difference) / error >= studentised
    return difference, (1 + far) / (1 + len(starts))


@pytest.mark.parametrize(("n", "block"), [(60, 1), (60, 5), (63, 6), (64, 32)])
@pytest.mark.parametrize("seed", [0, 1])
def test_the_bootstrap_equals_the_slow_one_on_the_same_draws(n, block, seed):
    a, b = records(seed, n, root=0.3)
    starts = np.random.default_rng(seed).integers(0, n, (299, n // block))
    found = sharpe_difference_bootstrap(a, b, mean_block=block, n_resamples=299, seed=seed)
    assert found == pytest.approx(slow_bootstrap(a, b, block, starts), rel=1e-9)


def test_the_bootstrap_agrees_with_the_formula_on_a_long_record():
    a, b = records(11, 2_000)
    _, p = sharpe_difference(a, b)
    _, by_blocks = sharpe_difference_bootstrap(a, b, mean_block=5, n_resamples=4_999, seed=0)
    assert by_blocks == pytest.approx(p, abs=0.03)


def test_many_resamples_are_drawn_in_parts_and_the_same_seed_gives_the_same_answer():
    a, b = records(5, 50)
    values = [
        sharpe_difference_bootstrap(a, b, mean_block=1, n_resamples=9_999, seed=seed)
        for seed in (1, 1, 2)
    ]
    assert values[0] == values[1]
    assert values[0] != values[2]
    assert values[0] == pytest.approx(values[2], abs=0.03)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(8, 60))
def test_to_swap_or_to_sell_both_records_keeps_the_bootstrapped_p_value(seed, n):
    """On the same draws."""
    a, b = records(seed, n)
    ask = {"mean_block": 3, "n_resamples": 99, "seed": 0}
    difference, p = sharpe_difference_bootstrap(a, b, **ask)
    for first, second in ((b, a), (-a, -b)):
        found = sharpe_difference_bootstrap(first, second, **ask)
        assert found == pytest.approx((-difference, p), rel=1e-9, abs=1e-12)


def test_a_resample_in_which_a_record_stands_still_counts_as_far():
    """A trader of one trade: most resamples of two blocks hold none of it."""
    a, b = np.zeros(40), np.random.default_rng(6).normal(0.5, 1, 40)
    a[7] = 0.01
    _, p = sharpe_difference_bootstrap(a, b, mean_block=20, n_resamples=999, seed=0)
    assert p > 0.2


def test_a_broken_block_is_rounded():
    a, b = records(7, 60)
    assert sharpe_difference_bootstrap(
        a, b, mean_block=4.8, n_resamples=99, seed=0
    ) == sharpe_difference_bootstrap(a, b, mean_block=5, n_resamples=99, seed=0)


@pytest.mark.parametrize("block", [0, 0.9, 31, math.nan, math.inf])
def test_a_block_out_of_range_is_refused(block):
    a, b = records(7, 60)
    with pytest.raises(InvalidInput, match="mean_block"):
        sharpe_difference_bootstrap(a, b, mean_block=block, n_resamples=99, seed=0)


@pytest.mark.parametrize(
    ("spoilt", "message"),
    [
        (np.zeros(60), "stands still"),
        (np.full(60, 0.1), "stands still"),
        (0.1 + 1e-16 * np.arange(60), "stands still"),
        (np.arange(59.0), "same periods"),
        (np.where(np.arange(60) == 3, np.nan, 0.1), "first at 3"),
    ],
)
@pytest.mark.parametrize("place", [0, 1])
def test_records_that_cannot_be_compared_are_refused(spoilt, message, place):
    pair = list(records(8, 60))
    pair[place] = spoilt
    with pytest.raises(InvalidInput, match=message):
        sharpe_difference(*pair)
    with pytest.raises(InvalidInput, match=message):
        sharpe_difference_bootstrap(*pair, mean_block=5, n_resamples=9, seed=0)


def test_records_that_move_in_lock_step_are_refused():
    """Both follow one even coin: the difference cannot come from chance, so it has no p-value."""
    coin = np.array([1.0, -1.0, -1.0, 1.0] * 5)
    with pytest.raises(InvalidInput, match="lock-step"):
        sharpe_difference(coin + 0.5, coin)


def test_too_few_periods_are_refused():
    with pytest.raises(NotEnoughData):
        sharpe_difference([1, 2, 3, 5], [2, 1, 3, 4])
    with pytest.raises(NotEnoughData):
        sharpe_difference_bootstrap(
            [1, 2, 3, 5, 4], [2, 1, 3, 4, 2], mean_block=1, n_resamples=9, seed=0
        )


@pytest.mark.parametrize("shape", [list, tuple, pd.Series, lambda x: np.repeat(x, 2)[::2]])
def test_how_the_returns_are_held_does_not_matter(shape):
    a, b = records(9, 40)
    assert sharpe_difference(shape(a), shape(b)) == sharpe_difference(a, b)


@pytest.mark.parametrize("root", [0.99, 0.9999999, 1.0])
def test_a_bandwidth_never_leaves_the_record(root):
    series: FloatArray = np.cumsum(np.random.default_rng(0).normal(size=50))[:, None]
    series = root * series - series.mean()
    assert 0 < bandwidth(series) <= 49
