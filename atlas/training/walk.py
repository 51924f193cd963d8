"""One trial: a set of hyperparameters, walked forward over the folds, with all that it earned."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from atlas.book import Book
from atlas.decision import centre_of
from atlas.engines import Dataset, Engine, engine_class, predict_rows
from atlas.errors import InvalidInput, NotEnoughData
from atlas.stats import sharpe_ratio, uniqueness_weights
from atlas.training.cost import Cost, now, uses_gpu
from atlas.training.folds import Folds

__all__ = ["Proposal", "Trial", "Walker", "weighted"]

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Proposal:
    """What a trial is to try."""

    number: int
    parameters: Mapping[str, Any]
    """Keyword arguments of the engine."""
    threshold: float
    bars: tuple[float, ...] = ()
    """After each selection fold: the Sharpe ratio below which the others are spared."""


@dataclass(frozen=True)
class Trial:
    """One set of hyperparameters, walked forward. Returns are net of costs, per period."""

    number: int
    parameters: Mapping[str, Any]
    threshold: float
    selection: tuple[Floats, ...]
    """One a selection fold, unseen by its model: what the trial is chosen by. Few if pruned."""
    selection_trades: Floats
    """Net return of each trade of those folds."""
    in_sample: tuple[Floats, ...]
    """One a judged fold: on the rows that its model was fitted to."""
    out_of_sample: tuple[Floats, ...]
    """One a judged fold: on the rows after them, which no choice was made by."""
    trade_returns: Floats
    scores: Floats
    """(n,) the model's score of each judged row, as `Folds.judged_rows` orders them."""
    pruned: bool = False
    failure: str = ""
    """Why it could not be fitted; its returns are 0 then."""
    cost: Cost = field(default_factory=Cost)

    @property
    def returns(self) -> Floats:
        """(n_periods,) judged returns of all folds, in order of time."""
        return np.concatenate(self.out_of_sample)

    @property
    def sharpe(self) -> float:
        """Per-period Sharpe ratio of the judged returns; 0 for a trial that never traded."""
        return float(sharpe_ratio(self.returns))

    @property
    def selection_sharpe(self) -> float:
        """Per-period Sharpe ratio of the selection folds that it walked."""
        return float(sharpe_ratio(np.concatenate(self.selection)))

    @property
    def selection_win_rate(self) -> float:
        """Share of the selection folds' trades that made money; 0 without a trade."""
        trades = self.selection_trades
        return float((trades > 0).mean()) if trades.size else 0.0

    @property
    def selection_path(self) -> tuple[float, ...]:
        """The same after each of the folds."""
        upto = range(1, len(self.selection) + 1)
        return tuple(float(sharpe_ratio(np.concatenate(self.selection[:n]))) for n in upto)

    @property
    def selection_drawdown(self) -> float:
        """Deepest drawdown over the selection folds, without compounding, as a fraction."""
        path = np.concatenate([[0.0], np.cumsum(np.concatenate(self.selection))])
        return float((np.maximum.accumulate(path) - path).max())

    @property
    def choosable(self) -> bool:
        """Whether it may be the one that is deployed."""
        return not self.pruned and not self.failure


class Walker:
    """Walks trials forward over prepared folds; a plain value, so that processes can share it.

    Parameters
    ----------
    dataset : Dataset
        One row a decision, in the order of `book`; a row without a label weighs nothing.
    engine : str
        A name of the catalogue, or `package.module:Class`.
    """

    def __init__(self, dataset: Dataset, book: Book, folds: Folds, engine: str) -> None:
        self._dataset, self._book, self._folds, self._engine = dataset, book, folds, engine

    def walk(self, proposal: Proposal) -> Trial:
        """Fit, score and play every fold that the proposal is worth."""
        began = now()
        try:
            trial = self._walk(proposal)
        # A fold with one label only, or a window longer than the history, says that the proposal is
        # unfit; anything else, such as a missing library, ends the search.
        except (NotEnoughData, InvalidInput) as error:
            trial = self._flat(proposal, str(error))
        taken = now() - began
        return replace(trial, cost=taken if uses_gpu(proposal.parameters) else taken.on_cpu)

    def fit(self, parameters: Mapping[str, Any], rows: NDArray[np.intp] | None = None) -> Engine:
        """Fit an engine on rows of the dataset, all if none are named."""
        chosen = self._dataset if rows is None else self._dataset.take(rows)
        engine: Engine = engine_class(self._engine)(**parameters)
        return engine.fit(weighted(chosen))

    def _walk(self, proposal: Proposal) -> Trial:
        threshold, centre = proposal.threshold, 0.0
        selection: list[Floats] = []
        selection_trades: list[Floats] = []
        pruned = False
        for number, fold in enumerate(self._folds.selection):
            engine = self.fit(proposal.parameters, fold.train)
            centre = centre_of(engine.task)
            played = [
                self._book.play(block, self._score(engine, block), threshold, centre=centre)
                for block in fold.blocks
            ]
            selection.append(np.concatenate([each.period_returns for each in played]))
            selection_trades.extend(each.trade_returns for each in played)
            so_far = sharpe_ratio(np.concatenate(selection))
            rest = len(self._folds.selection) - number - 1
            if rest and number < len(proposal.bars) and so_far < proposal.bars[number]:
                pruned = True
                break
        in_sample, out_of_sample, trade_returns, said = [], [], [], []
        for fold in self._folds.judged:
            engine = self.fit(proposal.parameters, fold.train)
            centre = centre_of(engine.task)
            (block,) = fold.blocks
            fitted, scores = self._score(engine, fold.train), self._score(engine, block)
            seen = self._book.play(fold.train, fitted, threshold, centre=centre)
            unseen = self._book.play(block, scores, threshold, centre=centre)
            in_sample.append(seen.period_returns)
            out_of_sample.append(unseen.period_returns)
            trade_returns.append(unseen.trade_returns)
            said.append(scores)
        return Trial(
            number=proposal.number,
            parameters=proposal.parameters,
            threshold=threshold,
            selection=tuple(selection),
            selection_trades=np.concatenate(selection_trades),
            in_sample=tuple(in_sample),
            out_of_sample=tuple(out_of_sample),
            trade_returns=np.concatenate(trade_returns),
            scores=np.concatenate(said),
            pruned=pruned,
        )

    def _score(self, engine: Engine, rows: NDArray[np.intp]) -> Floats:
        return predict_rows(engine, self._dataset.take(rows))[:, -1]

    def _flat(self, proposal: Proposal, failure: str) -> Trial:
        """Return what a trial that never traded leaves: it belongs to the record as well."""

        def zeros(rows: NDArray[np.intp]) -> Floats:
            return np.zeros(self._book.periods(rows).size)

        judged = self._folds.judged
        return Trial(
            number=proposal.number,
            parameters=proposal.parameters,
            threshold=proposal.threshold,
            selection=tuple(
                np.concatenate([zeros(block) for block in fold.blocks])
                for fold in self._folds.selection
            ),
            selection_trades=np.empty(0),
            in_sample=tuple(zeros(fold.train) for fold in judged),
            out_of_sample=tuple(zeros(fold.blocks[0]) for fold in judged),
            trade_returns=np.empty(0),
            scores=np.full(len(self._folds.judged_rows), np.nan),
            failure=failure,
        )


def weighted(dataset: Dataset) -> Dataset:
    """Weigh rows by the uniqueness of their labels among themselves."""
    return dataset.reweighted(dataset.weights * uniqueness_weights(dataset.intervals))
