"""Sharpe ratios and their confidence equal the published examples."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atlas.errors import InvalidInput, NotEnoughData
from atlas.stats import (
    deflated_sharpe,
    expected_maximum_sharpe,
    minimum_track_record,
    probabilistic_sharpe,
    sharpe_ratio,
    skew_and_kurtosis,
)


def test_the_published_probabilistic_sharpe_is_met():
    """Bailey, López de Prado (2012): 24 months at 1.585 a year."""
    value = probabilistic_sharpe(1.585 / math.sqrt(12), n=24, skew=-2.448, kurtosis=10.164)
    assert value == pytest.approx(0.913234, abs=1e-6)


@pytest.mark.parametrize(
    ("n_trials", "skew", "kurtosis", "expected"),
    [(100, -3, 10, 0.900397), (46, -3, 10, 0.950502), (88, 0, 3, 0.950491)],
)
def test_the_published_deflated_sharpe_is_met(n_trials, skew, kurtosis, expected):
    """Bailey, López de Prado (2014): 1 250 days at 2.5 a year, variance 1/2 a year."""
    value = deflated_sharpe(
        2.5 / math.sqrt(250),
        n=1250,
        skew=skew,
        kurtosis=kurtosis,
        n_trials=n_trials,
        trial_variance=0.5 / 250,
    )
    assert value == pytest.approx(expected, abs=1e-6)


def test_one_trial_is_not_deflated():
    plain = probabilistic_sharpe(0.1, n=100, skew=0, kurtosis=3)
    one = deflated_sharpe(0.1, n=100, skew=0, kurtosis=3, n_trials=1, trial_variance=0.5)
    assert one == plain


def test_the_expected_maximum_is_that_of_simulated_coins():
    best = np.random.default_rng(0).normal(0, 0.1, (20_000, 50)).max(axis=1).mean()
    assert expected_maximum_sharpe(50, trial_variance=0.01) == pytest.approx(best, rel=0.02)


@settings(max_examples=50, deadline=None)
@given(st.floats(1, 1e6), st.floats(0, 10))
def test_luck_never_lowers_the_bar(n_trials, variance):
    assert expected_maximum_sharpe(n_trials, trial_variance=variance) >= 0


@settings(max_examples=50, deadline=None)
@given(
    st.floats(0.01, 0.5),
    st.floats(-1, 1),
    st.floats(3, 12),
    st.floats(0.55, 0.999),
)
def test_the_minimum_track_record_is_where_the_confidence_reaches_the_level(
    sharpe, skew, kurtosis, level
):
    n = minimum_track_record(sharpe, skew=skew, kurtosis=kurtosis, level=level)
    if n >= 2:
        reached = probabilistic_sharpe(sharpe, n=n, skew=skew, kurtosis=kurtosis)
        assert reached == pytest.approx(level, rel=1e-9)


@settings(max_examples=50, deadline=None)
@given(st.floats(-0.4, 0.4), st.floats(-1, 1), st.floats(3, 12), st.integers(2, 5_000))
def test_to_sell_the_record_turns_the_confidence_around(sharpe, skew, kurtosis, n):
    bought = probabilistic_sharpe(sharpe, n=n, skew=skew, kurtosis=kurtosis)
    sold = probabilistic_sharpe(-sharpe, n=n, skew=-skew, kurtosis=kurtosis)
    assert bought + sold == pytest.approx(1.0)


@pytest.mark.slow
@pytest.mark.parametrize(("shape", "sign"), [(4.0, 1), (4.0, -1), (math.inf, 1)])
def test_as_many_records_as_claimed_seem_better_than_they_are(shape, sign):
    """Skewed and normal records of 250 periods whose true ratio is 0.1."""
    rng = np.random.default_rng(5)
    sample = rng.normal(size=(20_000, 250))
    if shape < math.inf:
        sample = (rng.gamma(shape, size=sample.shape) - shape) / math.sqrt(shape)
    confidence = []
    for record in sign * sample + 0.1:
        skew, kurtosis = skew_and_kurtosis(record)
        confidence.append(
            probabilistic_sharpe(
                sharpe_ratio(record), n=250, skew=skew, kurtosis=kurtosis, benchmark=0.1
            )
        )
    shares = [np.mean(np.array(confidence) > level) for level in (0.5, 0.95)]
    assert shares == pytest.approx([0.5, 0.05], abs=0.02)


def test_so_many_trials_that_their_share_is_rounded_off_still_raise_the_bar():
    bars = [expected_maximum_sharpe(n, trial_variance=1.0) for n in (1e15, 1e17, 1e300)]
    assert bars == sorted(bars)
    assert 8 < bars[1] < 9
    assert 37 < bars[2] < 38


def test_a_minimum_track_record_by_hand():
    """z(0.95) = 1.6449; 1 + (1 + 0.5 * 0.1^2) * (1.6449 / 0.1)^2."""
    assert minimum_track_record(0.1, skew=0, kurtosis=3) == pytest.approx(272.9067, abs=1e-3)


@pytest.mark.parametrize(("periods_a_year", "years"), [(250, 2.73), (52, 2.83), (12, 3.24)])
def test_the_published_minimum_track_records_are_met(periods_a_year, years):
    """Bailey, López de Prado (2012): normal returns, an annual Sharpe ratio of 2 against 1."""
    ratio = 1 / math.sqrt(periods_a_year)
    periods = minimum_track_record(2 * ratio, skew=0, kurtosis=3, benchmark=ratio)
    assert periods / periods_a_year == pytest.approx(years, abs=0.005)


@pytest.mark.parametrize("sharpe", [0.1, 0.05, -1.0])
def test_no_record_shows_a_ratio_at_or_below_the_benchmark(sharpe):
    assert minimum_track_record(sharpe, skew=0, kurtosis=3, benchmark=0.1) == math.inf


def test_moments_that_contradict_the_ratio_are_refused():
    with pytest.raises(InvalidInput, match="raw kurtosis"):
        probabilistic_sharpe(1.0, n=100, skew=3.0, kurtosis=3.0)


@pytest.mark.parametrize("changed", [{"skew": math.nan}, {"kurtosis": math.inf}, {"n": 1}])
def test_arguments_out_of_range_are_refused(changed):
    with pytest.raises(InvalidInput):
        probabilistic_sharpe(0.1, **{"n": 100, "skew": 0.0, "kurtosis": 3.0} | changed)


@pytest.mark.parametrize(
    ("n_trials", "variance"), [(0, 0.1), (math.nan, 0.1), (5, -1), (5, math.nan)]
)
def test_trials_out_of_range_are_refused(n_trials, variance):
    with pytest.raises(InvalidInput):
        expected_maximum_sharpe(n_trials, trial_variance=variance)


def test_the_ratio_by_hand():
    assert sharpe_ratio([0.01, 0.03]) == pytest.approx(0.02 / (0.01 * math.sqrt(2)))


@pytest.mark.parametrize("constant", [0.1, 0.0, 1e-300, -0.07])
def test_a_constant_record_has_ratio_zero_though_its_deviation_rounds_above_zero(constant):
    assert sharpe_ratio(np.full(1_000, constant)) == 0.0


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(-250, 250))
def test_the_ratio_has_no_unit(seed, exponent):
    returns = np.random.default_rng(seed).normal(0.001, 0.01, 50)
    assert sharpe_ratio(returns * 10.0**exponent) == pytest.approx(sharpe_ratio(returns))


def test_skew_and_kurtosis_by_hand():
    """0, 0, 0, 1 has variance 3/16, third moment 3/32 and fourth 21/256."""
    skew, kurtosis = skew_and_kurtosis([0, 0, 0, 1])
    assert skew == pytest.approx((3 / 32) / (3 / 16) ** 1.5)
    assert kurtosis == pytest.approx((21 / 256) / (3 / 16) ** 2)


def test_one_period_has_no_ratio():
    with pytest.raises(NotEnoughData):
        sharpe_ratio([0.01])
