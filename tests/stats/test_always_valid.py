"""The always-valid p-value equals the mixture it is defined by, and survives constant looking."""

import math
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numba import njit
from scipy.integrate import quad
from scipy.stats import norm

from atlas.errors import InvalidInput, NotEnoughData
from atlas.stats import always_valid_p
from atlas.stats.always_valid import running_variance

LEVEL = 0.05


def slow_p(differences, tau, variance):
    """Integrate the likelihood over the means, one look at a time."""
    deviation, best, result = math.sqrt(variance), 1.0, []
    for n in range(1, len(differences) + 1):
        seen = np.asarray(differences[:n])
        # The mixture peaks where the mean shrunk towards 0 lies.
        share = n * tau**2 / (variance + n * tau**2)
        centre, width = share * seen.mean(), math.sqrt(share * variance / n)

        def likelihood(mean, seen=seen):
            ratio = norm.logpdf(seen, mean, deviation) - norm.logpdf(seen, 0, deviation)
            return math.exp(ratio.sum() + norm.logpdf(mean, 0, tau))

        mixture = quad(likelihood, centre - 12 * width, centre + 12 * width, epsrel=1e-10)[0]
        best = min(best, 1 / mixture)
        result.append(best)
    return result


def slow_variance(series):
    """The estimate from the values alone: take out the autoregression, then weigh the rest."""
    n = len(series)
    centred = series - series.mean()
    covariance = [centred[lag:] @ centred[: n - lag] / n for lag in range(2)]
    root = covariance[1] / covariance[0]
    root = np.clip(root + (1 + 3 * root) / n, -0.97, 0.99)
    if n * (1 - root) < 50 * (1 + root):
        return math.inf
    padded = np.concatenate([[0.0], centred, [0.0]])
    residual = padded[1:] - root * padded[:-1]
    most = min(n - 2, 60)
    rest = [residual[lag:] @ residual[: n + 1 - lag] / n for lag in range(most + 1)]
    beta = min(rest[1] / rest[0], 0.97)
    width = min(2.6614 * (4 * beta**2 / (1 - beta) ** 4 * n) ** 0.2, most)
    total = rest[0]
    for lag in range(1, most + 1):
        x = lag / width
        weight = 1 - 6 * x**2 + 6 * x**3 if x <= 0.5 else 2 * (1 - x) ** 3 if x < 1 else 0
        total += 2 * weight * rest[lag]
    return total / (1 - root) ** 2


@njit
def autoregression(n, root, clustered, rng):
    """A series of long-run variance 1 (times 1 / (1 - root)**2, taken out), settled at the start.

    Clustered volatility follows GARCH(1, 1) with 0.15 and 0.8.
    """
    series = np.empty(n)
    value, variance, shock = 0.0, 1.0, 0.0
    for i in range(-200, n):
        if clustered:
            variance = 0.05 + 0.15 * shock**2 + 0.8 * variance
        shock = math.sqrt(variance) * rng.standard_normal()
        value = root * value + shock
        if i >= 0:
            series[i] = value * (1 - root)
    return series


@settings(max_examples=15, deadline=None)
@given(
    st.lists(st.floats(-4, 4), min_size=1, max_size=6),
    st.floats(0.05, 3),
    st.floats(0.2, 4),
)
def test_it_equals_the_integral_over_the_means(differences, tau, variance):
    found = always_valid_p(differences, tau=tau, variance=variance)
    assert found == pytest.approx(slow_p(differences, tau, variance), rel=1e-7)


def test_values_by_hand():
    """One difference of 2: sqrt(1/2) * exp(4/4). Two: sqrt(1/3) * exp(16/6)."""
    expected = [math.sqrt(2) / math.e, math.sqrt(3) * math.exp(-16 / 6)]
    assert always_valid_p([2, 2], tau=1.0, variance=1.0) == pytest.approx(expected)


def test_the_published_formula_of_two_arms_is_met():
    """Johari et al. (2022): pairs of arms with variance s2 have V = 2 s2, and the ratio is

    sqrt(V / (V + n t2)) * exp(n**2 t2 m**2 / (2 V (V + n t2))). With n = 400, s2 = 1/4, t2 = 1/100
    and a mean of 0.1: V = 1/2 and V + n t2 = 4.5, so sqrt(1/9) * exp(16 / 4.5).
    """
    found = always_valid_p(np.full(400, 0.1), tau=0.1, variance=0.5)[-1]
    assert found == pytest.approx(3 * math.exp(-16 / 4.5))


@pytest.mark.parametrize(("root", "n"), [(0.0, 400), (0.6, 400), (-0.5, 300), (0.9, 1_200)])
def test_the_running_variance_equals_the_slow_one(root, n):
    series = 5 + autoregression(n, root, True, np.random.default_rng(1))
    found = running_variance(series)
    places = [49, 50, 60, 99, 150, 299, n - 1]
    expected = [slow_variance(series[: place + 1]) for place in places]
    assert found[places] == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("root", [-0.5, 0.0, 0.5, 0.9])
def test_the_running_variance_finds_the_dependence(root):
    series = autoregression(50_000, root, False, np.random.default_rng(2))
    assert running_variance(series)[-1] == pytest.approx(1.0, rel=0.1)


def test_with_much_data_the_learned_variance_is_as_good_as_the_known_one():
    series = 0.02 + np.random.default_rng(3).normal(0, 1, 20_000)
    learned = always_valid_p(series, tau=0.02)[-1]
    known = always_valid_p(series, tau=0.02, variance=1.0)[-1]
    assert math.log(learned) == pytest.approx(math.log(known), rel=0.1)


def test_nothing_is_known_during_the_burn_in():
    strong = np.random.default_rng(4).normal(1, 1, 300)
    for burn_in in (100, 200):
        found = always_valid_p(strong, tau=1.0, burn_in=burn_in)
        assert (found[:burn_in] == 1).all()
        assert found[burn_in] < 1e-6


def test_a_short_burn_in_still_waits_for_fifty_observations():
    found = always_valid_p(np.random.default_rng(5).normal(1, 1, 300), tau=1.0, burn_in=0)
    assert (found[:49] == 1).all()
    assert found[60] < 1e-3


def test_dependent_differences_wait_for_as_many_independent_ones():
    series = 0.5 + autoregression(3_000, 0.9, False, np.random.default_rng(6))
    first = int(np.argmax(always_valid_p(series, tau=0.5) < 1))
    assert 600 < first < 1_400


def test_a_known_variance_needs_no_burn_in():
    given_one = always_valid_p([3.0, 3.0], tau=1.0, variance=1.0, burn_in=500)
    assert (given_one < 1).all()


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 400), st.floats(0.01, 2), st.booleans())
def test_it_never_rises_and_each_value_sees_only_its_past(seed, n, tau, known):
    series = np.random.default_rng(seed).normal(0.1, 1, 400)
    variance = 1.0 if known else None
    whole = always_valid_p(series, tau=tau, variance=variance)
    part = always_valid_p(series[:n], tau=tau, variance=variance)
    assert whole.shape == (400,)
    assert ((whole >= 0) & (whole <= 1)).all()
    assert (np.diff(whole) <= 0).all()
    assert part == pytest.approx(whole[:n], rel=1e-9)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(-200, 200), st.sampled_from([-1, 1]), st.booleans())
def test_neither_unit_nor_sign_matters(seed, exponent, sign, known):
    series = np.random.default_rng(seed).normal(0.2, 1, 250)
    unit = 10.0 ** (exponent / 2)
    plain = always_valid_p(series, tau=0.2, variance=1.3 if known else None)
    moved = always_valid_p(
        sign * unit * series, tau=0.2 * unit, variance=1.3 * unit**2 if known else None
    )
    assert moved == pytest.approx(plain, rel=1e-9)


@settings(max_examples=30, deadline=None)
@given(st.permutations(range(12)))
def test_with_known_variance_the_evidence_is_in_the_sum_and_not_in_the_order(order):
    """Each of them positive, so that no earlier look is the strongest one."""
    series = np.arange(2.0, 14.0)
    found = always_valid_p(series[list(order)], tau=1.0, variance=4.0)[-1]
    assert found == pytest.approx(always_valid_p(series, tau=1.0, variance=4.0)[-1])


@pytest.mark.parametrize(
    "still", [np.zeros(300), np.full(300, 0.1), 0.1 + 1e-17 * np.arange(300), [-1e-300] * 300]
)
def test_differences_without_variance_prove_nothing(still):
    assert (always_valid_p(still, tau=0.1) == 1).all()


@pytest.mark.parametrize("tau", [5e-324, 1e-300, 1e300])
@pytest.mark.parametrize("variance", [None, 5e-324, 1e300])
@pytest.mark.parametrize("unit", [1e-310, 1.0, 1e305])
def test_absurd_scales_stay_probabilities(tau, variance, unit):
    series = unit * np.random.default_rng(7).normal(0, 1, 150)
    found = always_valid_p(series, tau=tau, variance=variance)
    assert ((found >= 0) & (found <= 1)).all()


@pytest.mark.parametrize(
    "changed",
    [
        {"tau": 0.0},
        {"tau": -1.0},
        {"tau": math.nan},
        {"tau": math.inf},
        {"variance": 0.0},
        {"variance": -1.0},
        {"variance": math.nan},
        {"burn_in": -1},
        {"burn_in": 10.0},
        {"differences": [0.1, math.nan]},
        {"differences": [[0.1], [0.2]]},
    ],
)
def test_arguments_out_of_range_are_refused(changed):
    arguments = {"differences": [0.1, 0.2], "tau": 1.0} | changed
    with pytest.raises(InvalidInput, match=next(iter(changed))):
        always_valid_p(**arguments)


def test_no_differences_are_refused():
    with pytest.raises(NotEnoughData):
        always_valid_p([], tau=1.0)


def test_a_million_observations_are_quick():
    series = np.random.default_rng(8).normal(size=1_000_000)
    always_valid_p(series[:200], tau=0.1)
    started = time.process_time()
    always_valid_p(series, tau=0.1)
    assert time.process_time() - started < 5.0


def false_positives(series_of, *, tau, variance=None, n_series=1_500):
    """Share of series without a mean that are called different at some look."""
    rng = np.random.default_rng(9)
    found = [always_valid_p(series_of(rng), tau=tau, variance=variance) for _ in range(n_series)]
    return np.mean([p[-1] <= LEVEL for p in found])


def test_looking_after_every_difference_raises_no_more_false_alarms_than_allowed():
    """A z-test looked at as often is wrong in about half of the series."""
    rng = np.random.default_rng(9)
    series = rng.normal(size=(1_000, 1_000))
    known = [always_valid_p(s, tau=0.2, variance=1.0)[-1] <= LEVEL for s in series]
    z = np.abs(series.cumsum(axis=1)) / np.sqrt(np.arange(1, 1_001))
    assert np.mean(known) < LEVEL
    assert np.mean(z.max(axis=1) > 1.96) > 0.4


@pytest.mark.slow
@pytest.mark.parametrize("tau", [0.05, 0.2, 0.5])
@pytest.mark.parametrize(
    ("root", "clustered"),
    [
        (0.0, False),
        (0.0, True),
        (0.3, False),
        (0.6, False),
        (0.6, True),
        (0.9, False),
        (-0.5, True),
    ],
)
def test_a_learned_variance_raises_no_more_false_alarms_than_allowed(root, clustered, tau):
    rate = false_positives(lambda rng: autoregression(2_500, root, clustered, rng), tau=tau)
    assert rate <= LEVEL


@pytest.mark.slow
def test_heavy_tails_raise_no_more_false_alarms_than_allowed():
    assert false_positives(lambda rng: rng.standard_t(3, 2_500), tau=0.3) <= LEVEL


@pytest.mark.slow
def test_a_variance_that_ignores_dependence_raises_many_false_alarms():
    """Why the learned variance is the long-run one: with a root of 0.6 it is 4 times the plain."""
    rate = false_positives(
        lambda rng: autoregression(2_500, 0.6, False, rng), tau=0.2, variance=0.25
    )
    assert rate > 0.3


@pytest.mark.slow
@pytest.mark.parametrize(
    ("root", "mean", "most"), [(0.0, 0.1, 1.05), (0.6, 0.1, 1.05), (0.9, 0.1, 1.35), (0.9, 0.2, 5)]
)
def test_to_learn_the_variance_costs_only_the_wait_for_enough_of_it(root, mean, most):
    """Median looks until the alarm, over those with the variance known.

    Nothing, unless the burn-in is longer than the test would have lasted: at a root of 0.9 the
    first verdict comes after some 950 differences.
    """
    rng = np.random.default_rng(10)
    stops = []
    for _ in range(300):
        series = mean + autoregression(6_000, root, False, rng)
        learned = always_valid_p(series, tau=mean)
        known = always_valid_p(series, tau=mean, variance=1.0)
        stops.append([np.argmax(p <= LEVEL) for p in (learned, known)])
    learned, known = np.median(stops, axis=0)
    assert learned <= most * known
