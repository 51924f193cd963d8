"""What a stream of scores earns: from scores to sides, fills and period returns.

Back-test, gates and the paper trader use this one book, so that their figures mean the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

import numpy as np
import polars as pl
from numpy.typing import NDArray

from atlas.decision import sides
from atlas.fills import Costs, net_returns, trades

__all__ = ["Book", "Outcome", "forward_returns"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def forward_returns(close: Floats, time: Ints, rows: Ints, decision_bars: int) -> Floats:
    """Return each decision's simple return until the next one is due.

    Parameters
    ----------
    close, time : (n_bars,)
        Closing prices of one symbol, and closes in whole intervals since 1970, ascending.
    rows : (n,)
        Positions of the deciding bars. Where no bar closes when the next decision is due, the
        first one after it counts, so that a gap's jump is paid; past the end of the data, the last.
    """
    due = np.searchsorted(time, time[rows] + decision_bars, side="left")
    return np.asarray(close[np.minimum(due, time.size - 1)] / close[rows] - 1.0)


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

    Every side is held until the symbol's next decision, however late that comes: a bar or a vector
    that is missing changes no position. A block starts flat and ends flat.
    """

    symbol: Ints
    """(n,) a number per symbol."""
    time_us: Ints
    """(n,) moment of the decision."""
    forward_return: Floats
    """(n,) simple return until the symbol's next decision."""
    n_symbols: int
    """Among how many symbols the notional is split, whether or not each has a decision."""
    period_us: int
    costs: Costs

    @staticmethod
    def of(
        rows: pl.DataFrame, *, period: timedelta, costs: Costs, n_symbols: int | None = None
    ) -> Book:
        """Build from decisions.

        Parameters
        ----------
        rows : DataFrame
            `symbol`, `event_timestamp`, `close` and `forward_return`, by symbol and time. The
            last is used for each symbol's newest decision; the others run to the next one.
        n_symbols : int or None
            None counts those in `rows`.
        """
        until_next = pl.col("close").shift(-1).over("symbol") / pl.col("close") - 1.0
        forward = rows.select(until_next.fill_null(pl.col("forward_return"))).to_series()
        return Book(
            symbol=rows["symbol"].rle_id().cast(pl.Int64).to_numpy(),
            time_us=rows["event_timestamp"].dt.timestamp("us").to_numpy(),
            forward_return=forward.to_numpy(),
            n_symbols=n_symbols or rows["symbol"].n_unique(),
            period_us=period // timedelta(microseconds=1),
            costs=costs,
        )

    def periods(self, rows: Ints) -> Ints:
        """Return the start of each period that a block of decisions spans, in microseconds."""
        period = self.time_us[rows] // self.period_us
        return np.arange(period.min(), period.max() + 1) * self.period_us

    def play(self, rows: Ints, scores: Floats, threshold: float, *, centre: float = 0.5) -> Outcome:
        """Trade the rows of one block by their scores.

        Parameters
        ----------
        rows : (n_rows,)
            Indices of the block's decisions, in order.
        scores : (n_rows,)
            Of each of them; NaN where there was no usable vector.
        threshold, centre : float
            As `atlas.decision.sides` takes them.
        """
        side = sides(scores, threshold, centre=centre)
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
        return Outcome(returns / self.n_symbols, np.concatenate(trade_returns))


def _held(side: NDArray[np.int8], unheard: NDArray[np.bool_]) -> NDArray[np.int8]:
    """Keep the former side where the model was not heard; a block starts flat."""
    heard = np.maximum.accumulate(np.where(unheard, -1, np.arange(side.size)))
    return np.where(heard < 0, 0, side[heard]).astype(np.int8)
