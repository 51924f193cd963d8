"""How far wealth falls from its peak, and how likely it is to fall too far."""

import math
from typing import SupportsIndex

import numpy as np
from numba import njit
from numpy.typing import ArrayLike

from atlas.errors import InvalidInput
from atlas.stats.arguments import FloatArray, count, fraction, vector
from atlas.stats.binomial import clopper_pearson

__all__ = ["automatic_block", "breach_probability", "max_drawdown"]

# Clustering of volatility is under-measured on short records; shorter blocks would hide it.
SHORTEST_BLOCK = 5.0

# A fall of exactly the limit, rounded up by compounding, is not a breach.
ROUNDING = 1e-12


def max_drawdown(returns: ArrayLike) -> float:
    """Return the deepest fall of compounded wealth from its peak, as a fraction in `[0, 1]`.

    The start counts as a peak. A loss of 100 % or more ends wealth: the drawdown is 1.

    Parameters
    ----------
    returns : (n,)
        Net return per period as a fraction.
    """
    return float(_deepest(_growth(returns)))


def breach_probability(
    returns: ArrayLike,
    *,
    limit: float,
    horizon: SupportsIndex,
    mean_block: float | None = None,
    n_paths: SupportsIndex = 10_000,
    seed: SupportsIndex = 0,
) -> tuple[float, float]:
    """Estimate how often wealth falls further than `limit` from its peak within `horizon`.

    Paths are drawn by the stationary bootstrap: runs of consecutive periods, of geometric length,
    from uniform starts, on the record bent into a circle. Wealth compounds, the start counts as a
    peak, and a drawdown strictly above the limit is a breach. No path can hold a single loss
    larger than the record's worst.

    Parameters
    ----------
    returns : (n,)
        Net return per period as a fraction.
    limit : float
        Drawdown as a fraction, in `[0, 1)`.
    horizon : int
        Periods in a path.
    mean_block : float, optional
        Mean run length in periods, at least 1 (1 draws each period independently). By default
        `automatic_block`, at least 5.
    n_paths : int
    seed : int
        The same seed gives the same answer.

    Returns
    -------
    estimate, upper : float
        Share of paths in breach, and its one-sided 95 % Clopper-Pearson upper bound, which covers
        the finite number of paths but not the finite record.

    Raises
    ------
    InvalidInput
        If a return is NaN or infinite, or an argument is out of its range.
    NotEnoughData
        If there is no return.

    References
    ----------
    Politis, Romano (1994), "The Stationary Bootstrap", JASA 89(428).
    """
    growth = _growth(returns)
    limit = fraction(limit, "limit")
    steps = count(horizon, "horizon", at_least=1)
    paths = count(n_paths, "n_paths", at_least=1)
    if mean_block is None:
        mean_block = automatic_block(returns)
    if not 1 <= mean_block < math.inf:
        raise InvalidInput(
            f"mean_block: expected a finite length of at least one period, found {mean_block!r}."
        )
    floor = (1 - limit) * (1 - ROUNDING)
    rng = np.random.default_rng(count(seed, "seed", at_least=0))
    breaches = int(_breaches(growth, floor, steps, float(mean_block), paths, rng))
    return breaches / paths, clopper_pearson(breaches, paths, 0.95, "upper")


def automatic_block(returns: ArrayLike) -> float:
    """Return the stationary bootstrap's mean block: at least 5, more where volatility clusters.

    The automatic choice is made on absolute returns, since it is their dependence, hardly seen in
    the returns themselves, that makes drawdowns deep.

    References
    ----------
    Politis, White (2004), Econometric Reviews 23(1); Patton, Politis, White (2009), 28(4).
    """
    size = np.abs(vector(returns, "returns"))
    # Below a dozen values the choice divides by zero lags; constants have no dependence at all.
    if size.size < 12 or (size == size[0]).all():
        return SHORTEST_BLOCK
    # arch brings pandas and statsmodels along, which is a second or more on import.
    from arch.bootstrap import optimal_block_length

    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        chosen = float(optimal_block_length(size / size.max())["stationary"].iloc[0])
    return max(SHORTEST_BLOCK, chosen) if math.isfinite(chosen) else SHORTEST_BLOCK


def _growth(returns: ArrayLike) -> FloatArray:
    # Wealth that is gone stays gone: a short position may lose more than its notional.
    return np.maximum(1.0 + vector(returns, "returns"), 0.0)


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _deepest(growth: FloatArray) -> float:
    level = deepest = 1.0
    for step in growth:
        level = min(1.0, level * step)
        deepest = min(deepest, level)
    return 1.0 - deepest


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _breaches(
    growth: FloatArray,
    floor: float,
    horizon: int,
    mean_block: float,
    n_paths: int,
    rng: np.random.Generator,
) -> int:
    n = growth.size
    stop = math.log1p(-1.0 / mean_block) if mean_block > 1.0 else -math.inf
    breaches = 0
    for _ in range(n_paths):
        level = 1.0  # wealth over its peak: all that a drawdown remembers, and it cannot overflow
        left = horizon
        while left > 0:
            place = int(rng.random() * n)
            run = left
            if mean_block == 1.0:
                run = 1
            else:
                # Inverse of the geometric law; 1 - random() is never 0.
                drawn = math.log(1.0 - rng.random()) / stop
                if drawn < left:
                    run = min(left, 1 + int(drawn))
            left -= run
            for _ in range(run):
                level *= growth[place]
                if level < floor:
                    break
                level = min(level, 1.0)
                place += 1
                if place == n:
                    place = 0
            if level < floor:
                breaches += 1
                break
    return breaches
