"""All gates on one piece of evidence; one that cannot be computed fails."""

from collections.abc import Callable

import numpy as np

from atlas.errors import AtlasError
from atlas.gates.context import context
from atlas.gates.drawdown import drawdown
from atlas.gates.evidence import Evidence
from atlas.gates.overfitting import overfitting
from atlas.gates.point_in_time import LEAKS_REFUSED, point_in_time
from atlas.gates.policy import GatePolicy
from atlas.gates.report import Report
from atlas.gates.skill import accuracy, mse, r2, sharpe
from atlas.gates.verdict import Verdict
from atlas.gates.walk_forward import walk_forward
from atlas.gates.win_rate import win_rate

__all__ = ["judge"]

Gate = Callable[[Evidence, GatePolicy], Verdict]

DEFAULT_POLICY = GatePolicy()


def judge(evidence: Evidence, policy: GatePolicy = DEFAULT_POLICY) -> Report:
    """Ask every gate about the evidence.

    Nothing in the evidence raises: a gate whose figures are NaN, infinite or missing fails and says
    why. The gates for regressors are asked where the policy sets their thresholds and the evidence
    carries forecasts: a classifier has none, and a desk may train both. The gate on leaks is asked
    where the evidence carries an audit.
    """
    gates: dict[str, tuple[Gate, float]] = {
        "win_rate": (win_rate, policy.win_rate),
        "walk_forward": (walk_forward, policy.walk_forward),
        "overfitting": (overfitting, policy.overfitting),
        "drawdown": (drawdown, policy.drawdown),
        "accuracy": (accuracy, policy.accuracy),
        "sharpe": (sharpe, policy.sharpe),
    }
    if policy.r2 is not None and evidence.forecasts is not None:
        gates["r2"] = (r2, policy.r2)
    if policy.mse is not None and evidence.forecasts is not None:
        gates["mse"] = (mse, policy.mse)
    if evidence.audited is not None:
        gates["point_in_time"] = (point_in_time, LEAKS_REFUSED)
    # Absurd returns overflow to infinity, which fails; a warning would add nothing.
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        verdicts = tuple(
            _ask(name, gate, threshold, evidence, policy)
            for name, (gate, threshold) in gates.items()
        )
        figures = context(evidence, policy)
    return Report(verdicts=verdicts, context=figures, evidence=evidence.as_dict(), policy=policy)


def _ask(
    name: str, gate: Gate, threshold: float, evidence: Evidence, policy: GatePolicy
) -> Verdict:
    if evidence.period not in policy.return_periods:
        allowed = ", ".join(str(period) for period in policy.return_periods)
        reason = (
            f"returns are per {evidence.period}, and policy {policy.version} judges periods of "
            f"{allowed}. Resample the returns"
        )
        return Verdict.refused(name, threshold=threshold, reason=reason)
    try:
        return gate(evidence, policy)
    except AtlasError as error:
        return Verdict.refused(name, threshold=threshold, reason=str(error))
