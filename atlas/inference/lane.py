"""How a model is asked for scores: in a thread of its own, so that nobody waits for it unasked."""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from atlas.errors import AtlasError, InvalidInput

__all__ = ["Lane", "Scored", "Scores", "TooSlow"]

Rows = NDArray[np.float32]


class TooSlow(AtlasError):
    """A model has not answered in time."""


class Scores(Protocol):
    """What a lane needs of an engine."""

    def score(self, rows: Rows) -> NDArray[np.float32]:
        """Return a score for each row."""
        ...


@dataclass(frozen=True, slots=True)
class Scored:
    """What one model says of rows."""

    scores: NDArray[np.float64]
    """(n_rows,) scores; NaN where the model failed, was too slow or gave no proper score."""
    took_us: int = 0
    error: Exception | None = None
    """What it raised on the last of the rows that it failed on."""


class Lane:
    """One model's thread; it ends by itself when nobody holds the lane any longer.

    Parameters
    ----------
    engine : Scores
        The model.
    is_probability : bool
        Whether a score outside [0, 1] is none.
    """

    def __init__(self, engine: Scores, *, is_probability: bool) -> None:
        self._engine = engine
        self._is_probability = is_probability
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="lane")
        self._late: asyncio.Future[Scored] | None = None

    async def score(self, rows: Rows, *, within_s: float | None = None) -> Scored:
        """Ask for the scores of all rows, shape (n_rows, n_features).

        A model that fails on a batch is asked row by row, so that only the row it fails on is lost.

        Parameters
        ----------
        within_s : float or None
            How long to wait; None for as long as it takes. Beyond it all rows are lost, and so are
            those of later calls until the model has answered: what it then says, nobody hears.
        """
        if len(rows) == 0:
            return Scored(np.empty(0))
        # Whoever has all the time waits behind a late call, in the thread's own queue.
        if within_s is not None and self._late is not None and not self._late.done():
            return _lost(rows)
        work = asyncio.get_running_loop().run_in_executor(self._thread, self._score, rows)
        if within_s is None:
            return await work
        done, _ = await asyncio.wait((work,), timeout=within_s)
        if not done:
            self._late = work
            return _lost(rows)
        return work.result()

    def _score(self, rows: Rows) -> Scored:
        began = time.perf_counter_ns()
        scores, error = self._ask(rows)
        return Scored(scores, (time.perf_counter_ns() - began) // 1_000, error)

    def _ask(self, rows: Rows) -> tuple[NDArray[np.float64], Exception | None]:
        try:
            scores = self._engine.score(rows).astype(np.float64)
            if scores.shape != (len(rows),):
                raise InvalidInput(f"Expected {len(rows)} scores; found an array {scores.shape}.")
        except Exception as error:  # an engine may raise anything on a row it was not made for
            if len(rows) == 1:
                return np.full(1, np.nan), error
            alone = [self._ask(rows[i : i + 1]) for i in range(len(rows))]
            errors = [one for _, one in alone if one is not None]
            return np.concatenate([one for one, _ in alone]), errors[-1] if errors else None
        proper = np.isfinite(scores)
        if self._is_probability:
            proper &= (scores >= 0.0) & (scores <= 1.0)
        if proper.all():
            return scores, None
        wanted = "between 0 and 1" if self._is_probability else "that is a number"
        found = scores[~proper][-1]
        return (
            np.where(proper, scores, np.nan),
            InvalidInput(f"Expected a score {wanted}; found {found}."),
        )


def _lost(rows: Rows) -> Scored:
    # Always the same words: a failure that lasts is one record.
    return Scored(
        np.full(len(rows), np.nan),
        error=TooSlow("Expected scores within 0.1 s and 10 ms a row; it takes longer."),
    )
