"""Triple-barrier labels equal a slow walk bar by bar."""

import time

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from atlas.errors import InvalidInput
from atlas.stats import triple_barrier


def slow_barrier(close, starts, up, down, horizon, high=None, low=None):
    high, low = (close if high is None else high), (close if low is None else low)
    rows = []
    for start, u, d in zip(starts, up, down, strict=True):
        entry = close[start]
        for bar in range(start + 1, start + horizon + 1):
            if bar >= len(close):
                break
            if low[bar] <= entry * (1 - d):
                paid = min(entry * (1 - d), high[bar])
                rows.append((start, bar, paid / entry - 1, -1))
                break
            if high[bar] >= entry * (1 + u):
                paid = max(entry * (1 + u), low[bar])
                rows.append((start, bar, paid / entry - 1, 1))
                break
            if bar == start + horizon:
                ret = close[bar] / entry - 1
                rows.append((start, bar, ret, int(np.sign(ret))))
    schema = {"start": pl.Int64, "end": pl.Int64, "ret": pl.Float64, "label": pl.Int8}
    return pl.DataFrame(rows, schema=schema, orient="row")


def walk(seed, n):
    rng = np.random.default_rng(seed)
    close = 100 * np.exp(np.cumsum(rng.normal(0, 0.01, n)))
    high = close * (1 + rng.exponential(0.006, n))
    low = close * (1 - rng.uniform(0, 0.01, n))
    return close, high, low


@settings(max_examples=60, deadline=None)
@given(st.data(), st.integers(0, 2**32 - 1), st.integers(1, 40), st.booleans())
def test_labels_equal_the_slow_walk(data, seed, n, with_extremes):
    close, high, low = walk(seed, n)
    starts = data.draw(st.lists(st.integers(0, n - 1), max_size=12))
    size = len(starts)
    widths = st.lists(st.floats(0.002, 0.05), min_size=size, max_size=size)
    up, down = data.draw(widths), data.draw(widths)
    horizon = data.draw(st.integers(1, 15))
    extremes = {"high": high, "low": low} if with_extremes else {}
    labels = triple_barrier(close, starts, up=up, down=down, horizon=horizon, **extremes)
    assert_frame_equal(labels, slow_barrier(close, starts, up, down, horizon, **extremes))


def test_each_way_to_end_by_hand():
    close = [100, 102, 99, 101, 101, 90, 100]
    labels = triple_barrier(close, [0, 1, 3, 4, 5], up=0.02, down=0.05, horizon=2)
    assert labels.rows() == [
        (0, 1, pytest.approx(0.02), 1),  # 102 touches 2 % above 100
        (1, 3, pytest.approx(101 / 102 - 1), -1),  # time: the sign of a small loss
        (3, 5, pytest.approx(90 / 101 - 1), -1),  # the stop, gapped through
        (4, 5, pytest.approx(90 / 101 - 1), -1),
        (5, 6, pytest.approx(100 / 90 - 1), 1),  # finished, though the vertical is past the end
    ]


def test_a_flat_price_at_the_vertical_barrier_is_neither():
    labels = triple_barrier([100, 101, 100], [0], up=0.05, down=0.05, horizon=2)
    assert labels.rows() == [(0, 2, 0.0, 0)]


def test_an_event_is_finished_by_a_touch_or_by_its_last_bar_and_not_before():
    """Horizon 3 on four bars: the vertical barrier of bar 0 is the last one, of bar 1 beyond."""
    ask = {"up": 0.5, "down": 0.5, "horizon": 3}
    assert triple_barrier([100, 101, 102, 103], [0, 1], **ask)["start"].to_list() == [0]
    touched = triple_barrier([100, 101, 102, 160], [1, 2], **ask)
    assert touched.rows() == [
        (1, 3, pytest.approx(160 / 101 - 1), 1),
        (2, 3, pytest.approx(160 / 102 - 1), 1),
    ]


def test_an_event_without_a_touch_before_the_data_end_is_dropped():
    labels = triple_barrier([100, 101, 100, 101], [0, 1, 2, 3], up=0.05, down=0.05, horizon=2)
    assert labels["start"].to_list() == [0, 1]


def test_the_stop_comes_first_when_one_bar_holds_both_barriers():
    labels = triple_barrier(
        [100, 100], [0], up=0.02, down=0.03, horizon=1, high=[100, 105], low=[100, 95]
    )
    assert labels.rows() == [(0, 1, -0.03, -1)]


def test_a_touch_inside_the_bar_is_paid_at_the_barrier_and_a_gap_at_the_bar():
    close, high, low = [100, 100, 110], [100, 103, 112], [100, 99, 108]
    labels = triple_barrier(close, [0, 1], up=0.02, down=0.03, horizon=1, high=high, low=low)
    assert labels.rows() == [(0, 1, 0.02, 1), (1, 2, pytest.approx(0.08), 1)]


@pytest.mark.parametrize(("close", "label"), [([100, 110], 1), ([100, 90], -1)])
def test_a_price_exactly_at_the_barrier_touches_it(close, label):
    """100 * 1.1 is more than 110 in binary."""
    labels = triple_barrier(close, [0], up=0.1, down=0.1, horizon=1)
    assert labels["label"].to_list() == [label]


def test_the_entry_bar_itself_touches_nothing():
    labels = triple_barrier(
        [100, 100], [0], up=0.02, down=0.02, horizon=1, high=[150, 101], low=[50, 99]
    )
    assert labels.rows() == [(0, 1, 0.0, 0)]


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(2, 60), st.integers(1, 10))
def test_extremes_equal_to_the_close_change_nothing(seed, n, horizon):
    close, _, _ = walk(seed, n)
    ask = {"up": 0.015, "down": 0.01, "horizon": horizon}
    plain = triple_barrier(close, np.arange(n), **ask)
    assert plain.equals(triple_barrier(close, np.arange(n), high=close, low=close, **ask))


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(2, 60), st.integers(-40, 40), st.randoms())
def test_neither_the_prices_unit_nor_the_order_of_starts_matters(seed, n, exponent, random):
    close, high, low = walk(seed, n)
    starts = list(range(n))
    ask = {"up": 0.02, "down": 0.015, "horizon": 5}
    labels = triple_barrier(close, starts, high=high, low=low, **ask)
    random.shuffle(starts)
    unit = 2.0**exponent
    again = triple_barrier(unit * close, starts, high=unit * high, low=unit * low, **ask)
    assert_frame_equal(again.sort("start"), labels)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(5, 60), st.integers(1, 10))
def test_labels_see_no_bar_after_their_end(seed, n, horizon):
    close, _, _ = walk(seed, n)
    labels = triple_barrier(close, np.arange(n), up=0.015, down=0.01, horizon=horizon)
    cut = n // 2
    known = triple_barrier(close[:cut], np.arange(cut), up=0.015, down=0.01, horizon=horizon)
    assert known.equals(labels.filter(pl.col("end") < cut))


def test_no_starts_give_an_empty_frame_of_the_same_types():
    empty = triple_barrier([1.0, 2.0], [], up=0.1, down=0.1, horizon=1)
    full = triple_barrier([1.0, 2.0], [0], up=0.1, down=0.1, horizon=1)
    assert (empty.height, empty.schema) == (0, full.schema)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"close": [100.0, 0.0, 99.0]}, "positive prices"),
        ({"close": [100.0, np.nan, 99.0]}, "finite"),
        ({"starts": [3]}, "starts"),
        ({"starts": [-1]}, "starts"),
        ({"starts": [0.5]}, "starts"),
        ({"up": 0.0}, "up"),
        ({"down": np.nan}, "down"),
        ({"up": [0.1, 0.1]}, "up"),
        ({"horizon": 0}, "horizon"),
        ({"high": [1.0, 2.0]}, "high"),
        ({"high": [100.0] * 3, "low": [100.0, 101.0, 100.0]}, "high and low"),
    ],
)
def test_malformed_arguments_are_refused(changed, message):
    arguments = {"close": [100.0, 101.0, 99.0], "starts": [0], "up": 0.1, "down": 0.1, "horizon": 2}
    with pytest.raises(InvalidInput, match=message):
        triple_barrier(**arguments | changed)


def test_a_hundred_thousand_starts_are_quick():
    close, high, low = walk(1, 100_000)
    ask = {"up": 0.03, "down": 0.03, "horizon": 240, "high": high, "low": low}
    triple_barrier(close[:50], [0], up=0.03, down=0.03, horizon=2, high=high[:50], low=low[:50])
    started = time.process_time()
    labels = triple_barrier(close, np.arange(100_000), **ask)
    assert time.process_time() - started < 1.0
    assert labels.height > 99_000
