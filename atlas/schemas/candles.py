"""What a candle may be: the schema of frames of bars.

Prices are positive, which suits shares and coins; power prices may be negative and are no candles.
"""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Any

import pandera.polars as pa
import polars as pl
from pandera.api.polars.types import PolarsData
from pandera.typing.polars import Series

from atlas.market import Interval

__all__ = [
    "END_OF_TIME",
    "KNOWN_BEFORE_EVENT",
    "OLDEST_TIME",
    "SYMBOL_PATTERN",
    "Candles",
    "candles_at",
]

_MOMENT = {"time_unit": "us", "time_zone": "UTC"}
OLDEST_TIME = datetime(1900, 1, 1, tzinfo=UTC)
"""ClickHouse's DateTime64 begins here; it would wrap what is older."""
END_OF_TIME = datetime(2262, 1, 1, tzinfo=UTC)
"""No later moment can be counted in nanoseconds, as Arrow and Feast's clients do."""
KNOWN_BEFORE_EVENT = "known_at is before event_timestamp"
SYMBOL_PATTERN = r"^[A-Z0-9][A-Z0-9._-]{0,31}$"
"""What a symbol looks like."""


def _moment(**bounds: Any) -> Any:
    return pa.Field(nullable=False, dtype_kwargs=_MOMENT, **bounds)


def _price() -> Any:
    return pa.Field(nullable=False, gt=0.0, lt=math.inf)


class Candles(pa.DataFrameModel):
    """A frame of bars, `atlas.market.BAR_COLUMNS`; `event_timestamp` is the close of the bar."""

    symbol: Series[pl.String] = pa.Field(nullable=False, str_matches=SYMBOL_PATTERN)
    event_timestamp: Series[pl.Datetime] = _moment(ge=OLDEST_TIME)
    known_at: Series[pl.Datetime] = _moment()
    open: Series[pl.Float64] = _price()
    high: Series[pl.Float64] = _price()
    low: Series[pl.Float64] = _price()
    close: Series[pl.Float64] = _price()
    volume: Series[pl.Float64] = pa.Field(nullable=False, ge=0.0, lt=math.inf)

    class Config:  # noqa: D106
        strict = True
        ordered = True

    @pa.dataframe_check(error="high is below open, close or low")
    def high_is_highest(cls, data: PolarsData) -> pl.LazyFrame:  # noqa: N805
        """Hold no bar whose high lies under one of its other prices."""
        highest = pl.max_horizontal("open", "close", "low")
        return data.lazyframe.select(_unless_broken(pl.col("high") >= highest))

    @pa.dataframe_check(error="low is above open, close or high")
    def low_is_lowest(cls, data: PolarsData) -> pl.LazyFrame:  # noqa: N805
        """Hold no bar whose low lies over one of its other prices."""
        lowest = pl.min_horizontal("open", "close", "high")
        return data.lazyframe.select(_unless_broken(pl.col("low") <= lowest))

    @pa.dataframe_check(error=KNOWN_BEFORE_EVENT)
    def known_after_close(cls, data: PolarsData) -> pl.LazyFrame:  # noqa: N805
        """Hold no bar that was known before it closed."""
        return data.lazyframe.select(pl.col("known_at") >= pl.col("event_timestamp"))


def candles_at(interval: Interval, *, now: datetime) -> pa.DataFrameSchema:
    """Return the schema of bars of one interval, seen from a moment of the project's clock.

    To what `Candles` asks it adds that a bar closes on the interval's grid (counted from 1970,
    UTC) and not after `now`.
    """
    schema = Candles.to_schema()
    closed_at = pl.col("event_timestamp")

    def on_grid(data: PolarsData) -> pl.LazyFrame:
        return data.lazyframe.select(closed_at.to_physical() % interval.micros == 0)

    def has_closed(data: PolarsData) -> pl.LazyFrame:
        return data.lazyframe.select(closed_at <= now)

    return pa.DataFrameSchema(
        columns=schema.columns,
        checks=[
            *schema.checks,
            pa.Check(on_grid, error=f"event_timestamp is off the {interval} grid"),
            pa.Check(has_closed, error="event_timestamp is beyond the clock"),
        ],
        strict=True,
        ordered=True,
        name=f"Candles[{interval}]",
    )


def _unless_broken(holds: pl.Expr) -> pl.Expr:
    # A price that is missing or not finite has its own reason; it has no order either.
    prices = [pl.col(name) for name in ("open", "high", "low", "close")]
    return holds | ~pl.all_horizontal(price.is_finite() for price in prices)
