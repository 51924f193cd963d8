"""How rows are scored: in one thread of its own, so that the event loop never waits for a model."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from atlas.errors import InvalidInput
from atlas.inference.candidate import ServedModel

__all__ = ["Scored", "Scorer"]

Rows = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Scored:
    """What one model says of rows."""

    scores: NDArray[np.float64]
    """(n_rows,) probability of up; NaN where the model failed or gave no probability."""
    error: Exception | None = None
    """What it raised on the last of the rows that it failed on."""


class Scorer:
    """One thread that asks models for scores."""

    def __init__(self) -> None:
        # A second thread would only fight the first for the cores that a busy market needs.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="scorer")

    async def score(self, models: Sequence[ServedModel], rows: Rows) -> list[Scored]:
        """Ask each model for the scores of all rows, shape (n_rows, n_features).

        A model that fails on a batch is asked row by row, so that only the row it fails on is lost.
        """
        if len(rows) == 0:
            return [Scored(np.empty(0)) for _ in models]
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, _score_all, models, rows)

    def close(self) -> None:
        """End the thread after what it is doing."""
        self._thread.shutdown()


def _score_all(models: Sequence[ServedModel], rows: Rows) -> list[Scored]:
    return [_score(model, rows) for model in models]


def _score(model: ServedModel, rows: Rows) -> Scored:
    try:
        scores = model.engine.score(rows).astype(np.float64)
        if scores.shape != (len(rows),):
            raise InvalidInput(f"Expected {len(rows)} scores; found an array {scores.shape}.")
    except Exception as error:  # an engine may raise anything on a row that it was not made for
        if len(rows) == 1:
            return Scored(np.full(1, np.nan), error)
        alone = [_score(model, rows[i : i + 1]) for i in range(len(rows))]
        errors = [one.error for one in alone if one.error is not None]
        return Scored(np.concatenate([one.scores for one in alone]), errors[-1] if errors else None)
    proper = (scores >= 0.0) & (scores <= 1.0)
    if proper.all():
        return Scored(scores)
    odd = scores[~proper][-1]
    return Scored(
        np.where(proper, scores, np.nan),
        InvalidInput(f"Expected a score between 0 and 1; found {odd}."),
    )
