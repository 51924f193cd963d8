"""What a numeric argument must look like before a statistic is taken of it."""

import operator
from collections.abc import Sequence
from typing import Any, SupportsIndex

import numpy as np
from numpy.typing import ArrayLike, NDArray

from atlas.errors import InvalidInput, NotEnoughData

__all__ = ["FloatArray", "IntArray", "count", "fraction", "matrix", "spans", "vector"]

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


def vector(values: ArrayLike, name: str, *, at_least: int = 1) -> FloatArray:
    """Return `values` as a finite `(n,)` array, or say what is wrong with it."""
    array = _numbers(values, name)
    if array.ndim != 1:
        raise InvalidInput(
            f"{name}: expected one dimension, found shape {array.shape}. Pass one series."
        )
    if array.size < at_least:
        raise NotEnoughData(f"{name}: expected at least {at_least} values, found {array.size}.")
    return _finite(array, name)


def matrix(values: ArrayLike, name: str) -> FloatArray:
    """Return `values` as a finite `(n, k)` array, or say what is wrong with it."""
    array = _numbers(values, name)
    if array.ndim != 2:
        raise InvalidInput(
            f"{name}: expected two dimensions, found shape {array.shape}. "
            "Pass one row a period and one column a trial."
        )
    return _finite(array, name)


def spans(intervals: ArrayLike) -> IntArray:
    """Return `(n, 2)` closed label spans in bars, first bar and last."""
    array = np.asarray(intervals)
    if array.ndim != 2 or array.shape[1] != 2:
        raise InvalidInput(
            f"intervals: expected shape (n, 2), found {array.shape}. "
            "Pass the first and the last bar of each label."
        )
    if not np.issubdtype(array.dtype, np.integer):
        raise InvalidInput(
            f"intervals: expected whole bar positions, found {array.dtype}. "
            "Number the bars of the common time axis."
        )
    array = array.astype(np.int64, copy=False)
    backwards = np.flatnonzero(array[:, 1] < array[:, 0])
    if backwards.size:
        raise InvalidInput(
            f"intervals: expected every end at or after its start, found {backwards.size} that "
            f"end before (first in row {backwards[0]}). Swap the columns or drop those labels."
        )
    return array


def count(value: SupportsIndex, name: str, *, at_least: int) -> int:
    """Return a whole number that is large enough."""
    try:
        whole = operator.index(value)
    except TypeError:
        raise InvalidInput(f"{name}: expected a whole number, found {value!r}.") from None
    if whole < at_least:
        raise InvalidInput(f"{name}: expected at least {at_least}, found {whole}.")
    return whole


def fraction(value: float, name: str, *, low: float = 0.0, high: float = 1.0) -> float:
    """Return a number in `[low, high)`; NaN is outside."""
    if not low <= value < high:
        raise InvalidInput(f"{name}: expected a number in [{low:g}, {high:g}), found {value!r}.")
    return float(value)


def _numbers(values: ArrayLike | Sequence[Any], name: str) -> FloatArray:
    try:
        return np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError):
        raise InvalidInput(f"{name}: expected numbers in a regular array.") from None


def _finite(array: FloatArray, name: str) -> FloatArray:
    bad = np.argwhere(~np.isfinite(array))
    if bad.size:
        place = ", ".join(str(i) for i in bad[0])
        raise InvalidInput(
            f"{name}: expected finite numbers, found {len(bad)} NaN or infinite "
            f"(first at {place}). Repair or drop those periods for every trial alike."
        )
    return array
