"""How stored bars are read: the newest version of each."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import polars as pl
from clickhouse_connect.driver.client import Client

from atlas.clickhouse.tables import latest_bars
from atlas.clickhouse.values import frame_of, moment
from atlas.market import Interval

__all__ = ["read_bars"]


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
