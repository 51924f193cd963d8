"""The overfitting probability equals a slow exact count, ties and constants included."""

import time
import tracemalloc
from fractions import Fraction
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from atlas.errors import InvalidInput, NotEnoughData
from atlas.stats import overfitting_probability, overfitting_study


def exact_score(values):
    """Sharpe ratio squared with its sign, in rational numbers: the same order, no rounding."""
    values = [Fraction(v) for v in values]
    mean = sum(values) / len(values)
    variance = sum((v - mean) ** 2 for v in values)
    return 0 if variance == 0 else (1 if mean > 0 else -1) * mean**2 / variance


def slow_study(returns, n_blocks):
    """Bailey et al. (2017), section 3, word by word."""
    returns = np.asarray(returns, dtype=float)
    n_rows, n_trials = returns.shape
    blocks = np.array_split(returns[n_rows % n_blocks :], n_blocks)
    overfit = losses = n = 0
    for chosen in combinations(range(n_blocks), n_blocks // 2):
        seen = np.concatenate([blocks[i] for i in chosen])
        unseen = np.concatenate([blocks[i] for i in range(n_blocks) if i not in chosen])
        in_sample = [exact_score(seen[:, j]) for j in range(n_trials)]
        out_of_sample = [exact_score(unseen[:, j]) for j in range(n_trials)]
        best = in_sample.index(max(in_sample))
        mine = out_of_sample[best]
        below = sum(score < mine for score in out_of_sample)
        ties = sum(score == mine for score in out_of_sample)
        omega = Fraction(2 * below + ties + 1, 2 * (n_trials + 1))  # mean of the tied ranks
        overfit += omega <= Fraction(1, 2)  # log(omega / (1 - omega)) <= 0
        losses += mine < 0
        n += 1
    return overfit / n, losses / n


@settings(max_examples=40, deadline=None)
@given(
    arrays(
        np.float64,
        st.tuples(st.integers(4, 19), st.integers(2, 5)),
        elements=st.integers(-2, 2).map(float),
    ),
    st.sampled_from([2, 4]),
)
def test_coarse_returns_full_of_ties_and_constants_equal_the_exact_count(returns, n_blocks):
    study = overfitting_study(returns, n_blocks=n_blocks)
    assert (study.probability, study.loss_probability) == slow_study(returns, n_blocks)


@pytest.mark.parametrize(("n_rows", "n_trials", "n_blocks"), [(40, 7, 6), (53, 20, 8), (24, 4, 8)])
def test_continuous_returns_equal_the_exact_count(n_rows, n_trials, n_blocks):
    returns = np.random.default_rng(n_rows).normal(0.001, 0.01, (n_rows, n_trials))
    study = overfitting_study(returns, n_blocks=n_blocks)
    assert (study.probability, study.loss_probability) == slow_study(returns, n_blocks)


def test_a_moving_level_does_not_eat_the_digits_of_a_quiet_trial():
    """Squares summed around one mean would leave no digit of the deviations here."""
    rng = np.random.default_rng(3)
    level = np.repeat([1.0, 1.0, -1.0, 1.0, 1.0, -1.0], 4)[:, None]
    returns = level + rng.normal(0, 1e-7, (24, 5))
    assert overfitting_probability(returns, n_blocks=6) == slow_study(returns, 6)[0]


def test_two_trials_that_swap_places_are_always_overfit():
    returns = np.array([[3, 1], [4, 2], [1, 3], [2, 4]]) / 100.0
    assert overfitting_probability(returns, n_blocks=2) == 1.0


def test_a_trial_that_is_best_in_every_half_is_never_overfit():
    noise = np.random.default_rng(0).normal(0, 0.01, (320, 12))
    noise[:, 5] += 0.05
    assert overfitting_probability(noise) == 0.0


def test_the_median_rank_counts_as_overfit():
    """With three trials the winner may come second: omega is 1/2 and its logit 0."""
    first = np.array([[5, 2, 1], [6, 3, 2]])
    second = np.array([[2, 1, 5], [3, 2, 6]])  # ranked 3, 1, 2 out of sample, and vice versa
    returns = np.vstack([first, second]).astype(float)
    assert slow_study(returns, 2) == (1.0, 0.0)
    assert overfitting_probability(returns, n_blocks=2) == 1.0


def test_equal_sharpe_ratios_over_the_whole_record_give_one():
    """The vignette of R's pbo package: each winner in sample must lose out of sample."""
    noise = np.random.default_rng(1).normal(0, 1, (480, 30))
    flattened = (noise - noise.mean(axis=0)) / noise.std(axis=0)
    assert overfitting_probability(flattened, n_blocks=8) == pytest.approx(1.0, abs=0.03)


def test_the_first_of_identical_trials_wins_and_ties_take_the_middle_rank():
    one = np.random.default_rng(2).normal(0.001, 0.01, (64, 1))
    assert overfitting_probability(np.repeat(one, 9, axis=1)) == 1.0


def test_a_scaled_copy_of_a_trial_ties_with_it():
    noise = np.random.default_rng(4).normal(0, 0.01, (64, 5))
    copied = np.column_stack([noise, noise[:, 2] * 3.0])
    assert overfitting_probability(copied, n_blocks=8) == slow_study_with_twin(noise, 2)


def slow_study_with_twin(noise, twin):
    """The exact count where the copy is the same column: 3.0 times a float is rounded."""
    return slow_study(np.column_stack([noise, noise[:, twin]]), 8)[0]


def test_a_trial_constant_in_a_half_scores_zero_there_however_large():
    returns = np.random.default_rng(4).normal(0.01, 0.01, (28, 5))
    returns[:14, 4] = 0.1  # sums of 0.1 leave a tiny false deviation, and a ratio of 1e16
    returns[14:, 4] -= 0.03
    assert slow_study(returns, 2)[0] == 0.0
    assert overfitting_probability(returns, n_blocks=2) == 0.0


def test_the_oldest_remainder_is_left_out():
    returns = np.random.default_rng(6).normal(0, 0.01, (64, 6))
    with_older = np.vstack([np.full((15, 6), 9.0), returns])
    assert overfitting_study(with_older) == overfitting_study(returns)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**32 - 1), st.permutations(range(6)), st.floats(-300, 300))
def test_neither_the_order_nor_the_unit_of_trials_matters(seed, order, exponent):
    returns = np.random.default_rng(seed).normal(0, 0.01, (48, 6))
    moved = returns[:, order] * 10.0**exponent
    assert overfitting_probability(moved, n_blocks=6) == overfitting_probability(
        returns, n_blocks=6
    )


@pytest.mark.parametrize("n_blocks", [3, 15, 0, 26, 4.0])
def test_an_odd_or_absurd_number_of_blocks_is_refused(n_blocks):
    with pytest.raises(InvalidInput, match="n_blocks"):
        overfitting_probability(np.ones((64, 3)), n_blocks=n_blocks)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_return_that_is_not_finite_is_refused(bad):
    returns = np.zeros((64, 3))
    returns[7, 1] = bad
    with pytest.raises(InvalidInput, match=r"first at 7, 1"):
        overfitting_probability(returns)


@pytest.mark.parametrize("shape", [(64, 1), (15, 4), (0, 4)])
def test_too_little_data_is_refused(shape):
    with pytest.raises(NotEnoughData):
        overfitting_probability(np.zeros(shape))


def test_a_thousand_trials_stay_within_time_and_memory():
    returns = np.random.default_rng(7).normal(0, 0.01, (2_000, 1_000))
    overfitting_probability(returns[:, :20])
    started = time.process_time()
    overfitting_probability(returns)
    took = time.process_time() - started
    tracemalloc.start()
    overfitting_probability(returns)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert took < 3.6
    assert peak < 120e6
