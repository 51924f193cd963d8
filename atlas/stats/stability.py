"""How far a feature has moved from the sample its model was trained on (PSI)."""

from typing import SupportsIndex

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import chdtri

from atlas.stats.arguments import FloatArray, IntArray, count, fraction, positive, vector

__all__ = ["psi", "psi_critical"]

# The share that an empty bin is given, since its logarithm would be infinite.
FLOOR = 1e-4


def psi(reference: ArrayLike, current: ArrayLike, *, n_bins: SupportsIndex = 10) -> float:
    """Return the population stability index of `current` against the bins of `reference`.

    The bins are cut at the reference's quantiles (linear interpolation) and reach to infinity on
    both sides; a value on a cut belongs to the bin above. A value at which two or more cuts fall
    has a bin of its own, so that a feature of few values shows its moves. Shares below 1e-4 count
    as 1e-4, and the rest are not scaled down for it. Two samples of one law give about
    `(1/n + 1/m) * (n_bins - 1)`: compare with `psi_critical`, not with a fixed number alone.

    Parameters
    ----------
    reference : (n,)
        At least `n_bins` values, in any order; keep them with the model.
    current : (m,)
        At least one value, in any order.
    n_bins : int
        At least two.

    Returns
    -------
    float
        At least 0; in nats.

    Raises
    ------
    InvalidInput
        If a value is NaN or infinite: count missing values as a feature of their own.
    NotEnoughData
        If the reference has fewer values than bins, or there is no current value.

    References
    ----------
    Siddiqi (2006), "Credit Risk Scorecards", ch. 8; Yurdakul (2018), "Statistical Properties of
    Population Stability Index".
    """
    bins = count(n_bins, "n_bins", at_least=2)
    trained = np.sort(vector(reference, "reference", at_least=bins))
    served = vector(current, "current")
    cuts = _cuts(trained, bins)
    expected = _shares(trained, cuts)
    actual = _shares(served, cuts)
    return float(((actual - expected) * np.log(actual / expected)).sum())


def psi_critical(n: float, m: float, n_bins: SupportsIndex, level: float) -> float:
    """Return the PSI that two samples of one law stay below with probability `level`.

    Asymptotically the index is `1/n + 1/m` times a chi-squared variable with `n_bins - 1` degrees
    of freedom. Bins that a feature of few values leaves empty make the answer too large.

    Parameters
    ----------
    n, m : float
        Values in the reference and in the current sample, both above 0. Autocorrelated values
        count less than one each, so a count may be broken.
    n_bins : int
        At least two.
    level : float
        Quantile, in `[0, 1)`: 0.95 is exceeded by chance one time in twenty.

    Raises
    ------
    InvalidInput
        If a count or the level is out of its range.

    References
    ----------
    Yurdakul (2018), "Statistical Properties of Population Stability Index", Western Michigan
    University.
    """
    scale = 1 / positive(n, "n") + 1 / positive(m, "m")
    bins = count(n_bins, "n_bins", at_least=2)
    return scale * float(chdtri(bins - 1, 1 - fraction(level, "level")))


def _cuts(ordered: FloatArray, n_bins: int) -> FloatArray:
    """Return the `(n_bins - 1,)` inner quantiles of a sorted sample."""
    # In whole numbers: a quantile that is a value of the sample must be that value to the bit.
    place, rest = np.divmod(np.arange(1, n_bins) * (ordered.size - 1), n_bins)
    low, high = ordered[place], ordered[place + 1]
    # Halves, for the distance of two huge numbers overflows.
    cuts: FloatArray = low + (high / 2 - low / 2) * (2 * rest / n_bins)
    return cuts


def _shares(values: FloatArray, cuts: FloatArray) -> FloatArray:
    left, right = np.searchsorted(cuts, values, "left"), np.searchsorted(cuts, values, "right")
    # Between two equal cuts lies a bin that no interval fills.
    where: IntArray = np.where(right - left >= 2, left + 1, right)
    counts: IntArray = np.bincount(where, minlength=cuts.size + 1)
    shares: FloatArray = np.maximum(counts / values.size, FLOOR)
    return shares
