"""The schemas of feature frames: what a value may be, before it is stored or served.

A feature not yet warm is null. Names and order here are the Feast views' and the models'.
"""

from __future__ import annotations

from typing import Any

import pandera.polars as pa
import polars as pl
from pandera.api.polars.types import PolarsData
from pandera.typing.polars import Series

from atlas.schemas.candles import END_OF_TIME, KNOWN_BEFORE_EVENT, OLDEST_TIME, SYMBOL_PATTERN

__all__ = ["LunarFeatures", "OhlcvFeatures", "RegimeFeatures", "joined_schema"]

_MOMENT = {"time_unit": "us", "time_zone": "UTC"}
# A log return beyond ±5 is a factor of 148: a broken price, not a market.
_MAX_RETURN = 5.0


def _unbounded() -> Any:
    # Finite, but of no natural bound.
    return pa.Field(nullable=True, ge=-1e12, le=1e12)


def _between(low: float, high: float) -> Any:
    return pa.Field(nullable=True, ge=low, le=high)


class _FeatureRow(pa.DataFrameModel):
    symbol: Series[pl.String] = pa.Field(nullable=False, str_matches=SYMBOL_PATTERN)
    event_timestamp: Series[pl.Datetime] = pa.Field(
        nullable=False, dtype_kwargs=_MOMENT, ge=OLDEST_TIME
    )
    known_at: Series[pl.Datetime] = pa.Field(nullable=False, dtype_kwargs=_MOMENT, lt=END_OF_TIME)

    class Config:
        strict = True
        ordered = True

    @pa.dataframe_check(error=KNOWN_BEFORE_EVENT)
    def known_after_event(cls, data: PolarsData) -> pl.LazyFrame:  # noqa: N805
        """Hold no row that was known before what it tells of: it would leak the future."""
        return data.lazyframe.select(pl.col("known_at") >= pl.col("event_timestamp"))


class OhlcvFeatures(_FeatureRow):
    """Features of open, high, low, close and volume; windows count bars unless the name says."""

    return_1: Series[pl.Float64] = _between(-_MAX_RETURN, _MAX_RETURN)
    return_5: Series[pl.Float64] = _between(-_MAX_RETURN, _MAX_RETURN)
    return_15: Series[pl.Float64] = _between(-_MAX_RETURN, _MAX_RETURN)
    return_60: Series[pl.Float64] = _between(-_MAX_RETURN, _MAX_RETURN)
    return_240: Series[pl.Float64] = _between(-_MAX_RETURN, _MAX_RETURN)
    return_24h: Series[pl.Float64] = _between(-_MAX_RETURN, _MAX_RETURN)
    realised_vol_30: Series[pl.Float64] = _between(0.0, 100.0)
    realised_vol_120: Series[pl.Float64] = _between(0.0, 100.0)
    trend_60: Series[pl.Float64] = _unbounded()
    trend_240: Series[pl.Float64] = _unbounded()
    rsi_14: Series[pl.Float64] = _between(0.0, 100.0)
    bb_pos_20: Series[pl.Float64] = _unbounded()
    range_pos_60: Series[pl.Float64] = _between(0.0, 1.0)
    macd_12_26: Series[pl.Float64] = _unbounded()
    macd_hist_12_26_9: Series[pl.Float64] = _unbounded()
    atr_14: Series[pl.Float64] = _between(0.0, 100.0)
    vol_ratio_24: Series[pl.Float64] = _between(0.0, 1e12)
    volume_score_60: Series[pl.Float64] = _unbounded()
    flow_60: Series[pl.Float64] = _between(-1.0, 1.0)


class RegimeFeatures(_FeatureRow):
    """The regime of a jump model's online filter; all null where no model speaks."""

    regime: Series[pl.Int32] = _between(0, 254)
    """Its name; 0 had the lowest volatility in the symbol's first fit."""
    regime_level: Series[pl.Float64] = _unbounded()
    """What the first input is like in it, in that input's units: names may drift, this does not."""
    regime_gap: Series[pl.Float64] = _between(0.0, 1e12)
    """By how much the second best regime is worse, in half squared standard deviations."""
    regime_age: Series[pl.Int32] = _between(0, 2**31 - 1)
    """Bars since the last change."""
    model_version: Series[pl.String] = pa.Field(
        nullable=True, str_matches=r"^\d{8}T\d{6}\.\d{6}Z-[0-9a-f]{64}$"
    )
    """Moment of the refit that speaks, and the name of its checkpoint in the blob store."""


class LunarFeatures(_FeatureRow):
    """The planted trap: slow waves of time alone, which know nothing of any market."""

    moon: Series[pl.Float64] = _between(-1.0, 1.0)
    mercury: Series[pl.Float64] = _between(-1.0, 1.0)
    venus: Series[pl.Float64] = _between(-1.0, 1.0)
    mars: Series[pl.Float64] = _between(-1.0, 1.0)
    jupiter: Series[pl.Float64] = _between(-1.0, 1.0)
    saturn: Series[pl.Float64] = _between(-1.0, 1.0)


def joined_schema(model: type[pa.DataFrameModel]) -> pa.DataFrameSchema:
    """Return the schema of a feature set's rows after a point-in-time join, without `known_at`."""
    schema = model.to_schema()
    columns = {name: column for name, column in schema.columns.items() if name != "known_at"}
    return pa.DataFrameSchema(columns, strict=True, ordered=True, name=f"{schema.name}, joined")
