"""What a dataset refuses, and how features are compared."""

from typing import Any

import numpy as np
import pytest

from atlas.engines import Dataset, check_features
from atlas.errors import FeatureMismatch, InvalidInput

GOOD: dict[str, Any] = {
    "X": np.array([[1.0, np.nan], [2.0, 3.0]]),
    "y": np.array([-1, 1]),
    "features": ("a", "b"),
    "intervals": np.array([[0, 3], [1, 2]]),
    "symbols": ["BTC_USDT", "ETH_USDT"],
}


def test_weights_are_one_unless_given() -> None:
    assert Dataset(**GOOD).weights.tolist() == [1.0, 1.0]


def test_a_fold_holds_the_chosen_rows_whole() -> None:
    dataset = Dataset(**GOOD, weights=np.array([0.25, 0.5]))
    for rows in (np.array([1]), np.array([False, True])):
        fold = dataset.take(rows)
        assert len(fold) == 1
        assert fold.X.tolist() == [[2.0, 3.0]]
        assert (fold.y[0], fold.weights[0], fold.symbols[0]) == (1, 0.5, "ETH_USDT")
        assert fold.intervals.tolist() == [[1, 2]]
        assert fold.features == ("a", "b")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"X": np.zeros((2, 3))}, r"X of shape \(2, 2\)"),
        ({"X": np.array([[1.0, np.inf], [0, 0]])}, "found inf in row 0 of 'b'"),
        ({"y": np.array([0, 1])}, r"labels -1 and \+1; found \[0\]"),
        ({"intervals": np.zeros((2, 3), int)}, r"intervals of shape \(2, 2\)"),
        ({"symbols": ["BTC_USDT"]}, r"symbols of shape \(2,\)"),
        ({"weights": np.array([1.0, -1.0])}, "not negative"),
        ({"weights": np.array([1.0, np.nan])}, "not negative"),
        ({"features": ("a", "a")}, "found twice: a"),
    ],
)
def test_what_does_not_fit_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        Dataset(**{**GOOD, **change})


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (("a", "b"), "trained on 3 features; the vector has 2. Missing: c."),
        (("a", "b", "c", "d"), "the vector has 4. Unknown: d."),
        (("a", "x", "c"), "Missing: b. Unknown: x."),
        (("a", "c", "b"), "Out of order: position 1 holds c, expected b."),
        (("a", "b", "c", "b"), "Named twice: b."),
    ],
)
def test_a_mismatch_names_the_difference(given: tuple[str, ...], message: str) -> None:
    with pytest.raises(FeatureMismatch) as caught:
        check_features(("a", "b", "c"), given, model="direction_ohlcv_1m/41")
    assert str(caught.value).startswith("Model direction_ohlcv_1m/41 was trained on 3 features")
    assert message in str(caught.value)


def test_the_same_features_in_the_same_order_agree() -> None:
    check_features(["a", "b"], ("a", "b"))
