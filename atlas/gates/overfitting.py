"""G3: the search did not pick its winner by luck."""

from atlas.gates.evidence import Evidence
from atlas.gates.policy import GatePolicy
from atlas.gates.verdict import Verdict
from atlas.stats import overfitting_probability

__all__ = ["overfitting"]


def overfitting(evidence: Evidence, policy: GatePolicy) -> Verdict:
    """Judge the probability of backtest overfitting over every trial that traded.

    Trials that never traded are left out altogether: their flat returns would rank above every
    loss and flatter the winner.
    """
    evidence.finite("trial_returns")
    n = evidence.traded.size
    if n < policy.min_trials:
        return Verdict.inconclusive(
            "overfitting",
            threshold=policy.overfitting,
            n=n,
            needed=policy.min_trials,
            unit="trials that traded",
        )
    needed = policy.n_blocks * policy.min_rows_per_block
    if evidence.n_periods < needed:
        return Verdict.inconclusive(
            "overfitting",
            threshold=policy.overfitting,
            n=evidence.n_periods,
            needed=needed,
            unit="periods",
        )
    value = overfitting_probability(evidence.traded_returns, n_blocks=policy.n_blocks)
    return Verdict.below("overfitting", value, threshold=policy.overfitting, n=n)
