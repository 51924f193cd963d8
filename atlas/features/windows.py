"""Kernels over windows of bars, each value computed from its own window's rows alone.

A running sum carries the rounding of all rows before the window, so a tail would give other last
bits than the full history. These kernels start afresh in every window and add in one fixed order.

Every kernel takes `first`, the index of the oldest row in each row's window `(t - w, t]`, or −1
where the window is not warm; it gives NaN there. Shapes are `(n,)`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

__all__ = [
    "atr",
    "bollinger_position",
    "ema",
    "flow",
    "latest_known",
    "range_position",
    "realised_volatility",
    "relative_strength",
    "returns",
    "volume_ratio",
    "volume_score",
    "window_starts",
]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

# A window may miss one bar in twenty (an exchange's maintenance) and still count as warm.
MIN_COVERAGE = 0.95


def _kernel(function: Callable[..., Any]) -> Any:
    # No fastmath: it would let the compiler reorder sums. The cache spares later processes.
    return numba.njit(cache=True, nogil=True)(function)


def window_starts(
    segment: Ints, time_us: Ints, bars: int, interval_us: int, *, since_us: int
) -> Ints:
    """Return the oldest row of each window of `bars` intervals, −1 where it is not warm.

    Rows before `since_us` are not asked for: they get −1 too, and cost nothing.

    Parameters
    ----------
    segment : (n,)
        A number per symbol; rows of one symbol lie together, in order of time.
    time_us : (n,)
        Close of each bar in microseconds.
    """
    needed = math.ceil(bars * MIN_COVERAGE)
    starts: Ints = _window_starts(segment, time_us, bars * interval_us, needed, since_us)
    return starts


@_kernel
def _window_starts(segment, time_us, window_us, needed, since_us):  # type: ignore[no-untyped-def]
    n = time_us.size
    out = np.empty(n, np.int64)
    first = 0
    for i in range(n):
        while segment[first] != segment[i] or time_us[first] <= time_us[i] - window_us:
            first += 1
        warm = i - first + 1 >= needed and time_us[i] >= since_us
        out[i] = first if warm else -1
    return out


@_kernel
def latest_known(segment, time_us, known_us, window_us):  # type: ignore[no-untyped-def]
    """Return the latest `known_us` among the rows of each window, warm or not."""
    n = time_us.size
    out = np.empty(n, np.int64)
    queue = np.empty(n, np.int64)  # candidates for the maximum, newest last, values falling
    head = 0
    tail = 0
    for i in range(n):
        if i > 0 and segment[i] != segment[i - 1]:
            head = tail
        while tail > head and known_us[queue[tail - 1]] <= known_us[i]:
            tail -= 1
        queue[tail] = i
        tail += 1
        while time_us[queue[head]] <= time_us[i] - window_us:
            head += 1
        out[i] = known_us[queue[head]]
    return out


@_kernel
def returns(first, open_, close):  # type: ignore[no-untyped-def]
    """Return log(close / the window's opening price)."""
    out = np.full(close.size, np.nan)
    for i in range(close.size):
        if first[i] >= 0:
            out[i] = math.log(close[i] / open_[first[i]])
    return out


@_kernel
def realised_volatility(first, open_, close):  # type: ignore[no-untyped-def]
    """Return the root of the summed squared log returns within the window."""
    out = np.full(close.size, np.nan)
    for i in range(close.size):
        if first[i] >= 0:
            total = 0.0
            previous = open_[first[i]]
            for j in range(first[i], i + 1):
                step = math.log(close[j] / previous)
                total += step * step
                previous = close[j]
            out[i] = math.sqrt(total)
    return out


@_kernel
def relative_strength(first, open_, close):  # type: ignore[no-untyped-def]
    """Return Cutler's RSI, 0 to 100: gains over gains and losses, simple sums; 50 when flat."""
    out = np.full(close.size, np.nan)
    for i in range(close.size):
        if first[i] >= 0:
            gains = 0.0
            losses = 0.0
            previous = open_[first[i]]
            for j in range(first[i], i + 1):
                step = close[j] - previous
                if step > 0:
                    gains += step
                else:
                    losses -= step
                previous = close[j]
            moved = gains + losses
            out[i] = 100.0 * gains / moved if moved > 0 else 50.0
    return out


@_kernel
def bollinger_position(first, close):  # type: ignore[no-untyped-def]
    """Return (close − mean) / (2 standard deviations); NaN when the window is flat."""
    out = np.full(close.size, np.nan)
    for i in range(close.size):
        if first[i] >= 0:
            count = i - first[i] + 1
            total = 0.0
            for j in range(first[i], i + 1):
                total += close[j]
            mean = total / count
            squares = 0.0
            for j in range(first[i], i + 1):
                squares += (close[j] - mean) * (close[j] - mean)
            deviation = math.sqrt(squares / count)
            # Relative to the price: a flat window's mean may be one rounding off.
            if deviation > 1e-12 * mean:
                out[i] = (close[i] - mean) / (2.0 * deviation)
    return out


@_kernel
def range_position(first, high, low, close):  # type: ignore[no-untyped-def]
    """Return where the close lies between the window's low (0) and high (1); NaN when flat."""
    out = np.full(close.size, np.nan)
    for i in range(close.size):
        if first[i] >= 0:
            top = high[first[i]]
            bottom = low[first[i]]
            for j in range(first[i] + 1, i + 1):
                top = max(top, high[j])
                bottom = min(bottom, low[j])
            if top > bottom:
                out[i] = (close[i] - bottom) / (top - bottom)
    return out


@_kernel
def atr(first, open_, high, low, close):  # type: ignore[no-untyped-def]
    """Return the mean true range over the close."""
    out = np.full(close.size, np.nan)
    for i in range(close.size):
        if first[i] >= 0:
            total = 0.0
            previous = open_[first[i]]
            for j in range(first[i], i + 1):
                total += max(high[j], previous) - min(low[j], previous)
                previous = close[j]
            out[i] = total / (i - first[i] + 1) / close[i]
    return out


@_kernel
def volume_ratio(first, volume):  # type: ignore[no-untyped-def]
    """Return the bar's volume over the window's mean; NaN when nothing traded."""
    out = np.full(volume.size, np.nan)
    for i in range(volume.size):
        if first[i] >= 0:
            total = 0.0
            for j in range(first[i], i + 1):
                total += volume[j]
            if total > 0:
                out[i] = volume[i] * (i - first[i] + 1) / total
    return out


@_kernel
def volume_score(first, volume):  # type: ignore[no-untyped-def]
    """Return the standard score of log(1 + volume) within the window; NaN when it is flat."""
    out = np.full(volume.size, np.nan)
    for i in range(volume.size):
        if first[i] >= 0:
            count = i - first[i] + 1
            total = 0.0
            for j in range(first[i], i + 1):
                total += math.log1p(volume[j])
            mean = total / count
            squares = 0.0
            for j in range(first[i], i + 1):
                gap = math.log1p(volume[j]) - mean
                squares += gap * gap
            deviation = math.sqrt(squares / count)
            if deviation > 1e-12 * (1.0 + mean):
                out[i] = (math.log1p(volume[i]) - mean) / deviation
    return out


@_kernel
def flow(first, open_, close, volume):  # type: ignore[no-untyped-def]
    """Return volume of rising less falling bars over all volume; NaN when nothing traded."""
    out = np.full(close.size, np.nan)
    for i in range(close.size):
        if first[i] >= 0:
            signed = 0.0
            total = 0.0
            for j in range(first[i], i + 1):
                total += volume[j]
                if close[j] > open_[j]:
                    signed += volume[j]
                elif close[j] < open_[j]:
                    signed -= volume[j]
            if total > 0:
                out[i] = signed / total
    return out


@_kernel
def ema(first, values, alpha):  # type: ignore[no-untyped-def]
    """Return the exponential average over the window alone, its weights summing to one.

    NaN where the window holds a NaN: an average of values not yet warm is not warm.
    """
    out = np.full(values.size, np.nan)
    for i in range(values.size):
        if first[i] >= 0:
            weight = 1.0
            weights = 0.0
            total = 0.0
            for j in range(i, first[i] - 1, -1):
                total += weight * values[j]
                weights += weight
                weight *= 1.0 - alpha
            out[i] = total / weights
    return out
