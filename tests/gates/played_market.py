"""A search played on the simulated market by rules instead of models, with the real conventions.

A rule is one score a decision; positions, costs, trades, labels and windows are those that
training uses, so evidence differs from a trained model's only in where the scores come from.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import cache

import numpy as np
import polars as pl
from numpy.typing import NDArray

from atlas.book import Book
from atlas.fills import Costs
from atlas.gates import Evidence
from atlas.ingest import MarketRecipe, hidden_regimes, simulate
from atlas.market import interval_of
from atlas.stats import sharpe_ratio, walk_forward_splits
from atlas.training import default_target, label_events

Floats = NDArray[np.float64]
MINUTE = interval_of("1m")
THRESHOLD = 0.1


@dataclass(frozen=True)
class Market:
    """The decisions of a market, with what no model may see beside them."""

    events: pl.DataFrame
    """Columns of `label_events`, by symbol and time."""
    regime: NDArray[np.int8]
    """(n,) sign of the drift at each decision."""


@cache
def market(recipe: MarketRecipe) -> Market:
    """Simulate a market and label its decisions."""
    events = label_events(simulate(recipe), MINUTE, default_target(MINUTE))
    hidden = events.join(
        hidden_regimes(recipe), on=["symbol", "event_timestamp"], how="left", maintain_order="left"
    )
    return Market(events, hidden["regime"].to_numpy())


def opinion(sides: NDArray[np.floating]) -> Floats:
    """Return scores that take these sides: -1, 0 or 1."""
    return np.asarray(0.5 + 0.3 * sides, dtype=np.float64)


def searched(
    played: Market, rules: Sequence[Floats], *, costs: Costs, n_folds: int = 4
) -> list[Evidence]:
    """Play every rule; return the evidence with each of them selected, best first."""
    events = played.events
    book = Book.of(events, period=timedelta(hours=1), costs=costs)
    folds = list(
        walk_forward_splits(events.select("start", "end").to_numpy(), n_splits=n_folds, embargo=60)
    )
    up, labelled = events["label"].to_numpy() > 0, events["label"].to_numpy() != 0
    columns, windows, trades, hits = [], [], [], []
    for scores in rules:
        seen = [book.play(train, scores[train], THRESHOLD) for train, _ in folds]
        unseen = [book.play(test, scores[test], THRESHOLD) for _, test in folds]
        columns.append(np.concatenate([each.period_returns for each in unseen]))
        windows.append([[each.period_returns for each in part] for part in (seen, unseen)])
        trades.append(np.concatenate([each.trade_returns for each in unseen]))
        right = (scores > 0.5) == up
        hits.append(np.concatenate([right[test][labelled[test]] for _, test in folds]))
    trial_returns = np.column_stack(columns)
    order = sorted(range(len(rules)), key=lambda i: -sharpe_ratio(columns[i]))
    return [
        Evidence(
            trial_returns=trial_returns,
            selected=i,
            in_sample=tuple(windows[i][0]),
            out_of_sample=tuple(windows[i][1]),
            trade_returns=trades[i],
            hits=hits[i],
            period=timedelta(hours=1),
            model="rules",
        )
        for i in order
    ]
