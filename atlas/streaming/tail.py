"""The bars in memory: of each symbol as many as the longest window looks back."""

from __future__ import annotations

from datetime import datetime, timedelta

import polars as pl

from atlas.market import BAR_COLUMNS

__all__ = ["Tail"]

# Cutting copies the frame, so a quarter more than needed is let grow first.
_SLACK = 1.25


class Tail:
    """A moving window over the newest bars of all symbols, sorted by symbol and time.

    Parameters
    ----------
    bars : DataFrame
        Columns `atlas.market.BAR_COLUMNS`.
    lookback : timedelta
        What the longest window needs; older bars may be dropped.
    """

    def __init__(self, bars: pl.DataFrame, lookback: timedelta) -> None:
        self._bars = bars.select(BAR_COLUMNS).sort("symbol", "event_timestamp")
        self._lookback = lookback
        self._limit = 0

    @property
    def bars(self) -> pl.DataFrame:
        """What is held."""
        return self._bars

    def append(self, bars: pl.DataFrame) -> pl.DataFrame:
        """Take in newly closed bars and return all that is held.

        A bar that is held already is replaced: the later arrival is the corrected one.
        """
        self._bars = (
            pl.concat([self._bars, bars.select(BAR_COLUMNS)])
            .unique(["symbol", "event_timestamp"], keep="last", maintain_order=True)
            .sort("symbol", "event_timestamp")
        )
        if self._bars.height > self._limit:
            self._cut(bars["event_timestamp"].max())  # type: ignore[arg-type]
        return self._bars

    def _cut(self, newest: datetime) -> None:
        self._bars = self._bars.filter(pl.col("event_timestamp") > newest - self._lookback)
        self._limit = int(self._bars.height * _SLACK)
