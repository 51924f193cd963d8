"""How rows are scored: in one thread of its own, so that the event loop never waits for a model."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from atlas.inference.candidate import ServedModel

__all__ = ["Scorer"]

Rows = NDArray[np.float32]
Scores = NDArray[np.float64]


class Scorer:
    """One thread that asks models for scores."""

    def __init__(self) -> None:
        # One thread: a second would only fight the first for the cores that the market's peak needs.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="scorer")

    async def score(self, models: Sequence[ServedModel], rows: Rows) -> list[Scores]:
        """Return for each model the probability of up of each row, shape (n_rows,).

        A model that fails on a batch is asked row by row; NaN is the score of a row that it fails
        on, or gives no probability for.
        """
        if len(rows) == 0:
            return [np.empty(0) for _ in models]
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, _score_all, models, rows)

    def close(self) -> None:
        """End the thread after what it is doing."""
        self._thread.shutdown()


def _score_all(models: Sequence[ServedModel], rows: Rows) -> list[Scores]:
    return [_score(model, rows) for model in models]


def _score(model: ServedModel, rows: Rows) -> Scores:
    try:
        scores = model.engine.score(rows).astype(np.float64)
        if scores.shape != (len(rows),):
            raise ValueError(f"expected {len(rows)} scores, found shape {scores.shape}")
    except Exception:
        # An engine may raise anything on a row that it was not made for; only that row is lost.
        if len(rows) == 1:
            return np.full(1, np.nan)
        return np.concatenate([_score(model, rows[i : i + 1]) for i in range(len(rows))])
    return np.where((scores >= 0.0) & (scores <= 1.0), scores, np.nan)
