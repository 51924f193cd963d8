"""What a net is taught: which rows, which later ones tell when to stop, how numbers are scaled."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from atlas.engines.dataset import Dataset, FloatArray
from atlas.engines.onnx_model import Weights
from atlas.engines.scaling import normalisation
from atlas.engines.windows import Windows
from atlas.errors import NotEnoughData

__all__ = ["Lessons", "prepare_lessons"]


@dataclass(frozen=True, eq=False)
class Lessons:
    """What a net learns from.

    Parameters
    ----------
    windows : (n_rows, length, n_features)
        By time of decision.
    targets : (n_rows,)
        0 and 1 where `is_label`, else of mean 0 and deviation 1.
    weights : (n_rows,)
        Mean 1 over the earlier rows.
    earlier, later : (k,)
        Row numbers to descend on, and to tell when to stop.
    fixed : dict
        `mean` and `scale` of each feature over the earlier rows.
    factor, offset : float
        What the net's output is multiplied with, and what is added, to be a score.
    """

    windows: Windows
    targets: NDArray[np.float32]
    weights: NDArray[np.float32]
    earlier: NDArray[np.intp]
    later: NDArray[np.intp]
    is_label: bool
    fixed: Weights
    factor: float
    offset: float

    def finish(self, weights: Weights) -> Weights:
        """Fold factor and offset into the last layer."""
        head, bias = weights["head"] * self.factor, weights["head_bias"] * self.factor
        return {**weights, "head": head, "head_bias": (bias + self.offset).astype(np.float32)}


def prepare_lessons(
    dataset: Dataset,
    *,
    length: int,
    is_label: bool,
    validation_share: float,
    balanced: bool,
    max_windows: int | None,
) -> Lessons:
    """Part the rows that carry weight by time, and scale what is learned.

    Parameters
    ----------
    validation_share : float
        Share of the rows, the latest, that tells when to stop. A label of the earlier rows that
        reaches into the first bar of the later ones is left out.
    balanced : bool
        Weigh both labels alike while learning. The log odds of the rows as they are come back in
        `offset`, so that probabilities stay those of the market.
    max_windows : int or None
        Learn from so many rows at most, the latest.

    Raises
    ------
    NotEnoughData
        If the earlier rows have one label only, or one part is empty.
    """
    if is_label:
        dataset.require_both_labels()
    else:
        dataset.require_returns()
    symbols = np.unique(dataset.symbols, return_inverse=True)[1]
    order = np.lexsort((symbols, dataset.intervals[:, 0]))
    order = order[dataset.weights[order] > 0]
    rows = dataset.take(order if max_windows is None else order[-max_windows:])
    earlier, later = _parts(rows, validation_share)
    if is_label:
        rows.take(earlier).require_both_labels()
    weights = rows.weights / rows.weights[earlier].mean()
    targets, factor, offset = (rows.y > 0).astype(np.float64), 1.0, 0.0
    if not is_label:
        targets = np.asarray(rows.require_returns(), np.float64)
        offset, factor = _moments(targets[earlier], rows.weights[earlier])
        targets = (targets - offset) / factor
    elif balanced:
        up = float(np.average(targets[earlier], weights=rows.weights[earlier]))
        weights = weights * np.where(targets > 0, 0.5 / up, 0.5 / (1.0 - up))
        offset = float(np.log(up / (1.0 - up)))
    return Lessons(
        windows=rows.windows(length),
        targets=targets.astype(np.float32),
        weights=weights.astype(np.float32),
        earlier=earlier,
        later=later,
        is_label=is_label,
        fixed=dict(zip(("mean", "scale"), normalisation(rows.X[earlier]), strict=True)),
        factor=factor,
        offset=offset,
    )


def _parts(rows: Dataset, validation_share: float) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    starts, ends = rows.intervals[:, 0], rows.intervals[:, 1]
    cut = int(len(rows) * (1.0 - validation_share))
    first = starts[cut] if cut < len(rows) else np.inf
    earlier, later = np.flatnonzero(ends < first), np.flatnonzero(starts >= first)
    if not (len(earlier) and len(later)):
        raise NotEnoughData(
            f"Expected rows to learn from and later ones that tell when to stop; found "
            f"{len(earlier)} and {len(later)} of {len(rows)} rows with weight. Widen the data "
            "window, or shorten the labels."
        )
    return earlier, later


def _moments(values: FloatArray, weights: FloatArray) -> tuple[float, float]:
    mean = float(np.average(values, weights=weights))
    deviation = float(np.sqrt(np.average((values - mean) ** 2, weights=weights)))
    return mean, deviation if deviation > 0 else 1.0
