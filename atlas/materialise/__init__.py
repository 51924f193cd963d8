"""Batch features: history from bars to the offline store, chunk by chunk."""

from atlas.materialise.history import compute_history
from atlas.materialise.regimes import compute_regimes
from atlas.materialise.views import compute_view

__all__ = ["compute_history", "compute_regimes", "compute_view"]
