"""How a candidate becomes a model with its evidence: search, choose, fit on all, remember."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

import numpy as np
from numpy.typing import NDArray

from atlas.book import Book
from atlas.engines import XGBoostEngine
from atlas.errors import NotEnoughData
from atlas.gates import Evidence
from atlas.serving import feature_hash
from atlas.stats import walk_forward_splits
from atlas.training.candidate import Candidate
from atlas.training.frame import TrainingFrame
from atlas.training.search import Trial, best_trial, run_search, weighted

__all__ = ["Trained", "train"]

_GOLDEN_ROWS = 16


@dataclass(frozen=True)
class Trained:
    """A fitted model, and everything that the gates and the worker need to know of it."""

    candidate: Candidate
    frame: TrainingFrame
    engine: XGBoostEngine
    trials: tuple[Trial, ...]
    best: Trial
    evidence: Evidence
    periods_us: NDArray[np.int64]
    """(n_periods,) start of each out-of-sample period, in microseconds since 1970."""
    golden_rows: tuple[tuple[float | None, ...], ...]
    golden_scores: tuple[float, ...]

    @property
    def feature_hash(self) -> str:
        """Hash of the view and the features that the model takes."""
        return feature_hash(self.candidate.features.view, self.frame.features)


def train(
    candidate: Candidate,
    frame: TrainingFrame,
    *,
    on_trial: Callable[[Trial], None] = lambda _: None,
) -> Trained:
    """Search a candidate's hyperparameters walking forward, then fit the best on the whole frame.

    No fold's model has seen the rows that it is judged by. The hyperparameters have: the best
    trial is chosen by those same returns, and the overfitting gate, which takes every trial, is
    what speaks of that choice. The final fit, which is what trades, is newer than all folds and
    is judged by its live returns.

    Raises
    ------
    NotEnoughData
        If a fold would have no rows.
    """
    dataset = frame.dataset()
    book = Book.of(frame.rows, period=candidate.period, costs=candidate.costs)
    folds = list(
        walk_forward_splits(
            dataset.intervals,
            n_splits=candidate.search.n_folds,
            embargo=candidate.embargo_bars,
        )
    )
    if any(len(train) == 0 or len(test) == 0 for train, test in folds):
        raise NotEnoughData(
            f"Expected rows in each of {candidate.search.n_folds} folds; found a fold that the "
            "purge leaves empty. "
            "Ingest more history."
        )
    trials = run_search(dataset, book, folds, candidate.search, on_trial=on_trial)
    best = best_trial(trials)
    engine = XGBoostEngine(**best.parameters, seed=candidate.search.seed).fit(weighted(dataset))
    golden = _golden(dataset.X)
    return Trained(
        candidate=candidate,
        frame=frame,
        engine=engine,
        trials=tuple(trials),
        best=best,
        evidence=_evidence(candidate, frame, trials, best),
        periods_us=np.concatenate([book.periods(test) for _, test in folds]),
        golden_rows=tuple(
            tuple(None if np.isnan(value) else float(value) for value in row) for row in golden
        ),
        golden_scores=tuple(float(score) for score in engine.predict(golden)[:, 1]),
    )


def _golden(X: np.ndarray) -> np.ndarray:
    """Pick rows spread over the whole frame: a model that loads wrongly will miss one of them."""
    picked = np.unique(np.linspace(0, len(X) - 1, _GOLDEN_ROWS).astype(np.intp))
    return np.asarray(X[picked])


def _evidence(
    candidate: Candidate, frame: TrainingFrame, trials: list[Trial], best: Trial
) -> Evidence:
    times = frame.rows["event_timestamp"]
    first, last = times.min(), times.max()
    decision = candidate.target.decision_bars * candidate.features.interval.delta
    return Evidence(
        trial_returns=np.column_stack([trial.returns for trial in trials]),
        selected=trials.index(best),
        in_sample=best.in_sample,
        out_of_sample=best.out_of_sample,
        trade_returns=best.trade_returns,
        hits=best.hits,
        period=max(candidate.period, timedelta(hours=1)),
        model=candidate.model,
        features=feature_hash(candidate.features.view, frame.features),
        data_range=(first, last + decision),  # type: ignore[operator,arg-type]
    )
