"""How much a Sharpe ratio can be trusted, given its record's length, shape and rivals.

Every ratio here is per period, never annualised; kurtosis is raw, so that a normal record has 3.
"""

import math

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import ndtr, ndtri

from atlas.errors import InvalidInput
from atlas.stats.arguments import FloatArray, fraction, vector

__all__ = [
    "deflated_sharpe",
    "expected_maximum_sharpe",
    "minimum_track_record",
    "probabilistic_sharpe",
    "sharpe_error",
    "sharpe_ratio",
    "skew_and_kurtosis",
]


def sharpe_ratio(returns: ArrayLike) -> float:
    """Return mean over standard deviation (`ddof=1`) per period; 0 when nothing varies.

    Parameters
    ----------
    returns : (n,)
        Net return per period as a fraction, at least two.
    """
    sample = vector(returns, "returns", at_least=2)
    # Compared, not subtracted: the deviation of a constant may round to something above 0.
    if (sample == sample[0]).all():
        return 0.0
    scaled = _near_one(sample)
    deviation = float(scaled.std(ddof=1))
    return float(scaled.mean()) / deviation if deviation > 0 else 0.0


def skew_and_kurtosis(returns: ArrayLike) -> tuple[float, float]:
    """Return skewness and raw kurtosis (population moments); (0, 3) when nothing varies."""
    sample = vector(returns, "returns", at_least=2)
    if (sample == sample[0]).all():
        return 0.0, 3.0
    scaled = _near_one(sample)
    centred = scaled - scaled.mean()
    variance = float(np.mean(centred**2))
    # The fourth power may vanish where the second does not.
    if not variance**2 > 0:
        return 0.0, 3.0
    return float(np.mean(centred**3)) / variance**1.5, float(np.mean(centred**4)) / variance**2


def probabilistic_sharpe(
    sharpe: float, *, n: float, skew: float, kurtosis: float, benchmark: float = 0.0
) -> float:
    """Return the confidence that the true Sharpe ratio is above the benchmark.

    Parameters
    ----------
    sharpe, benchmark : float
        Per period.
    n : int
        Periods in the record, at least two.
    skew, kurtosis : float
        Of the record; raw kurtosis.

    Raises
    ------
    InvalidInput
        If a moment is not finite, or the three contradict each other (no variance is left).

    References
    ----------
    Bailey, López de Prado (2012), "The Sharpe Ratio Efficient Frontier", Journal of Risk 15(2).
    """
    distance = _finite(sharpe, "sharpe") - _finite(benchmark, "benchmark")
    return float(ndtr(distance / sharpe_error(sharpe, n=n, skew=skew, kurtosis=kurtosis)))


def deflated_sharpe(
    sharpe: float,
    *,
    n: float,
    skew: float,
    kurtosis: float,
    n_trials: float,
    trial_variance: float,
) -> float:
    """Return the confidence that the best of many trials beats the best of as many coins.

    Parameters
    ----------
    sharpe : float
        Of the selected trial, per period.
    n, skew, kurtosis
        As for `probabilistic_sharpe`.
    n_trials : int or float
        Independent trials, at least one; correlated ones count less, so it may be broken.
    trial_variance : float
        Variance of the trials' Sharpe ratios per period.

    Raises
    ------
    InvalidInput
        As for `probabilistic_sharpe`, or if the count or the variance is out of its range.

    References
    ----------
    Bailey, López de Prado (2014), "The Deflated Sharpe Ratio", Journal of Portfolio
    Management 40(5).
    """
    benchmark = expected_maximum_sharpe(n_trials, trial_variance=trial_variance)
    return probabilistic_sharpe(sharpe, n=n, skew=skew, kurtosis=kurtosis, benchmark=benchmark)


def expected_maximum_sharpe(n_trials: float, *, trial_variance: float) -> float:
    """Return the Sharpe ratio that the best of `n_trials` without skill is expected to show.

    One trial has no rivals and gives 0; so does any broken count near one, where the approximation
    would fall below.
    """
    if not 1 <= n_trials < math.inf:
        raise InvalidInput(f"n_trials: expected at least one trial, found {n_trials!r}.")
    if not 0 <= trial_variance < math.inf:
        raise InvalidInput(
            f"trial_variance: expected a variance of at least 0, found {trial_variance!r}."
        )
    if n_trials == 1:
        return 0.0
    # The upper quantiles by symmetry: 1 - 1 / n would round to 1 for very many trials.
    quantiles = (np.euler_gamma - 1) * ndtri(1 / n_trials) - np.euler_gamma * ndtri(
        1 / (n_trials * math.e)
    )
    return math.sqrt(trial_variance) * max(0.0, float(quantiles))


def minimum_track_record(
    sharpe: float, *, skew: float, kurtosis: float, benchmark: float = 0.0, level: float = 0.95
) -> float:
    """Return how many periods show the Sharpe ratio to be above the benchmark.

    The answer is not rounded; it is infinite at or below the benchmark.

    Parameters
    ----------
    sharpe, benchmark : float
        Per period.
    skew, kurtosis : float
        As for `probabilistic_sharpe`.
    level : float
        Confidence to reach, at least 0.5.

    Raises
    ------
    InvalidInput
        As for `probabilistic_sharpe`, or if the level is out of its range.

    References
    ----------
    Bailey, López de Prado (2012), "The Sharpe Ratio Efficient Frontier", Journal of Risk 15(2).
    """
    fraction(level, "level", low=0.5)
    excess = _finite(sharpe, "sharpe") - _finite(benchmark, "benchmark")
    variance = _variance(sharpe, skew, kurtosis)
    if excess <= 0:
        return math.inf
    distance = float(ndtri(level)) / excess
    return 1 + variance * distance**2 if distance < 1e150 else math.inf


def sharpe_error(sharpe: float, *, n: float, skew: float, kurtosis: float) -> float:
    """Return the standard error of a Sharpe ratio per period, from `n` periods."""
    if not 2 <= n < math.inf:
        raise InvalidInput(f"n: expected at least two periods, found {n!r}.")
    return math.sqrt(_variance(sharpe, skew, kurtosis) / (n - 1))


def _variance(sharpe: float, skew: float, kurtosis: float) -> float:
    ratio = _finite(sharpe, "sharpe")
    variance = (
        1 - _finite(skew, "skew") * ratio + (_finite(kurtosis, "kurtosis") - 1) / 4 * ratio**2
    )
    if not variance > 0:
        raise InvalidInput(
            f"skew and kurtosis: expected moments of one record, found skew {skew:g} and raw "
            f"kurtosis {kurtosis:g}, which leave a Sharpe ratio of {sharpe:g} the variance "
            f"{variance:g}. Pass raw kurtosis (normal is 3) and ratios per period."
        )
    return variance


def _finite(value: float, name: str) -> float:
    if not math.isfinite(value):
        raise InvalidInput(f"{name}: expected a finite number, found {value!r}.")
    return float(value)


def _near_one(sample: FloatArray) -> FloatArray:
    """Scale by a power of two, which rounds nothing, so that no square overflows or vanishes."""
    scaled: FloatArray = np.ldexp(sample, -np.frexp(np.abs(sample).max())[1])
    return scaled
