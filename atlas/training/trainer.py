"""How a candidate becomes a model with its evidence: search, choose, fit on all, remember."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from atlas.book import Book
from atlas.decision import centre_of
from atlas.engines import Dataset, Engine
from atlas.gates import Evidence
from atlas.serving import feature_hash
from atlas.training.audit import Audit, audit_features
from atlas.training.candidate import Candidate
from atlas.training.cost import Cost, now, uses_gpu
from atlas.training.evaluators import InProcess, Processes
from atlas.training.folds import Folds, lay_folds
from atlas.training.frame import TrainingFrame
from atlas.training.search import Evaluate, Memory, best_trial, run_search
from atlas.training.walk import Trial, Walker

__all__ = ["Trained", "train"]

_GOLDEN_ROWS = 16
# Of windows fewer are kept: workers read the manifest of every route, and look often.
_GOLDEN_VALUES = 16_384


@dataclass(frozen=True)
class Trained:
    """A fitted model, and everything that the gates and the worker need to know of it."""

    candidate: Candidate
    frame: TrainingFrame
    engine: Engine
    folds: Folds
    trials: tuple[Trial, ...]
    best: Trial
    evidence: Evidence
    periods_us: NDArray[np.int64]
    """(n_periods,) start of each judged period, in microseconds since 1970."""
    golden_rows: tuple[tuple[float | None, ...], ...]
    """A window's rows, one after another, make one golden row."""
    golden_scores: tuple[float, ...]
    cost: Cost
    """Of the search and the final fit."""

    @property
    def feature_hash(self) -> str:
        """Hash of the view and the features that the model takes."""
        return feature_hash(self.candidate.features.view, self.frame.features)

    @cached_property
    def dataset(self) -> Dataset:
        """What the engine learned from, one row a decision."""
        return self.frame.dataset()


def train(
    candidate: Candidate,
    frame: TrainingFrame,
    *,
    bars: pl.DataFrame | None = None,
    n_processes: int = 1,
    timeout: timedelta | None = None,
    evaluate: Callable[[Walker], AbstractContextManager[Evaluate]] | None = None,
    memory: Memory | None = None,
    on_trial: Callable[[Trial], None] = lambda _: None,
) -> Trained:
    """Search a candidate's hyperparameters walking forward, then fit the best on the whole frame.

    The trial is chosen by its selection folds alone. What the gates judge are later folds, which
    neither the sampler nor the choice has seen, each played by a model that was fitted before it.
    The final fit, which is what trades, is newer than all folds and is judged by its live returns.

    Parameters
    ----------
    bars : DataFrame, optional
        What the features were computed from: some rows are then computed again, each from the bars
        known at its time alone, and a gate is told which features came out otherwise.
    n_processes : int
        How many walk trials side by side; the result is the same.
    timeout : timedelta, optional
        After which processes are ended; one process alone is only asked between trials.
    evaluate : callable, optional
        Where trials are walked instead, such as on a cluster.
    memory : Memory, optional
        Keeps finished trials, so that a search that was killed goes on.

    Raises
    ------
    NotEnoughData
        If a fold would have no rows, or no trial could be fitted.
    TrainingTimeout
        If the time is up.
    """
    dataset = frame.dataset()
    book = Book.of(frame.rows, period=candidate.period, costs=candidate.costs)
    folds = lay_folds(dataset.intervals, candidate.search, embargo=candidate.embargo_bars)
    walker = Walker(dataset, book, folds, candidate.engine)
    place: AbstractContextManager[Evaluate]
    if evaluate is not None:
        place = evaluate(walker)
    elif n_processes > 1 or timeout is not None:
        place = Processes(walker, n_processes=n_processes, timeout=timeout)
    else:
        place = nullcontext(InProcess(walker))
    with place as walk:
        trials = run_search(candidate, walk, memory=memory, on_trial=on_trial)
    best = best_trial(trials)
    began = now()
    engine = walker.fit(best.parameters)
    last_fit = now() - began
    if not uses_gpu(best.parameters):
        last_fit = last_fit.on_cpu
    audit = None if bars is None else audit_features(candidate.features, frame, bars)
    golden = _golden(dataset, engine)
    return Trained(
        candidate=candidate,
        frame=frame,
        engine=engine,
        folds=folds,
        trials=tuple(trials),
        best=best,
        evidence=_evidence(candidate, frame, dataset, folds, trials, best, audit),
        periods_us=np.concatenate([book.periods(fold.blocks[0]) for fold in folds.judged]),
        golden_rows=tuple(
            tuple(None if np.isnan(value) else float(value) for value in row.ravel())
            for row in golden
        ),
        golden_scores=tuple(float(score) for score in engine.predict(golden)[:, -1]),
        cost=sum((trial.cost for trial in trials), last_fit),
    )


def _golden(dataset: Dataset, engine: Engine) -> NDArray[Any]:
    """Pick rows spread over the whole frame: a model that loads wrongly will miss one of them."""
    affordable = _GOLDEN_VALUES // (engine.window * len(dataset.features))
    n_rows = min(_GOLDEN_ROWS, max(2, affordable))
    picked = np.unique(np.linspace(0, len(dataset) - 1, n_rows).astype(np.intp))
    if engine.window == 1:
        return np.asarray(dataset.X[picked])
    return dataset.windows(engine.window)[picked]


def _evidence(
    candidate: Candidate,
    frame: TrainingFrame,
    dataset: Dataset,
    folds: Folds,
    trials: list[Trial],
    best: Trial,
    audit: Audit | None,
) -> Evidence:
    times = frame.rows["event_timestamp"]
    first, last = times.min(), times.max()
    decision = candidate.target.decision_bars * candidate.features.interval.delta
    judged = folds.judged_rows
    labelled = dataset.weights[judged] > 0
    centre = centre_of(candidate.task)
    # A score on the centre is no opinion: it takes no side, and is neither right nor wrong.
    spoke = labelled & (best.scores != centre)
    forecasts = targets = None
    if candidate.task == "return":
        forecasts = best.scores[labelled]
        targets = dataset.require_returns()[judged][labelled].astype(np.float64)
    return Evidence(
        trial_returns=np.column_stack([trial.returns for trial in trials]),
        selected=best.number,
        in_sample=best.in_sample,
        out_of_sample=best.out_of_sample,
        trade_returns=best.trade_returns,
        hits=((best.scores > centre) == (dataset.y[judged] > 0))[spoke],
        period=max(candidate.period, timedelta(hours=1)),
        forecasts=forecasts,
        targets=targets,
        model=candidate.model,
        features=feature_hash(candidate.features.view, frame.features),
        data_range=(first, last + decision),  # type: ignore[operator,arg-type]
        audited=None if audit is None else audit.rows,
        leaked=() if audit is None else audit.leaked,
    )
