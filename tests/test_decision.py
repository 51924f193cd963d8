"""The rule from score to side, and the grid of bars that decide."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from atlas.decision import centre_of, on_grid, sides
from atlas.errors import InvalidInput

MINUTE_US = 60_000_000


def test_a_side_is_taken_only_beyond_the_threshold():
    scores = [0.0, 0.39, 0.4, 0.41, 0.5, 0.59, 0.6, 0.61, 1.0]
    assert sides(scores, 0.1).tolist() == [-1, -1, 0, 0, 0, 0, 0, 1, 1]


def test_without_a_threshold_only_one_half_and_nan_take_no_side():
    assert sides([0.5, np.nan, 0.5 - 1e-12, 0.5 + 1e-12], 0.0).tolist() == [0, 0, -1, 1]


def test_a_forecast_return_takes_sides_about_nothing():
    forecasts = [-0.02, -0.01, 0.0, 0.01, 0.02, np.nan]
    assert sides(forecasts, 0.01, centre=centre_of("return")).tolist() == [-1, 0, 0, 0, 1, 0]
    assert centre_of("direction") == 0.5
    with pytest.raises(InvalidInput, match="direction or return"):
        centre_of("volatility")


@given(
    st.lists(st.floats(0, 1), min_size=1, max_size=20),
    st.floats(0, 0.5, exclude_max=True),
)
def test_many_scores_take_the_sides_that_each_takes_alone(scores, threshold):
    alone = [1 if s > 0.5 + threshold else -1 if s < 0.5 - threshold else 0 for s in scores]
    assert sides(scores, threshold).tolist() == alone


@pytest.mark.parametrize("threshold", [-0.01, 0.5, np.nan])
def test_a_threshold_outside_its_range_is_refused(threshold):
    with pytest.raises(InvalidInput, match="threshold"):
        sides([0.5], threshold)


def test_every_thirtieth_minute_decides():
    closes = np.arange(0, 91) * MINUTE_US
    assert np.flatnonzero(on_grid(closes, MINUTE_US, 30)).tolist() == [0, 30, 60, 90]


def test_a_close_between_two_intervals_never_decides():
    assert not on_grid([MINUTE_US + 1, 30 * MINUTE_US - 1], MINUTE_US, 1).any()


@pytest.mark.parametrize(("interval_us", "decision_bars"), [(0, 1), (MINUTE_US, 0)])
def test_a_grid_of_nothing_is_refused(interval_us, decision_bars):
    with pytest.raises(InvalidInput, match="positive"):
        on_grid([0], interval_us, decision_bars)
