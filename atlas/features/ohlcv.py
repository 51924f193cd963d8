"""The OHLCV features: returns, volatility, trend, oscillators and volume, several horizons."""

from __future__ import annotations

from datetime import datetime, timedelta
from functools import partial
from typing import Any

import numpy as np
import polars as pl

from atlas.clock import to_micros
from atlas.features import windows
from atlas.features.feature_set import FeatureSet
from atlas.features.stored_view import KEY_COLUMNS
from atlas.market import Interval
from atlas.schemas.features import OhlcvFeatures

__all__ = ["ohlcv"]

_DAY = timedelta(days=1)
# An exponential average is cut where its weight has fallen below 2 %: four spans.
_SPANS = 4
_MACD_BARS = 26 * _SPANS
_SIGNAL_BARS = 9 * _SPANS
_LONGEST_BARS = 240
# What a model may look back on: the jump model's longest window, and rows ahead. 88 kB a symbol.
_SEQUENCE_BARS = 512


def ohlcv(interval: Interval) -> FeatureSet:
    """Return the OHLCV features of bars of that interval."""
    return FeatureSet(
        name="ohlcv",
        interval=interval,
        schema=OhlcvFeatures,
        compute=partial(_compute, interval=interval),
        lookback=max(_LONGEST_BARS * interval.delta, _DAY),
        description="Returns, volatility, trend, oscillators and volume of candles.",
        depth=_SEQUENCE_BARS,
    )


def _compute(
    bars: pl.LazyFrame, *, interval: Interval, since: datetime | None = None
) -> pl.LazyFrame:
    schema: dict[str, Any] = {
        name: pl.String if name == "symbol" else pl.Datetime("us", "UTC") for name in KEY_COLUMNS
    }
    names = [name for name in OhlcvFeatures.to_schema().columns if name not in KEY_COLUMNS]
    return bars.map_batches(
        partial(_features, interval=interval, since_us=to_micros(since) if since else -(2**62)),
        schema={**schema, **dict.fromkeys(names, pl.Float64)},
        # Filters and column picks must not slip below: windows need every row.
        predicate_pushdown=False,
        projection_pushdown=False,
        slice_pushdown=False,
    )


def _features(bars: pl.DataFrame, *, interval: Interval, since_us: int) -> pl.DataFrame:
    segment = bars["symbol"].rle_id().cast(pl.Int64).to_numpy()
    time_us = bars["event_timestamp"].dt.timestamp("us").to_numpy()
    known_us = bars["known_at"].dt.timestamp("us").to_numpy()
    open_, high, low, close, volume = (
        np.ascontiguousarray(bars[name].to_numpy())
        for name in ("open", "high", "low", "close", "volume")
    )
    day_bars = max(1, _DAY // interval.delta)

    def start(n: int, since_us: int = since_us) -> Any:
        return windows.window_starts(segment, time_us, n, interval.micros, since_us=since_us)

    def change(n: int) -> Any:
        return windows.returns(start(n), open_, close)

    def volatility(n: int) -> Any:
        return windows.realised_volatility(start(n), open_, close)

    def trend(n: int) -> Any:
        # Return in units of the same window's volatility; undefined where nothing moved.
        moved = volatility(n)
        return np.divide(change(n), moved, out=np.full(close.size, np.nan), where=moved > 0)

    # The signal line averages MACD values that lie before the first row asked for.
    macd_start = start(_MACD_BARS, since_us - _SIGNAL_BARS * interval.micros)
    macd = windows.ema(macd_start, close, 2 / 13) - windows.ema(macd_start, close, 2 / 27)
    columns = {
        "return_1": change(1),
        "return_5": change(5),
        "return_15": change(15),
        "return_60": change(60),
        "return_240": change(240),
        "return_24h": change(day_bars),
        "realised_vol_30": volatility(30),
        "realised_vol_120": volatility(120),
        "trend_60": trend(60),
        "trend_240": trend(240),
        "rsi_14": windows.relative_strength(start(14), open_, close),
        "bb_pos_20": windows.bollinger_position(start(20), close),
        "range_pos_60": windows.range_position(start(60), high, low, close),
        "macd_12_26": macd / close,
        "macd_hist_12_26_9": (macd - windows.ema(start(_SIGNAL_BARS), macd, 2 / 10)) / close,
        "atr_14": windows.atr(start(14), open_, high, low, close),
        "vol_ratio_24": windows.volume_ratio(start(24), volume),
        "volume_score_60": windows.volume_score(start(60), volume),
        "flow_60": windows.flow(start(60), open_, close, volume),
    }
    known = windows.latest_known(segment, time_us, known_us, _lookback(interval))
    rows = bars.select(
        "symbol",
        "event_timestamp",
        pl.Series("known_at", known).cast(pl.Datetime("us", "UTC")),
        *(pl.Series(name, values).fill_nan(None) for name, values in columns.items()),
    )
    return rows.filter(pl.Series(time_us >= since_us))


def _lookback(interval: Interval) -> int:
    return ohlcv(interval).lookback // timedelta(microseconds=1)
