"""How stored bars are read: the newest version of each."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime

import polars as pl
from clickhouse_connect.driver.client import Client

from atlas.clickhouse.tables import latest_bars
from atlas.clickhouse.values import frame_of, moment
from atlas.clock import from_micros
from atlas.market import Interval

__all__ = ["closing_prices", "read_bars"]


def read_bars(
    client: Client, interval: Interval, symbols: Sequence[str], *, after: datetime, before: datetime
) -> pl.DataFrame:
    """Return the newest version of each bar in `(after, before)`, by symbol and time."""
    where = (
        "symbol IN {symbols:Array(String)} AND event_timestamp > {after:DateTime64(6, 'UTC')} "
        "AND event_timestamp < {before:DateTime64(6, 'UTC')}"
    )
    table = client.query_arrow(
        latest_bars(interval, where),
        parameters={
            "symbols": list(symbols),
            "after": moment(after),
            "before": moment(before),
        },
        use_strings=True,
    )
    return frame_of(table)


def closing_prices(
    client: Client, interval: Interval, bars: Collection[tuple[str, int]]
) -> dict[tuple[str, int], float]:
    """Return the close of each bar that is stored, by symbol and time of its close.

    Parameters
    ----------
    bars : collection of (symbol, microseconds since 1970)
    """
    if not bars:
        return {}
    symbols, moments = sorted({s for s, _ in bars}), sorted({at for _, at in bars})
    # By key first, for the index; then the pairs themselves.
    where = (
        "symbol IN {symbols:Array(String)} "
        "AND event_timestamp BETWEEN {first:DateTime64(6, 'UTC')} AND {last:DateTime64(6, 'UTC')} "
        "AND toUnixTimestamp64Micro(event_timestamp) IN {moments:Array(Int64)}"
    )
    found = frame_of(
        client.query_arrow(
            latest_bars(interval, where),
            parameters={
                "symbols": symbols,
                "first": moment(from_micros(moments[0])),
                "last": moment(from_micros(moments[-1])),
                "moments": moments,
            },
            use_strings=True,
        )
    )
    at_us = found["event_timestamp"].dt.timestamp("us")
    prices = dict(zip(zip(found["symbol"], at_us, strict=True), found["close"], strict=True))
    return {bar: prices[bar] for bar in bars if bar in prices}
