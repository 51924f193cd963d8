"""The stability index counts what it says, and its limit is where chance puts it."""

import math
from bisect import bisect_right

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atlas.errors import InvalidInput, NotEnoughData
from atlas.stats import psi, psi_critical


def slow_psi(reference, current, n_bins):
    """Siddiqi (2006): every value is put in its bin by hand."""
    cuts = np.quantile(reference, np.arange(1, n_bins) / n_bins).tolist()

    def shares(values):
        counts = [0] * n_bins
        for value in values:
            where = cuts.index(value) + 1 if cuts.count(value) > 1 else bisect_right(cuts, value)
            counts[where] += 1
        return [max(c / len(values), 1e-4) for c in counts]

    pairs = zip(shares(reference), shares(current), strict=True)
    return math.fsum((a - e) * math.log(a / e) for e, a in pairs)


samples = st.lists(st.integers(-20, 20).map(float), min_size=10, max_size=60)


@settings(max_examples=200, deadline=None)
@given(samples, samples, st.sampled_from([2, 4, 8]))
def test_it_equals_the_slow_count_ties_included(reference, current, n_bins):
    """Halves, quarters and eighths: quantiles that numpy does not round."""
    expected = slow_psi(reference, current, n_bins)
    assert psi(reference, current, n_bins=n_bins) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_continuous_samples_equal_the_usual_histogram(seed):
    rng = np.random.default_rng(seed)
    reference, current = rng.normal(size=997), rng.normal(0.2, 1.2, size=613)
    edges = np.quantile(reference, np.linspace(0, 1, 11))
    edges[0], edges[-1] = -np.inf, np.inf
    expected, actual = (
        np.maximum(np.histogram(x, edges)[0] / len(x), 1e-4) for x in (reference, current)
    )
    usual = np.sum((actual - expected) * np.log(actual / expected))
    assert psi(reference, current) == pytest.approx(usual, rel=1e-12)


def test_an_index_by_hand():
    """Halves of 0.5 and 0.5 become 0.25 and 0.75: 0.25 * ln 3."""
    assert psi([1, 2, 3, 4], [2, 3, 4, 5], n_bins=2) == pytest.approx(0.25 * math.log(3))


def test_an_empty_bin_counts_as_one_in_ten_thousand_and_nothing_is_scaled_down():
    expected = (1 - 0.5) * math.log(1 / 0.5) + (1e-4 - 0.5) * math.log(1e-4 / 0.5)
    assert psi([1, 2, 3, 4], [9, 9], n_bins=2) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("reference", "current"),
    [
        ([0] * 95 + [1] * 5, [0] * 50 + [1] * 50),
        ([1] * 95 + [0] * 5, [0] * 50 + [1] * 50),
        ([3] * 20, [4] * 5),
        ([3] * 20, [2] * 5),
    ],
)
def test_a_feature_of_few_values_shows_its_moves(reference, current):
    assert psi(reference, current) > 1.0
    assert psi(reference, reference) == 0.0


@settings(max_examples=100, deadline=None)
@given(samples, samples, st.randoms(), st.integers(-60, 60))
def test_neither_order_nor_unit_nor_repetition_matters(reference, current, random, exponent):
    value = psi(reference, current)
    shuffled = random.sample(current, len(current)) * 2
    moved = psi(
        np.ldexp(random.sample(reference, len(reference)), exponent), np.ldexp(shuffled, exponent)
    )
    assert value >= 0
    assert moved == pytest.approx(value, abs=1e-12)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0.1, 100), st.floats(-100, 100))
def test_a_new_unit_and_origin_for_both_samples_change_nothing(seed, unit, origin):
    rng = np.random.default_rng(seed)
    reference, current = rng.normal(size=(2, 155))
    assert psi(unit * reference + origin, unit * current + origin) == pytest.approx(
        psi(reference, current), abs=1e-12
    )


def test_a_quantile_that_is_a_value_of_the_sample_is_that_value():
    """Eleven values have their deciles among them; 0.1 * 3 rounded up would lose one."""
    reference = np.arange(11) / 7
    assert psi(reference, reference[:-1]) == pytest.approx(
        9 * (0.1 - 1 / 11) * math.log(11 / 10) + (0.1 - 2 / 11) * math.log(11 / 20)
    )


def test_values_at_the_end_of_the_range_of_numbers_are_cut():
    huge = np.linspace(-1, 1, 40) * 1.7e308
    assert psi(huge, huge[::-1]) == 0.0


@pytest.mark.parametrize("spoilt", [math.nan, math.inf])
def test_values_that_are_not_finite_are_refused(spoilt):
    fine = list(range(20))
    with pytest.raises(InvalidInput, match="reference"):
        psi([*fine, spoilt], fine)
    with pytest.raises(InvalidInput, match="current"):
        psi(fine, [*fine, spoilt])


def test_masked_values_and_text_are_refused():
    fine = list(range(20))
    with pytest.raises(InvalidInput, match="none masked"):
        psi(fine, np.ma.masked_equal(fine, 3))
    with pytest.raises(InvalidInput, match="numbers"):
        psi(fine, pd.Series(["1", "2"]))


def test_too_few_values_are_refused():
    with pytest.raises(NotEnoughData, match="at least 10"):
        psi(range(9), range(20))
    with pytest.raises(NotEnoughData, match="current"):
        psi(range(20), [])


@pytest.mark.parametrize("n_bins", [1, 0, 2.0])
def test_fewer_than_two_bins_are_refused(n_bins):
    with pytest.raises(InvalidInput, match="n_bins"):
        psi(range(20), range(20), n_bins=n_bins)


def test_the_critical_value_by_the_table():
    """The 0.95 quantile of chi-squared with 9 degrees of freedom is 16.919; 0.99, 21.666."""
    found = [psi_critical(1_000, 1_000, 10, 0.95), psi_critical(100, 400, 10, 0.99)]
    assert found == pytest.approx([0.033838, 0.270825], abs=1e-5)


def test_as_many_samples_of_one_law_exceed_the_critical_value_as_claimed():
    rng = np.random.default_rng(0)
    found = [psi(*rng.normal(size=(2, 1_000))) for _ in range(2_000)]
    limits = [psi_critical(1_000, 1_000, 10, level) for level in (0.5, 0.95)]
    shares = [np.mean(np.array(found) > limit) for limit in limits]
    assert shares == pytest.approx([0.5, 0.05], abs=0.035)


@settings(max_examples=50, deadline=None)
@given(st.floats(1, 1e9), st.floats(1, 1e9), st.integers(2, 50), st.floats(0.01, 0.98))
def test_the_critical_value_is_symmetric_and_grows_with_the_level(n, m, n_bins, level):
    value = psi_critical(n, m, n_bins, level)
    assert value == psi_critical(m, n, n_bins, level)
    assert 0 < value < psi_critical(n, m, n_bins, level + 0.01)
    assert value > psi_critical(2 * n, 2 * m, n_bins, level)


@pytest.mark.parametrize(
    "arguments",
    [(0, 9, 10, 0.95), (9, math.nan, 10, 0.95), (9, 9, 1, 0.95), (9, 9, 10, 1.0), (9, 9, 10, 95)],
)
def test_arguments_of_the_critical_value_out_of_range_are_refused(arguments):
    with pytest.raises(InvalidInput):
        psi_critical(*arguments)
