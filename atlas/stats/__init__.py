"""The statistics behind labels, folds and gates."""

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
from atlas.stats.splits import combinatorial_splits, purged_splits, walk_forward_splits
from atlas.stats.uniqueness import uniqueness_weights
from atlas.stats.walk_forward import walk_forward_efficiency

__all__ = [
    "OverfittingStudy",
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
    "purged_splits",
    "sharpe_error",
    "sharpe_ratio",
    "skew_and_kurtosis",
    "triple_barrier",
    "uniqueness_weights",
    "walk_forward_efficiency",
    "walk_forward_splits",
]
