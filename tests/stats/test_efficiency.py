"""Walk-forward efficiency pools windows, and refuses to divide losses."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atlas.errors import InvalidInput, NotEnoughData
from atlas.stats import walk_forward_efficiency


def test_it_pools_periods_by_hand():
    """In sample 0.30 over 6 periods, out of sample 0.08 over 4: 0.02 / 0.05."""
    in_sample = [[0.10, 0.0, 0.0, 0.0], [0.10, 0.10]]
    out_of_sample = [[0.05, -0.01], [0.06, -0.02]]
    assert walk_forward_efficiency(in_sample, out_of_sample) == pytest.approx(0.4)


def test_it_is_not_the_mean_of_the_windows_ratios():
    value = walk_forward_efficiency([[0.1], [0.3]], [[0.1], [0.0]])
    assert value == pytest.approx(0.25)


def test_returns_are_summed_and_not_compounded():
    assert walk_forward_efficiency([[0.5, 0.5]], [[0.5, -0.5, 0.5]]) == pytest.approx(1 / 3)


@pytest.mark.parametrize(
    "in_sample", [[[-0.1, 0.05]], [[0.0, 0.0]], [[0.1, 0.2, -0.3]], [[0.1], [-0.2]]]
)
def test_a_return_in_sample_that_is_not_positive_gives_nan(in_sample):
    """0.1 + 0.2 - 0.3 is a little above zero in binary, and is zero all the same."""
    assert math.isnan(walk_forward_efficiency(in_sample, [[-0.6]] * len(in_sample)))


@settings(max_examples=50, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.lists(st.floats(0.001, 0.1), min_size=1, max_size=8),
            st.lists(st.floats(-0.1, 0.1), min_size=1, max_size=8),
        ),
        min_size=1,
        max_size=6,
    )
)
def test_windows_only_matter_as_one_pool(windows):
    in_sample, out_of_sample = zip(*windows, strict=True)
    pooled = walk_forward_efficiency([np.concatenate(in_sample)], [np.concatenate(out_of_sample)])
    expected = np.mean(np.concatenate(out_of_sample)) / np.mean(np.concatenate(in_sample))
    assert walk_forward_efficiency(in_sample, out_of_sample) == pooled
    assert pooled == pytest.approx(expected, abs=1e-12)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(-200, 200))
def test_neither_unit_nor_order_matters_and_a_loss_turns_the_sign(seed, exponent):
    rng = np.random.default_rng(seed)
    trained, traded = 0.01 + rng.normal(0, 0.001, (5, 30)), rng.normal(0.005, 0.01, (5, 9))
    value = walk_forward_efficiency(trained, traded)
    unit = 10.0**exponent
    moved = walk_forward_efficiency(unit * trained[::-1], -unit * traded[::-1, ::-1])
    assert moved == pytest.approx(-value, rel=1e-9)


def test_unpaired_windows_are_refused():
    with pytest.raises(InvalidInput, match="2 in sample and 1 out of sample"):
        walk_forward_efficiency([[0.1], [0.1]], [[0.1]])


@pytest.mark.parametrize(("trained", "traded"), [([], []), ([[]], [[0.1]]), ([[0.1]], [[]])])
def test_missing_windows_are_refused(trained, traded):
    with pytest.raises(NotEnoughData):
        walk_forward_efficiency(trained, traded)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_returns_that_are_not_finite_are_refused(bad):
    with pytest.raises(InvalidInput, match=r"out_of_sample\[0\]"):
        walk_forward_efficiency([[0.1]], [[bad]])
