"""What became of a position: profit, stop or time, whichever barrier was touched first."""

from typing import SupportsIndex

import numpy as np
import polars as pl
from numba import njit
from numpy.typing import ArrayLike, NDArray

from atlas.errors import InvalidInput
from atlas.stats.arguments import FloatArray, IntArray, count, numbers, vector

__all__ = ["triple_barrier"]

# A close of 110 touches a barrier 10 % above 100, though 100 * 1.1 is a little more than 110.
# No price tick is as small.
ROUNDING = 1e-12


def triple_barrier(
    close: ArrayLike,
    starts: ArrayLike,
    *,
    up: ArrayLike,
    down: ArrayLike,
    horizon: SupportsIndex,
    high: ArrayLike | None = None,
    low: ArrayLike | None = None,
) -> pl.DataFrame:
    """Label each start by the first barrier that the price touches in the bars after it.

    A position is entered at the close of bar `start`. It ends at the first bar whose high reaches
    `close * (1 + up)` or whose low reaches `close * (1 - down)`, else at the close `horizon` bars
    later. When both lie inside one bar, the stop came first. A touch is paid at the barrier, or
    at the bar's nearest price where the whole bar lies beyond it.

    An event that touched before the data end is finished; one that did not, and whose vertical
    barrier lies past the end, is dropped.

    Parameters
    ----------
    close : (n_bars,)
        Positive prices.
    starts : (n_starts,) int
        Positions of the entry bars, in any order.
    up, down : float or (n_starts,)
        Distance of the barriers as positive fractions of the entry price.
    horizon : int
        Bars until the vertical barrier.
    high, low : (n_bars,), optional
        Extremes of each bar; without them only closes touch.

    Returns
    -------
    DataFrame
        `start`, `end`: bar positions (Int64), both inside the label. `ret`: gross return of a long
        position (Float64). `label` (Int8): 1 at the upper barrier, -1 at the lower, and the sign
        of the return at the vertical one. One row a finished event, in the order of `starts`.

    Raises
    ------
    InvalidInput
        If a price is not positive, a start is outside the bars, a barrier is not above 0, or a
        high is below its low.

    References
    ----------
    López de Prado (2018), "Advances in Financial Machine Learning", ch. 3.
    """
    prices = _prices(close, "close")
    highs = prices if high is None else _prices(high, "high", like=prices)
    lows = prices if low is None else _prices(low, "low", like=prices)
    crossed = np.flatnonzero(highs < lows)
    if crossed.size:
        raise InvalidInput(
            f"high and low: expected every high at or above its low, found {crossed.size} below "
            f"(first in bar {crossed[0]}). Quarantine those bars."
        )
    entries = _positions(starts, prices.size)
    end, ret, label = _first_touches(
        prices,
        highs,
        lows,
        entries,
        _distances(up, "up", entries.size),
        _distances(down, "down", entries.size),
        count(horizon, "horizon", at_least=1),
    )
    finished = end >= 0
    return pl.DataFrame(
        {
            "start": entries[finished],
            "end": end[finished],
            "ret": ret[finished],
            "label": label[finished],
        }
    )


def _prices(values: ArrayLike, name: str, like: FloatArray | None = None) -> FloatArray:
    prices = np.ascontiguousarray(vector(values, name))
    if like is not None and prices.size != like.size:
        raise InvalidInput(f"{name}: expected {like.size} bars as in close, found {prices.size}.")
    bad = np.flatnonzero(prices <= 0)
    if bad.size:
        raise InvalidInput(
            f"{name}: expected positive prices, found {bad.size} that are not (first in bar "
            f"{bad[0]}). A barrier is a fraction of the price: shift prices that may be negative."
        )
    return prices


def _positions(starts: ArrayLike, n_bars: int) -> IntArray:
    positions = np.asarray(starts)
    if positions.size == 0:
        return np.empty(0, dtype=np.int64)
    if positions.ndim != 1 or not np.issubdtype(positions.dtype, np.integer):
        raise InvalidInput(
            f"starts: expected one series of bar positions, found {positions.dtype} of shape "
            f"{positions.shape}."
        )
    outside = np.flatnonzero((positions < 0) | (positions >= n_bars))
    if outside.size:
        raise InvalidInput(
            f"starts: expected positions in [0, {n_bars}), found {positions[outside[0]]} in row "
            f"{outside[0]}."
        )
    return np.ascontiguousarray(positions, dtype=np.int64)


def _distances(values: ArrayLike, name: str, n_starts: int) -> FloatArray:
    distances = np.atleast_1d(numbers(values, name))
    if distances.ndim != 1 or distances.size not in (1, n_starts):
        raise InvalidInput(
            f"{name}: expected one fraction or one for each of {n_starts} starts, found shape "
            f"{distances.shape}."
        )
    if not ((distances > 0) & np.isfinite(distances)).all():
        raise InvalidInput(
            f"{name}: expected positive fractions, found zero, negative or NaN. "
            "Drop the starts whose volatility has not warmed up."
        )
    return np.ascontiguousarray(np.broadcast_to(distances, (n_starts,)))


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _first_touches(
    close: FloatArray,
    high: FloatArray,
    low: FloatArray,
    starts: IntArray,
    up: FloatArray,
    down: FloatArray,
    horizon: int,
) -> tuple[IntArray, FloatArray, NDArray[np.int8]]:
    n_bars, n_starts = close.size, starts.size
    end = np.full(n_starts, -1, dtype=np.int64)
    ret = np.zeros(n_starts, dtype=np.float64)
    label = np.zeros(n_starts, dtype=np.int8)
    for i in range(n_starts):
        entry = close[starts[i]]
        profit, stop = entry * (1.0 + up[i]), entry * (1.0 - down[i])
        reached, fell = profit * (1.0 - ROUNDING), stop * (1.0 + ROUNDING)
        for bar in range(starts[i] + 1, min(starts[i] + horizon, n_bars - 1) + 1):
            if low[bar] <= fell:
                end[i], label[i] = bar, -1
                if low[bar] < stop < high[bar]:
                    ret[i] = -down[i]
                else:
                    ret[i] = min(max(stop, low[bar]), high[bar]) / entry - 1.0
                break
            if high[bar] >= reached:
                end[i], label[i] = bar, 1
                if low[bar] < profit < high[bar]:
                    ret[i] = up[i]
                else:
                    ret[i] = min(max(profit, low[bar]), high[bar]) / entry - 1.0
                break
        if end[i] < 0 and starts[i] + horizon < n_bars:
            end[i] = starts[i] + horizon
            ret[i] = close[end[i]] / entry - 1.0
            label[i] = 1 if ret[i] > 0.0 else (-1 if ret[i] < 0.0 else 0)
    return end, ret, label
