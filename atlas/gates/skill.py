"""G5: the model is right often enough, and is paid for its risk."""

import math

import numpy as np

from atlas.errors import InvalidInput
from atlas.gates.evidence import Evidence, FloatArray
from atlas.gates.policy import GatePolicy
from atlas.gates.verdict import ONE_SIDED_95, Verdict
from atlas.stats import clopper_pearson, sharpe_error, sharpe_ratio, skew_and_kurtosis

__all__ = ["accuracy", "mse", "r2", "sharpe"]


def accuracy(evidence: Evidence, policy: GatePolicy) -> Verdict:
    """Judge the share of barrier labels whose side was predicted out of sample."""
    # Forecasts too: one that is NaN was compared with its label and came out as a plain miss.
    evidence.finite("hits", "forecasts", "targets")
    n = evidence.hits.size
    right = int(np.count_nonzero(evidence.hits))
    value = right / n if n else math.nan
    if n < policy.min_trades:
        return Verdict.inconclusive(
            "accuracy",
            threshold=policy.accuracy,
            n=n,
            needed=policy.min_trades,
            unit="labels scored",
            value=value,
        )
    bound = clopper_pearson(right, n, side="lower")
    return Verdict.above("accuracy", value, threshold=policy.accuracy, n=n, bound=bound)


def sharpe(evidence: Evidence, policy: GatePolicy) -> Verdict:
    """Judge the annualised Sharpe ratio of the selected trial out of sample.

    The lower bound allows for skewness and fat tails, not for dependence between periods.
    """
    evidence.finite("selected_returns")
    returns = evidence.selected_returns
    ratio = sharpe_ratio(returns)
    skew, kurtosis = skew_and_kurtosis(returns)
    error = sharpe_error(ratio, n=returns.size, skew=skew, kurtosis=kurtosis)
    annual = math.sqrt(policy.periods_per_year(evidence.period))
    return Verdict.above(
        "sharpe",
        ratio * annual,
        threshold=policy.sharpe,
        n=returns.size,
        bound=(ratio - ONE_SIDED_95 * error) * annual,
    )


def r2(evidence: Evidence, policy: GatePolicy) -> Verdict:
    """Judge a regressor's R squared against the mean of the targets, where the policy asks."""
    error, targets = _squared_errors(evidence)
    spread = (targets - targets.mean()) ** 2
    value = 1 - float(error.sum() / spread.sum()) if spread.any() else math.nan
    return Verdict.above("r2", value, threshold=_asked(policy.r2), n=targets.size)


def mse(evidence: Evidence, policy: GatePolicy) -> Verdict:
    """Judge a regressor's mean squared error, where the policy asks."""
    error, targets = _squared_errors(evidence)
    return Verdict.below("mse", float(error.mean()), threshold=_asked(policy.mse), n=targets.size)


def _squared_errors(evidence: Evidence) -> tuple[FloatArray, FloatArray]:
    if evidence.forecasts is None or evidence.targets is None or not evidence.targets.size:
        raise InvalidInput(
            "forecasts and targets: the policy asks for a regressor's errors, found no forecast. "
            "Keep those that the search made out of sample."
        )
    evidence.finite("forecasts", "targets")
    return (evidence.forecasts - evidence.targets) ** 2, evidence.targets


def _asked(threshold: float | None) -> float:
    return math.nan if threshold is None else threshold
