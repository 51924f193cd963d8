"""The variance of a mean when its observations depend on each other (HAC).

Parzen's kernel with the bandwidth that Andrews (1991) derives from a first-order autoregression
of each series.
"""

import numpy as np
from numba import njit

from atlas.stats.arguments import FloatArray

__all__ = ["bandwidth", "parzen", "prewhitened_variance", "variance_of"]

# Andrews, Monahan (1992): a transformation closer to a unit root blows up what it should calm.
CLOSEST_TO_UNIT_ROOT = 0.97

# A root nearer to 1 gives a bandwidth beyond any record, and its eighth power must stay a number.
NEAREST = 1e-6


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def parzen(x: float) -> float:
    """Return Parzen's weight at `x >= 0`, which is 0 from 1 on."""
    if x <= 0.5:
        return 1.0 - 6.0 * x**2 + 6.0 * x**3
    return 2.0 * (1.0 - x) ** 3 if x < 1.0 else 0.0


def bandwidth(moments: FloatArray) -> float:
    """Return Andrews' automatic bandwidth for Parzen's kernel, in lags, at most `n - 1`.

    Parameters
    ----------
    moments : (n, k)
        Series of mean 0. Each counts by the fourth power of its innovations' deviation, in its
        own unit, so the answer depends on the units.

    References
    ----------
    Andrews (1991), "Heteroskedasticity and Autocorrelation Consistent Covariance Matrix
    Estimation", Econometrica 59(3), equations 6.2 and 6.4.
    """
    n = len(moments)
    before, after = moments[:-1], moments[1:]
    before = before - before.mean(axis=0)
    after = after - after.mean(axis=0)
    power = (before**2).sum(axis=0)
    moves = power > 0
    root = np.zeros_like(power)
    np.divide((before * after).sum(axis=0), power, out=root, where=moves)
    innovations = ((after - root * before) ** 2).sum(axis=0)
    largest = innovations.max()
    if not largest > 0:
        return 0.0
    weight = (innovations / largest) ** 2
    gap = np.maximum(np.abs(1 - root), NEAREST)
    alpha = (4 * root**2 * weight / gap**8).sum() / (weight / gap**4).sum()
    return float(min(2.6614 * (alpha * n) ** 0.2, n - 1))


def variance_of(direction: FloatArray, moments: FloatArray) -> float:
    """Return the long-run variance of `moments @ direction`, with the bandwidth of `moments`.

    The factor `n / (n - k)` pays for the `k` means that were taken off.
    """
    n, k = moments.shape
    series = moments @ direction
    width = bandwidth(moments)
    variance = float(series @ series)
    lag = 1
    while lag < width:
        variance += 2 * float(parzen(lag / width)) * float(series[lag:] @ series[:-lag])
        lag += 1
    # Parzen's kernel cannot make a variance negative, but rounding can.
    return max(0.0, variance) / float(n - k)


def prewhitened_variance(direction: FloatArray, moments: FloatArray) -> float:
    """Return the long-run variance of `moments @ direction` by way of a vector autoregression.

    References
    ----------
    Andrews, Monahan (1992), "An Improved Heteroskedasticity and Autocorrelation Consistent
    Covariance Matrix Estimator", Econometrica 60(4).
    """
    before, after = moments[:-1], moments[1:]
    # Columns in a common unit, or least squares would take a small one for noise.
    unit = np.sqrt((before**2).mean(axis=0))
    unit[unit == 0] = 1.0
    fitted = np.linalg.lstsq(before / unit, after, rcond=None)[0] / unit[:, None]
    left, singular, right = np.linalg.svd(fitted.T)
    transition = (left * np.minimum(singular, CLOSEST_TO_UNIT_ROOT)) @ right
    whitened = after - before @ transition.T
    recoloured = np.linalg.solve(np.eye(len(direction)) - transition.T, direction)
    return variance_of(recoloured, whitened)
