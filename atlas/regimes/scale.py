"""The scale of a fit: mean and spread of its training rows alone, and what lies too far out."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from atlas.engines import JumpModel
from atlas.engines.jump_learned import read_learned, write_learned

__all__ = ["Scale"]

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Scale:
    """A linear scale for each feature, cut at `clip` on both sides.

    It is the whitening before distances are taken, of the diagonal of the covariance alone.

    Parameters
    ----------
    mean, spread : (n_features,)
        A feature that did not move in training has a spread of 1.
    """

    mean: Floats
    spread: Floats
    clip: float

    @classmethod
    def of(cls, rows: Floats, *, clip: float, ridge: float) -> Self:
        """Learn from training rows, shape (n_rows, n_features); NaN is null, no column all null.

        Parameters
        ----------
        ridge : float
            Share of a feature's mean square that is added to its variance: one that hardly moves
            is not blown up until its rounding looks like a signal.
        """
        variance = np.nanvar(rows, axis=0) + ridge * np.nanmean(rows**2, axis=0)
        spread = np.sqrt(variance)
        return cls(np.nanmean(rows, axis=0), np.where(spread > 0, spread, 1.0), clip)

    def apply(self, rows: Floats) -> Floats:
        """Return rows in this scale; null stays null."""
        scaled: Floats = np.clip((rows - self.mean) / self.spread, -self.clip, self.clip)
        return scaled

    def adopt(self, model: JumpModel, former: Scale) -> JumpModel:
        """Return a model of another scale as this scale sees it, so that names can be handed on."""
        recipe, learned = read_learned(model.dump())

        def move(centroids: Any) -> Any:
            return (centroids * former.spread + former.mean - self.mean) / self.spread

        moved = replace(learned, centroids=move(learned.centroids), anchors=move(learned.anchors))
        return JumpModel.load(write_learned(moved, recipe))
