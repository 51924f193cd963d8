"""G2: what was earned in sample is kept out of sample."""

import math

import numpy as np

from atlas.gates.evidence import Evidence
from atlas.gates.policy import GatePolicy
from atlas.gates.verdict import ONE_SIDED_95, Verdict
from atlas.stats import walk_forward_efficiency

__all__ = ["stitched_t", "walk_forward"]


def walk_forward(evidence: Evidence, policy: GatePolicy) -> Verdict:
    """Judge the walk-forward efficiency of the selected configuration, pooled over windows.

    The lower bound takes the mean in sample as known and the returns out of sample as independent.
    """
    n = len(evidence.in_sample)
    if not n:
        return Verdict.inconclusive(
            "walk_forward", threshold=policy.walk_forward, n=0, needed=1, unit="windows"
        )
    value = walk_forward_efficiency(evidence.in_sample, evidence.out_of_sample)
    if math.isnan(value):
        return Verdict.refused(
            "walk_forward",
            threshold=policy.walk_forward,
            reason="the pooled return in sample is not positive",
        )
    t = stitched_t(evidence)
    # value is proportional to the mean out of sample, whose relative error is 1 / t.
    bound = value - ONE_SIDED_95 * abs(value / t) if t else math.nan
    return Verdict.above(
        "walk_forward",
        value,
        threshold=policy.walk_forward,
        n=n,
        bound=bound if math.isfinite(bound) else None,
    )


def stitched_t(evidence: Evidence) -> float:
    """Return the t-statistic of the mean of all out-of-sample windows put together."""
    evidence.finite("out_of_sample")
    stitched = np.concatenate([*evidence.out_of_sample, np.empty(0)])
    if stitched.size < 2 or (stitched == stitched[0]).all():
        return math.nan
    error = float(stitched.std(ddof=1)) / math.sqrt(stitched.size)
    return float(stitched.mean()) / error if error > 0 else math.nan
