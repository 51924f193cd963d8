"""What a stream of scores would have earned: from scores to sides, fills and period returns."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

import numpy as np
import polars as pl
from numpy.typing import NDArray

from atlas.decision import sides
from atlas.fills import Costs, net_returns, trades

__all__ = ["Book", "Outcome"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Outcome:
    """What a block of decisions earned, net of costs."""

    period_returns: Floats
    """(n_periods,) the book's return in each period, unit notional split equally by symbol."""
    trade_returns: Floats
    """(n_trades,) net return of each trade on its symbol's notional."""


@dataclass(frozen=True)
class Book:
    """The decisions of all symbols, one row each, by symbol and time.

    Every decision's side is held until the next one is due; a block starts flat and ends flat.
    """

    symbol: Ints
    """(n,) a number per symbol."""
    time_us: Ints
    """(n,) moment of the decision."""
    forward_return: Floats
    """(n,) simple return until the next decision is due."""
    period_us: int
    costs: Costs

    @staticmethod
    def of(rows: pl.DataFrame, *, period: timedelta, costs: Costs) -> Book:
        """Build from labelled events (`atlas.training.label_events`)."""
        return Book(
            symbol=rows["symbol"].rle_id().cast(pl.Int64).to_numpy(),
            time_us=rows["event_timestamp"].dt.timestamp("us").to_numpy(),
            forward_return=rows["forward_return"].to_numpy(),
            period_us=period // timedelta(microseconds=1),
            costs=costs,
        )

    def play(self, rows: Ints, scores: Floats, threshold: float) -> Outcome:
        """Trade the rows of one block by their scores.

        Parameters
        ----------
        rows : (n_rows,)
            Indices of the block's decisions, in order.
        scores : (n_rows,)
            Probability of up for each of them; NaN where there was no usable vector.
        """
        side = sides(scores, threshold)
        unheard = np.isnan(scores)
        period = self.time_us[rows] // self.period_us
        returns = np.zeros(int(period.max() - period.min()) + 1)
        symbols = np.unique(self.symbol)
        trade_returns = []
        for number in symbols:
            own = self.symbol[rows] == number
            position = _held(side[own], unheard[own])
            net = net_returns(position, self.forward_return[rows[own]], self.costs)
            returns += np.bincount(period[own] - period.min(), weights=net, minlength=returns.size)
            trade_returns.append(trades(position, net, self.costs).net)
        return Outcome(returns / symbols.size, np.concatenate(trade_returns))


def _held(side: NDArray[np.int8], unheard: NDArray[np.bool_]) -> NDArray[np.int8]:
    """Keep the former side where the model was not heard; a block starts flat."""
    heard = np.maximum.accumulate(np.where(unheard, -1, np.arange(side.size)))
    return np.where(heard < 0, 0, side[heard]).astype(np.int8)
