"""The desk's own policy: the defaults, with the thresholds that its settings change."""

from dataclasses import replace
from typing import Any

from atlas.config import Settings
from atlas.gates.policy import GatePolicy

__all__ = ["desk_policy"]


def desk_policy(settings: Settings) -> GatePolicy:
    """Return the policy that flows and commands judge by and record.

    `MIN_MODEL_ACCURACY` replaces the accuracy, `MIN_R2_SCORE` and `MAX_MODEL_MSE` ask those figures
    of regressors. A policy that differs from the defaults says so in its version.
    """
    default = GatePolicy()
    wanted: dict[str, Any] = {
        "accuracy": settings.min_accuracy,
        "r2": settings.min_r2,
        "mse": settings.max_model_mse,
    }
    policy = replace(default, **wanted)
    return policy if policy == default else policy.departing("desk")
