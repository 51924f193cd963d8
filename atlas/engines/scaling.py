"""How features come to one scale: by mean and deviation of the rows that are learned from."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Floats32", "normalisation"]

Floats32 = NDArray[np.float32]


def normalisation(X: NDArray[np.floating[Any]]) -> tuple[Floats32, Floats32]:
    """Return mean and reciprocal deviation of what is not null; both 0 where nothing varies.

    Parameters
    ----------
    X : (n_rows, n_features)
        NaN is null.

    Returns
    -------
    mean, scale : (n_features,)
    """
    known = ~np.isnan(X)
    count = np.maximum(known.sum(axis=0), 1)
    with np.errstate(over="ignore", invalid="ignore"):
        mean = np.where(known, X, 0.0).sum(axis=0, dtype=np.float64) / count
        spread = np.where(known, X - mean, 0.0)
        deviation = np.sqrt((spread**2).sum(axis=0) / count)
        usable = np.isfinite(mean.astype(np.float32)) & (deviation > 0) & np.isfinite(deviation)
        scale = np.divide(1.0, deviation, where=usable, out=np.zeros(X.shape[1]))
        scale = np.where(np.isfinite(scale.astype(np.float32)), scale, 0.0)
    return np.where(usable, mean, 0.0).astype(np.float32), scale.astype(np.float32)
