"""Whether one record's Sharpe ratio differs from another's over the same periods."""

import math
from dataclasses import dataclass
from typing import SupportsIndex

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtr

from atlas.errors import InvalidInput
from atlas.stats.arguments import FloatArray, count, pair
from atlas.stats.long_run import prewhitened_variance, variance_of

__all__ = ["sharpe_difference", "sharpe_difference_bootstrap"]

# Differences and errors this small are what rounding leaves of two ratios that are equal.
ROUNDING = 1e-12

# Squared sums of blocks drawn at a time: small enough for the processor's cache.
CHUNK_BLOCKS = 1 << 16

# Returns outside are brought near 1 by a power of two, or their eighth powers would not be numbers.
SMALLEST, LARGEST = 1e-30, 1e30


def sharpe_difference(a: ArrayLike, b: ArrayLike) -> tuple[float, float]:
    """Return the Sharpe ratio of `a` less that of `b`, and its two-sided HAC p-value.

    The delta method on the two means and the two second moments, whose long-run covariance is
    estimated with Parzen's kernel and Andrews' automatic bandwidth, not prewhitened. The p-value
    is asymptotic: below some hundred periods it rejects too often, and
    `sharpe_difference_bootstrap` is the better judge.

    The difference has no unit. The p-value has one, faintly: the bandwidth weighs the four moments
    as they are, so returns in per cent give a somewhat different one. Pass fractions throughout.

    Parameters
    ----------
    a, b : (n,)
        Net returns of the same periods, at least five.

    Returns
    -------
    difference, p : float
        Per period, with `ddof=1`; and in `[0, 1]`, 1 for two equal ratios.

    Raises
    ------
    InvalidInput
        If a return is NaN or infinite, the periods do not match, a record never varies, or the
        ratios differ while their error vanishes (each return is a function of the other).
    NotEnoughData
        If there are fewer than five periods.

    References
    ----------
    Ledoit, Wolf (2008), "Robust Performance Hypothesis Testing with the Sharpe Ratio", Journal of
    Empirical Finance 15(5), section 3.1.
    """
    first, second = _records(a, b, at_least=5)
    difference = first.ratio - second.ratio
    variance = variance_of(*_moments(first, second)) / first.z.size
    studentised = _studentised(difference, variance, first, second)
    return difference, float(2 * ndtr(-studentised))


def sharpe_difference_bootstrap(
    a: ArrayLike,
    b: ArrayLike,
    *,
    mean_block: float,
    n_resamples: SupportsIndex,
    seed: SupportsIndex,
) -> tuple[float, float]:
    """Return the Sharpe ratio of `a` less that of `b`, and its two-sided bootstrap p-value.

    The record is bent into a circle and redrawn in blocks of one length, whole pairs at a time.
    Each resample's difference, less the record's, is divided by its own error, which comes from
    its blocks; the record's difference is divided by the prewhitened HAC error. The p-value is the
    share of resamples at least as far from 0 as the record, itself included. Few blocks make the
    test conservative. A resample in which a record never varies counts as far.

    Parameters
    ----------
    a, b : (n,)
        Net returns of the same periods, at least six.
    mean_block : float
        Block length in periods, at least 1 and at most half the record; rounded to a whole number,
        since circular blocks have one length.
    n_resamples : int
    seed : int
        The same seed gives the same answer.

    Returns
    -------
    difference, p : float
        Per period, with `ddof=1`; and in `[1 / (n_resamples + 1), 1]`.

    Raises
    ------
    InvalidInput
        As for `sharpe_difference`, or if the block length is out of range.
    NotEnoughData
        If there are fewer than six periods.

    References
    ----------
    Ledoit, Wolf (2008), "Robust Performance Hypothesis Testing with the Sharpe Ratio", Journal of
    Empirical Finance 15(5), section 3.2.
    """
    first, second = _records(a, b, at_least=6)
    n = first.z.size
    if not 1 <= mean_block < math.inf or 2 * (block := round(mean_block)) > n:
        raise InvalidInput(
            f"mean_block: expected from 1 to {n // 2} periods, found {mean_block!r}. "
            "A resample needs two blocks to know its own error."
        )
    resamples = count(n_resamples, "n_resamples", at_least=1)
    rng = np.random.default_rng(count(seed, "seed", at_least=0))
    difference = first.ratio - second.ratio
    variance = prewhitened_variance(*_moments(first, second)) / n
    studentised = _studentised(difference, variance, first, second)
    blocks = n // block
    far = 0
    step = max(1, CHUNK_BLOCKS // blocks)
    sums = [_circular_sums(record.z, block) for record in (first, second)]
    for drawn in range(0, resamples, step):
        starts = rng.integers(0, n, (min(step, resamples - drawn), blocks))
        redrawn = [
            _redraw(record, *tables, starts, block)
            for record, tables in zip((first, second), sums, strict=True)
        ]
        moved = redrawn[0].ratio - redrawn[1].ratio - difference
        influence = redrawn[0].influence - redrawn[1].influence
        error = np.sqrt((influence**2).sum(axis=1)) / (blocks * block)
        # Written so that NaN, from a record that stood still, counts as far.
        far += int(np.count_nonzero(~(np.abs(moved) < studentised * error)))
    return difference, (1 + far) / (1 + resamples)


@dataclass(frozen=True, slots=True)
class _Record:
    returns: FloatArray
    z: FloatArray
    """(n,) returns less their mean, over their deviation (`ddof=0`)."""
    mean: float
    deviation: float
    ratio: float
    """With `ddof=1`."""


@dataclass(frozen=True, slots=True)
class _Redrawn:
    ratio: FloatArray
    """(m,) Sharpe ratio of each resample, with `ddof=1`."""
    influence: FloatArray
    """(m, blocks) what each block adds to the error of the ratio."""


def _records(a: ArrayLike, b: ArrayLike, *, at_least: int) -> tuple[_Record, _Record]:
    first, second = pair(a, b, at_least=at_least)
    return _record(first, "a"), _record(second, "b")


def _record(returns: FloatArray, name: str) -> _Record:
    largest = float(np.abs(returns).max())
    if largest > 0 and not SMALLEST < largest < LARGEST:
        returns = np.ldexp(returns, -np.frexp(largest)[1])
        largest = float(np.abs(returns).max())
    mean = float(returns.mean())
    centred = returns - mean
    centred -= centred.mean()
    deviation = math.sqrt(float(np.mean(centred**2)))
    if (returns == returns[0]).all() or deviation <= ROUNDING * largest:
        raise InvalidInput(
            f"{name}: expected returns that vary, found {returns.size} equal to {returns[0]:g}. "
            "A record that stands still has no Sharpe ratio to compare."
        )
    n = returns.size
    ratio = mean / deviation * math.sqrt((n - 1) / n)
    return _Record(returns, centred / deviation, mean, deviation, ratio)


def _moments(first: _Record, second: _Record) -> tuple[FloatArray, FloatArray]:
    """Return the gradient of the difference, and the `(n, 4)` centred moments it applies to."""
    gradient, moments = [], []
    for record, sign in ((first, 1.0), (second, -1.0)):
        mean, variance = record.mean, record.deviation**2
        centred = record.z * record.deviation
        # The second moment about 0, less its mean, from deviations: squares of the returns
        # themselves would lose the digits of a record whose mean is large.
        second_moment = centred**2 + 2 * mean * centred - variance
        moments.append((centred, second_moment))
        scale = sign / record.deviation**3
        gradient.append(((variance + mean**2) * scale, -0.5 * mean * scale))
    order = ((0, 0), (1, 0), (0, 1), (1, 1))
    return (
        np.array([gradient[record][moment] for record, moment in order]),
        np.column_stack([moments[record][moment] for record, moment in order]),
    )


def _studentised(difference: float, variance: float, first: _Record, second: _Record) -> float:
    size = 1 + abs(first.ratio) + abs(second.ratio)
    if abs(difference) <= ROUNDING * size:
        return 0.0
    error = math.sqrt(variance)
    if not error > ROUNDING * size:
        raise InvalidInput(
            f"a and b: expected ratios that differ by chance, found a difference of "
            f"{difference:g} with a standard error of 0. The two records move in lock-step."
        )
    return abs(difference) / error


def _circular_sums(z: FloatArray, block: int) -> tuple[FloatArray, FloatArray]:
    """Return `(n,)` sums of `z` and of `z**2` over the block that starts at each period."""
    around = np.concatenate([z, z[: block - 1]])
    windows = np.lib.stride_tricks.sliding_window_view(around, block)
    return windows.sum(axis=1), (windows**2).sum(axis=1)


def _redraw(
    record: _Record, sums: FloatArray, squares: FloatArray, starts: NDArray[np.int64], block: int
) -> _Redrawn:
    n = starts.shape[1] * block
    linear, quadratic = sums[starts], squares[starts]
    mean = linear.sum(axis=1, keepdims=True) / n
    variance = quadratic.sum(axis=1, keepdims=True) / n - mean**2
    # Below is what rounding leaves of a resample that never varies.
    variance[variance <= ROUNDING] = math.nan
    deviation = np.sqrt(variance)
    ratio = (record.mean / record.deviation + mean) / deviation
    spread = (quadratic - 2 * mean * linear + block * mean**2) / variance - block
    influence = (linear - block * mean) / deviation - 0.5 * ratio * spread
    return _Redrawn(ratio[:, 0] * math.sqrt((n - 1) / n), influence)
