"""How much of the profit in sample was kept out of sample."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from atlas.errors import InvalidInput, NotEnoughData
from atlas.stats.arguments import vector

__all__ = ["walk_forward_efficiency"]


def walk_forward_efficiency(
    in_sample: Sequence[ArrayLike], out_of_sample: Sequence[ArrayLike]
) -> float:
    """Divide the mean return out of sample by the mean return in sample, pooled over windows.

    Both means are per period, so windows of unequal length need no annualising. Returns are
    summed, not compounded. The answer is NaN when the return in sample is not positive: two losses
    would otherwise give a fine ratio.

    Parameters
    ----------
    in_sample, out_of_sample : sequences of (n_periods,)
        Net returns per period of the configuration selected in each window, one pair a window.

    Raises
    ------
    InvalidInput
        If the windows are not paired, or a return is NaN or infinite.
    NotEnoughData
        If there is no window, or one has no period.

    References
    ----------
    Pardo (2008), "The Evaluation and Optimization of Trading Strategies", ch. 11.
    """
    if len(in_sample) != len(out_of_sample):
        raise InvalidInput(
            f"windows: expected one pair each, found {len(in_sample)} in sample and "
            f"{len(out_of_sample)} out of sample. Pass the same windows twice."
        )
    if not len(in_sample):
        raise NotEnoughData("windows: expected at least one pair, found none.")
    trained, noise = _pooled_mean(in_sample, "in_sample")
    traded, _ = _pooled_mean(out_of_sample, "out_of_sample")
    # A sum of fractions that is zero by arithmetic is seldom zero in binary, and a tiny divisor
    # would let anything pass.
    return traded / trained if trained > noise else math.nan


def _pooled_mean(windows: Sequence[ArrayLike], name: str) -> tuple[float, float]:
    """Return the mean over all periods, and how large it may be from rounding alone."""
    pooled = np.concatenate([vector(w, f"{name}[{i}]") for i, w in enumerate(windows)])
    scale = float(np.abs(pooled).max())
    if scale == 0:
        return 0.0, 0.0
    # In units of the largest return nothing overflows, and fsum rounds once.
    mean = math.fsum(pooled / scale) / pooled.size
    noise = float(np.finfo(np.float64).eps * np.abs(pooled / scale).mean())
    return mean * scale, noise * scale
