"""Windows hold the last rows of one symbol, none of them later than the decision."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atlas.engines import Dataset, History, Windows
from atlas.errors import InvalidInput


def slow_window(history: History, row: int, length: int) -> list[list[float]]:
    """Look through all rows for those of the symbol that are not later, and pad in front."""
    symbol, now = history.symbols[row], history.times[row]
    earlier = [
        (history.times[i], history.X[i].astype(np.float32).tolist())
        for i in range(len(history))
        if history.symbols[i] == symbol and history.times[i] <= now
    ]
    rows = [values for _, values in sorted(earlier, key=lambda pair: pair[0])][-length:]
    nothing = [[float("nan")] * history.X.shape[1]]
    return nothing * (length - len(rows)) + rows


@st.composite
def histories(draw: Any) -> History:
    keys = draw(
        st.lists(
            st.tuples(st.sampled_from(["A", "B", "C"]), st.integers(0, 30)),
            min_size=1,
            max_size=25,
            unique=True,
        )
    )
    values = np.arange(len(keys) * 2, dtype=np.float64).reshape(-1, 2)
    values[draw(st.integers(0, len(keys) - 1)), 0] = np.nan
    return History(
        values,
        symbols=np.array([symbol for symbol, _ in keys]),
        times=np.array([time for _, time in keys]),
    )


@settings(max_examples=150, deadline=None)
@given(history=histories(), length=st.integers(1, 8), data=st.data())
def test_windows_are_those_of_a_slow_search(
    history: History, length: int, data: st.DataObject
) -> None:
    chosen = st.lists(st.integers(0, len(history) - 1), min_size=1, max_size=10)
    rows = np.array(data.draw(chosen))
    windows = Windows(history, rows, length)
    assert windows.shape == (len(rows), length, 2)
    expected = np.array([slow_window(history, row, length) for row in rows], np.float32)
    np.testing.assert_array_equal(windows[:], expected)
    some = np.array(data.draw(st.lists(st.integers(0, len(rows) - 1), max_size=5)), np.intp)
    np.testing.assert_array_equal(windows[some], expected[some])


def test_a_symbol_with_two_rows_at_one_time_is_refused() -> None:
    history = History(
        np.zeros((3, 1)), symbols=np.array(["A", "B", "A"]), times=np.array([7, 7, 7])
    )
    with pytest.raises(InvalidInput, match="two of A at 7"):
        Windows(history, np.arange(3), 2)


HISTORY = History(
    np.arange(10.0)[:, None], symbols=np.repeat(["A", "B"], 5), times=np.tile(np.arange(5), 2)
)


def dataset_in(rows: Any, **changes: Any) -> Dataset:
    history, n = HISTORY, len(rows)
    given = {
        "features": ("a",),
        "intervals": np.column_stack([history.times[rows]] * 2),
        "symbols": history.symbols[rows],
        "history": history,
        "at": rows,
    }
    return Dataset(history.X[rows], np.where(np.arange(n) % 2, 1, -1), **{**given, **changes})


def test_rows_between_decisions_are_in_the_windows() -> None:
    dataset = dataset_in(np.array([4, 7]))
    assert dataset.windows(3)[:][:, :, 0].tolist() == [[2, 3, 4], [5, 6, 7]]


def test_a_fold_looks_back_on_rows_outside_it() -> None:
    fold = dataset_in(np.array([2, 3, 4, 7])).take(np.array([1]))
    assert fold.windows(2)[:][:, :, 0].tolist() == [[2, 3]]
    own = Dataset(
        HISTORY.X,
        np.tile([-1, 1], 5),
        features=("a",),
        intervals=np.column_stack([HISTORY.times] * 2),
        symbols=HISTORY.symbols,
    )
    assert own.take(np.array([8])).windows(3)[:][:, :, 0].tolist() == [[6, 7, 8]]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"at": np.array([4, 8])}, "another there"),
        ({"at": np.array([4, 10])}, "1 numbers outside it"),
        ({"at": None}, "together"),
        ({"at": np.array([4])}, r"at of shape \(2,\)"),
        ({"symbols": ["B", "B"]}, "another there"),
        (
            {"history": History(np.zeros((9, 2)), symbols=np.zeros(9), times=np.arange(9))},
            r"shape \(9, 2\)",
        ),
    ],
)
def test_a_history_that_does_not_hold_the_rows_is_refused(
    change: dict[str, Any], message: str
) -> None:
    with pytest.raises(InvalidInput, match=message):
        dataset_in(np.array([4, 7]), **change)


def test_a_history_has_one_symbol_and_time_a_row() -> None:
    with pytest.raises(InvalidInput, match="one length"):
        History(np.zeros((3, 1)), symbols=np.array(["A"] * 3), times=np.arange(2))


def test_no_window_is_empty() -> None:
    with pytest.raises(InvalidInput, match="at least one row"):
        Windows(HISTORY, np.arange(3), 0)


def test_memory_grows_with_the_batch_not_with_the_windows() -> None:
    # 200 000 windows of 100 rows would take 80 MB for each feature.
    history = History(
        np.zeros((200_000, 3)), symbols=np.zeros(200_000, np.int8), times=np.arange(200_000)
    )
    windows = Windows(history, np.arange(200_000), 100)
    held = [value.nbytes for value in vars(windows).values() if isinstance(value, np.ndarray)]
    assert sum(held) < 6_000_000
    assert windows[199_990:].shape == (10, 100, 3)
