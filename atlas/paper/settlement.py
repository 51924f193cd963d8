"""What a stream of signals earned on the bars that followed, by the book that judged the model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

import numpy as np
import polars as pl
from numpy.typing import NDArray

from atlas.book import Book, forward_returns
from atlas.fills import Costs
from atlas.market import Interval
from atlas.serving import Signal

__all__ = ["Settlement", "settle"]


@dataclass(frozen=True)
class Settlement:
    """What the signals of one model version earned."""

    signals: int
    decisions: int
    """Signals on the decision grid: only they move the position."""
    period_start: pl.Series
    """(n_periods,) when each period began."""
    period_returns: NDArray[np.float64]
    """(n_periods,) net return of the book, unit notional split equally by symbol."""
    trade_returns: NDArray[np.float64]
    """(n_trades,) net return of each trade."""

    @property
    def net_return(self) -> float:
        """Sum of the period returns: 0.01 is 1 % of the notional."""
        return float(self.period_returns.sum())

    @property
    def win_rate(self) -> float:
        """Share of trades with a profit; NaN without a trade."""
        wins = self.trade_returns > 0
        return float(wins.mean()) if wins.size else float("nan")


def settle(
    signals: Sequence[Signal],
    bars: pl.DataFrame,
    *,
    interval: Interval,
    decision_bars: int,
    costs: Costs,
    period: timedelta = timedelta(hours=1),
    n_symbols: int | None = None,
) -> Settlement:
    """Trade signals on the bars that followed them.

    A decision is filled at its bar's close and held until the symbol's next one; the newest counts
    until the next is due, or as far as bars are known. All positions are closed at the end, at a
    cost.

    Parameters
    ----------
    signals : sequence of Signal
        Of one model version and stage, in any order.
    bars : DataFrame
        Columns `atlas.market.BAR_COLUMNS`.
    n_symbols : int or None
        Among how many symbols the notional is split; None counts those with a decision.
    """
    decided = pl.DataFrame(
        {
            "symbol": [signal.symbol for signal in signals if signal.decides],
            "event_us": [signal.event_us for signal in signals if signal.decides],
            "side": [signal.side for signal in signals if signal.decides],
        },
        schema={"symbol": pl.String, "event_us": pl.Int64, "side": pl.Int8},
    )
    rows = _with_forward_returns(decided, bars, interval, decision_bars)
    if rows.is_empty():
        nothing = np.zeros(0)
        times = pl.Series("period_start", [], dtype=pl.Datetime("us", "UTC"))
        return Settlement(len(signals), decided.height, times, nothing, nothing)
    book = Book.of(rows, period=period, costs=costs, n_symbols=n_symbols)
    # A side is a score whose opinion has no doubt left.
    scores = rows["side"].to_numpy() / 2 + 0.5
    outcome = book.play(np.arange(rows.height), scores.astype(np.float64), 0.0)
    first = int(rows["event_us"].min()) // book.period_us  # type: ignore[arg-type]
    starts = (first + np.arange(outcome.period_returns.size)) * book.period_us
    return Settlement(
        signals=len(signals),
        decisions=decided.height,
        period_start=pl.Series("period_start", starts).cast(pl.Datetime("us", "UTC")),
        period_returns=outcome.period_returns,
        trade_returns=outcome.trade_returns,
    )


def _with_forward_returns(
    decided: pl.DataFrame, bars: pl.DataFrame, interval: Interval, decision_bars: int
) -> pl.DataFrame:
    frames = []
    for (symbol,), own in bars.sort("symbol", "event_timestamp").group_by(
        "symbol", maintain_order=True
    ):
        wanted = decided.filter(pl.col("symbol") == symbol).unique("event_us").sort("event_us")
        time = own["event_timestamp"].dt.timestamp("us").to_numpy() // interval.micros
        at = wanted["event_us"].to_numpy() // interval.micros
        row = np.searchsorted(time, at)
        known = (row < time.size) & (time[np.minimum(row, time.size - 1)] == at)
        wanted, row = wanted.filter(pl.Series(known)), row[known]
        close = own["close"].to_numpy()
        frames.append(
            wanted.with_columns(
                pl.col("event_us").cast(pl.Datetime("us", "UTC")).alias("event_timestamp"),
                close=pl.Series(close[row], dtype=pl.Float64),
                forward_return=pl.Series(
                    forward_returns(close, time, row, decision_bars), dtype=pl.Float64
                ),
            )
        )
    return pl.concat(frames) if frames else decided.clear()
