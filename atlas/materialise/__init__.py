"""Batch features: history from bars to the offline store, chunk by chunk."""

from atlas.materialise.history import compute_history

__all__ = ["compute_history"]
