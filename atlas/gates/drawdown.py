"""G4: a ruinous drawdown is improbable."""

import numpy as np

from atlas.gates.evidence import Evidence, FloatArray
from atlas.gates.policy import GatePolicy
from atlas.gates.verdict import Verdict
from atlas.stats import automatic_block, breach_probability

__all__ = ["breach", "drawdown", "stressed", "stressed_breach"]


def drawdown(evidence: Evidence, policy: GatePolicy) -> Verdict:
    """Judge the upper bound of the probability of a drawdown beyond the limit."""
    evidence.finite("selected_returns")
    value, bound = breach(evidence, policy)
    return Verdict.below(
        "drawdown", value, threshold=policy.drawdown, n=evidence.n_periods, bound=bound
    )


def breach(
    evidence: Evidence, policy: GatePolicy, *, mean_block: float | None = None
) -> tuple[float, float]:
    """Return estimate and upper bound, with the policy's limit, horizon and paths."""
    return _breach(evidence.selected_returns, evidence, policy, mean_block)


def stressed_breach(evidence: Evidence, policy: GatePolicy) -> float:
    """Estimate the same with the worst loss made worse: no resampling can invent one.

    Books that sell options show their worst day rarely, and the record may not hold it yet.
    """
    # The blocks are those of the record: one outlier more would shorten them, and hide clusters.
    block = automatic_block(evidence.selected_returns)
    return _breach(stressed(evidence.selected_returns, policy), evidence, policy, block)[0]


def stressed(returns: FloatArray, policy: GatePolicy) -> FloatArray:
    """Return the record with its worst loss as many times as large as the policy says."""
    worse = returns.copy()
    if worse.size and worse.min() < 0:
        worse[np.argmin(worse)] *= policy.stress
    return worse


def _breach(
    returns: FloatArray,
    evidence: Evidence,
    policy: GatePolicy,
    mean_block: float | None,
) -> tuple[float, float]:
    horizon = min(policy.drawdown_horizon // evidence.period, evidence.n_periods)
    return breach_probability(
        returns,
        limit=policy.drawdown_limit,
        horizon=max(1, horizon),
        mean_block=mean_block,
        n_paths=policy.n_paths,
        seed=policy.seed,
    )
