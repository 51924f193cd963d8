"""Exact confidence bounds for a share."""

from typing import Literal, SupportsIndex

from scipy.special import betaincinv

from atlas.errors import InvalidInput
from atlas.stats.arguments import count, fraction

__all__ = ["clopper_pearson"]


def clopper_pearson(
    k: SupportsIndex,
    n: SupportsIndex,
    level: float = 0.95,
    side: Literal["lower", "upper"] = "upper",
) -> float:
    """Bound a share from one side, given `k` successes in `n` independent trials.

    Parameters
    ----------
    k, n : int
        Successes and trials, `0 <= k <= n` and `n >= 1`.
    level : float
        One-sided confidence: the bound is on the right side of the true share at least this often.
    side : "lower" or "upper"

    Raises
    ------
    InvalidInput
        If a count, the level or the side is out of range.

    References
    ----------
    Clopper, Pearson (1934), "The use of confidence or fiducial limits", Biometrika 26(4).
    """
    trials = count(n, "n", at_least=1)
    successes = count(k, "k", at_least=0)
    if successes > trials:
        raise InvalidInput(f"k: expected at most n = {trials} successes, found {successes}.")
    fraction(level, "level")
    if side == "lower":
        if successes == 0:
            return 0.0
        return float(betaincinv(successes, trials - successes + 1, 1 - level))
    if side == "upper":
        if successes == trials:
            return 1.0
        return float(betaincinv(successes + 1, trials - successes, level))
    raise InvalidInput(f"side: expected 'lower' or 'upper', found {side!r}.")
