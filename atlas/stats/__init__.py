"""The statistics behind labels, folds, gates, comparisons and drift."""

from atlas.stats.always_valid import always_valid_p
from atlas.stats.barrier import triple_barrier
from atlas.stats.binomial import clopper_pearson
from atlas.stats.drawdown import automatic_block, breach_probability, max_drawdown
from atlas.stats.overfitting import (
    OverfittingStudy,
    overfitting_probability,
    overfitting_study,
)
from atlas.stats.sharpe import (
    deflated_sharpe,
    expected_maximum_sharpe,
    minimum_track_record,
    probabilistic_sharpe,
    sharpe_error,
    sharpe_ratio,
    skew_and_kurtosis,
)
from atlas.stats.sharpe_difference import sharpe_difference, sharpe_difference_bootstrap
from atlas.stats.splits import combinatorial_splits, purged_splits, walk_forward_splits
from atlas.stats.stability import psi, psi_critical
from atlas.stats.uniqueness import uniqueness_weights
from atlas.stats.walk_forward import walk_forward_efficiency

__all__ = [
    "OverfittingStudy",
    "always_valid_p",
    "automatic_block",
    "breach_probability",
    "clopper_pearson",
    "combinatorial_splits",
    "deflated_sharpe",
    "expected_maximum_sharpe",
    "max_drawdown",
    "minimum_track_record",
    "overfitting_probability",
    "overfitting_study",
    "probabilistic_sharpe",
    "psi",
    "psi_critical",
    "purged_splits",
    "sharpe_difference",
    "sharpe_difference_bootstrap",
    "sharpe_error",
    "sharpe_ratio",
    "skew_and_kurtosis",
    "triple_barrier",
    "uniqueness_weights",
    "walk_forward_efficiency",
    "walk_forward_splits",
]
