"""Experiments: whether a challenger earns more than the live version, told with a known error."""

from atlas.deployment.experiments.arms import (
    Arms,
    long_run_variance,
    paired_hours,
    split_periods,
)
from atlas.deployment.experiments.log import Experiment, ExperimentEntry, ExperimentLog, Step
from atlas.deployment.experiments.verdict import (
    Figures,
    Finding,
    Mode,
    Plan,
    Verdict,
    design,
    judge,
)

__all__ = [
    "Arms",
    "Experiment",
    "ExperimentEntry",
    "ExperimentLog",
    "Figures",
    "Finding",
    "Mode",
    "Plan",
    "Step",
    "Verdict",
    "design",
    "judge",
    "long_run_variance",
    "paired_hours",
    "split_periods",
]
