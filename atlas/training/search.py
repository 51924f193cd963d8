"""The search for hyperparameters: every trial walks forward, and every trial's returns are kept.

The probability of overfitting is a statement about the whole search, so nothing of it is dropped:
a trial that lost, or never traded, stays in the record with its returns.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import optuna
from numpy.typing import NDArray

from atlas.book import Book
from atlas.engines import Dataset, XGBoostEngine
from atlas.stats import sharpe_ratio, uniqueness_weights
from atlas.training.candidate import SearchPlan

__all__ = ["Fold", "Trial", "best_trial", "run_search"]

Floats = NDArray[np.float64]
Fold = tuple[NDArray[np.intp], NDArray[np.intp]]

THRESHOLDS = (0.0, 0.05, 0.1, 0.15, 0.2)


@dataclass(frozen=True)
class Trial:
    """One set of hyperparameters, walked forward."""

    number: int
    parameters: Mapping[str, Any]
    threshold: float
    in_sample: tuple[Floats, ...]
    """One a fold: the period returns on the rows that it was fitted to."""
    out_of_sample: tuple[Floats, ...]
    """One a fold: the period returns on the rows after them."""
    trade_returns: Floats
    hits: NDArray[np.bool_]
    """(n,) whether the ±1 barrier label was met, out of sample."""

    @property
    def returns(self) -> Floats:
        """(n_periods,) out-of-sample returns of all folds, in order of time."""
        return np.concatenate(self.out_of_sample)

    @property
    def sharpe(self) -> float:
        """Per-period Sharpe ratio out of sample; 0 for a trial that never traded."""
        return float(sharpe_ratio(self.returns))


def run_search(
    dataset: Dataset,
    book: Book,
    folds: Sequence[Fold],
    plan: SearchPlan,
    *,
    on_trial: Callable[[Trial], None] = lambda _: None,
) -> list[Trial]:
    """Search with Optuna for the highest Sharpe ratio out of sample.

    Parameters
    ----------
    dataset : Dataset
        One row a decision, in the order of `book`; a row without a label weighs nothing.
    folds : sequence of (train, test)
        Purged and embargoed; from `atlas.stats.walk_forward_splits`.
    on_trial : callable
        Told of each finished trial.
    """
    prepared = [_prepare(dataset, train, test) for train, test in folds]
    trials: list[Trial] = []

    def objective(handle: optuna.Trial) -> float:
        parameters, threshold = _suggest(handle)
        trial = _walk(handle.number, parameters, threshold, prepared, book, plan.seed)
        trials.append(trial)
        on_trial(trial)
        return trial.sharpe

    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        study = optuna.create_study(direction="maximize", sampler=_sampler(plan))
        study.optimize(objective, n_trials=plan.n_trials)
    finally:
        optuna.logging.set_verbosity(verbosity)
    return trials


def best_trial(trials: Sequence[Trial]) -> Trial:
    """Return the trial of the highest out-of-sample Sharpe ratio; the earlier of equals."""
    return max(trials, key=lambda trial: trial.sharpe)


@dataclass(frozen=True)
class _PreparedFold:
    train: Dataset
    train_rows: NDArray[np.intp]
    test: Dataset
    test_rows: NDArray[np.intp]


def _prepare(dataset: Dataset, train: NDArray[np.intp], test: NDArray[np.intp]) -> _PreparedFold:
    # The book wants each block's decisions in its own order: by symbol and time.
    train, test = np.sort(train), np.sort(test)
    return _PreparedFold(weighted(dataset.take(train)), train, dataset.take(test), test)


def weighted(dataset: Dataset) -> Dataset:
    """Weigh rows by the uniqueness of their labels among themselves."""
    return Dataset(
        dataset.X,
        dataset.y,
        features=dataset.features,
        intervals=dataset.intervals,
        symbols=dataset.symbols,
        weights=dataset.weights * uniqueness_weights(dataset.intervals),
    )


def _sampler(plan: SearchPlan) -> optuna.samplers.BaseSampler:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        # Half at random: a search that closes in at once leaves near clones, among which the
        # best in sample is a matter of luck, and the overfitting gate would say so.
        return optuna.samplers.TPESampler(seed=plan.seed, n_startup_trials=plan.n_trials // 2)


def _suggest(trial: optuna.Trial) -> tuple[dict[str, Any], float]:
    # Shallow and heavily smoothed: the signal of a market is weak, its noise is not.
    parameters = {
        "n_rounds": trial.suggest_int("n_rounds", 30, 120),
        "learning_rate": trial.suggest_float("learning_rate", 0.05, 0.3, log=True),
        "max_depth": trial.suggest_int("max_depth", 1, 3),
        "min_child_weight": trial.suggest_float("min_child_weight", 3.0, 100.0, log=True),
        "subsample": trial.suggest_float("subsample", 0.5, 1.0),
        "column_sample": trial.suggest_float("column_sample", 0.3, 1.0),
        "reg_lambda": trial.suggest_float("reg_lambda", 1.0, 100.0, log=True),
    }
    threshold = trial.suggest_categorical("threshold", THRESHOLDS)
    return parameters, float(threshold)


def _walk(
    number: int,
    parameters: Mapping[str, Any],
    threshold: float,
    folds: Sequence[_PreparedFold],
    book: Book,
    seed: int,
) -> Trial:
    in_sample, out_of_sample, trade_returns, hits = [], [], [], []
    for fold in folds:
        engine = XGBoostEngine(**parameters, seed=seed).fit(fold.train)
        seen = book.play(fold.train_rows, engine.predict(fold.train.X)[:, 1], threshold)
        scores = engine.predict(fold.test.X)[:, 1]
        unseen = book.play(fold.test_rows, scores, threshold)
        in_sample.append(seen.period_returns)
        out_of_sample.append(unseen.period_returns)
        trade_returns.append(unseen.trade_returns)
        labelled = fold.test.weights > 0
        hits.append(((scores > 0.5) == (fold.test.y > 0))[labelled])
    return Trial(
        number=number,
        parameters=parameters,
        threshold=threshold,
        in_sample=tuple(in_sample),
        out_of_sample=tuple(out_of_sample),
        trade_returns=np.concatenate(trade_returns),
        hits=np.concatenate(hits),
    )
