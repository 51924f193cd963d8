"""How a score becomes a side, and on which bars a position may change.

The backtest and the worker call these same two functions, so that what was judged is what trades.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from atlas.errors import InvalidInput

__all__ = ["centre_of", "on_grid", "sides"]


def centre_of(task: str) -> float:
    """Return the score that favours no side: an even chance, or of a forecast return none at all.

    Raises
    ------
    InvalidInput
        If there is no such task.
    """
    if task not in ("direction", "return"):
        raise InvalidInput(f"Expected a model that tells direction or return; found {task!r}.")
    return 0.5 if task == "direction" else 0.0


def sides(scores: ArrayLike, threshold: float, *, centre: float = 0.5) -> NDArray[np.int8]:
    """Return +1 above `centre + threshold`, −1 below `centre - threshold`, else 0.

    A score exactly on a bound takes no side, and neither does NaN: the absence of an opinion.

    Parameters
    ----------
    scores : any shape
        Probability that the upper barrier is touched first, or a forecast return.
    threshold : float
        Distance from the centre that an opinion must exceed, in [0, 0.5).
    centre : float
        From `centre_of`.

    Raises
    ------
    InvalidInput
        If the threshold is outside its range.
    """
    if not 0.0 <= threshold < 0.5:  # NaN fails
        raise InvalidInput(f"Expected a threshold of at least 0 and under 0.5; found {threshold}.")
    values = np.asarray(scores, dtype=np.float64)
    above = (values > centre + threshold).astype(np.int8)
    below = (values < centre - threshold).astype(np.int8)
    return np.asarray(above - below)


def on_grid(event_us: ArrayLike, interval_us: int, decision_bars: int) -> NDArray[np.bool_]:
    """Tell which bars decide: those whose close is a whole multiple of `decision_bars` intervals.

    Parameters
    ----------
    event_us : any shape, integers
        Closes of bars, in microseconds since 1970.
    interval_us : int
        Length of a bar, in microseconds.

    Raises
    ------
    InvalidInput
        If the interval or the number of bars is not positive.
    """
    if interval_us <= 0 or decision_bars <= 0:
        raise InvalidInput(
            f"Expected a positive interval and number of bars; found {interval_us} and "
            f"{decision_bars}."
        )
    closes = np.asarray(event_us, dtype=np.int64)
    return np.asarray(closes % (interval_us * decision_bars) == 0)
