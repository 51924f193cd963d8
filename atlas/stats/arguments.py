"""What a numeric argument must look like before a statistic is taken of it."""

import math
import operator
from collections.abc import Sequence
from typing import Any, SupportsIndex

import numpy as np
from numpy.typing import ArrayLike, NDArray

from atlas.errors import InvalidInput, NotEnoughData

__all__ = [
    "LAST_BAR",
    "FloatArray",
    "IntArray",
    "count",
    "fraction",
    "matrix",
    "numbers",
    "pair",
    "positive",
    "spans",
    "vector",
]

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

# Half of what an int64 holds, so that an end plus an embargo cannot wrap around.
LAST_BAR = 2**62 - 1


def vector(values: ArrayLike, name: str, *, at_least: int = 1) -> FloatArray:
    """Return `values` as a finite `(n,)` array, or say what is wrong with it."""
    array = numbers(values, name)
    if array.ndim != 1:
        raise InvalidInput(
            f"{name}: expected one dimension, found shape {array.shape}. Pass one series."
        )
    if array.size < at_least:
        raise NotEnoughData(f"{name}: expected at least {at_least} values, found {array.size}.")
    return _finite(array, name)


def pair(a: ArrayLike, b: ArrayLike, *, at_least: int) -> tuple[FloatArray, FloatArray]:
    """Return two finite `(n,)` arrays of the same periods."""
    first, second = vector(a, "a", at_least=at_least), vector(b, "b", at_least=at_least)
    if first.size != second.size:
        raise InvalidInput(
            f"a and b: expected the same periods, found {first.size} and {second.size}. "
            "Align them by time first."
        )
    return first, second


def matrix(values: ArrayLike, name: str) -> FloatArray:
    """Return `values` as a finite `(n, k)` array, or say what is wrong with it."""
    array = numbers(values, name)
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
    if array.size and (array.max() > LAST_BAR or array.min() < -LAST_BAR):
        raise InvalidInput(
            f"intervals: expected bars within {LAST_BAR} of 0, found {array.min()} to "
            f"{array.max()}. Number the bars of the common time axis."
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


def positive(value: float, name: str) -> float:
    """Return a finite number above 0; NaN is not."""
    if not 0 < value < math.inf:
        raise InvalidInput(f"{name}: expected a finite number above 0, found {value!r}.")
    return float(value)


def numbers(values: ArrayLike | Sequence[Any], name: str) -> FloatArray:
    """Return `values` as an array of floats; text, times, complex and masked values are refused."""
    try:
        array = np.asanyarray(values)
        # numpy reads "0.1" and a time span as floats, and drops a mask and an imaginary part.
        if array.dtype.kind not in "biufO" or np.ma.is_masked(array):
            raise TypeError
        if array.dtype.kind == "O" and any(isinstance(v, str | bytes) for v in array.flat):
            raise TypeError
        with np.errstate(over="ignore"):
            return np.asarray(array, dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        raise InvalidInput(f"{name}: expected numbers in a regular array, none masked.") from None


def _finite(array: FloatArray, name: str) -> FloatArray:
    bad = np.argwhere(~np.isfinite(array))
    if bad.size:
        place = ", ".join(str(i) for i in bad[0])
        raise InvalidInput(
            f"{name}: expected finite numbers, found {len(bad)} NaN or infinite "
            f"(first at {place}). Repair or drop those periods for every trial alike."
        )
    return array
