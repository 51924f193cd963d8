"""How features of history are computed: a symbol and a chunk of time at once, safe to run twice.

A chunk is read with the look-back before it and writes only what it covers. Rows that the store
already has are left alone; a row whose values changed becomes a new version, known later.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

import polars as pl
from clickhouse_connect.driver.client import Client

from atlas.clickhouse import Computed, create_feature_table, read_bars, write_features
from atlas.clickhouse.values import moment
from atlas.features import FeatureSet
from atlas.market import bars_table
from atlas.schemas import ShareLimit

__all__ = ["compute_history"]

# 50 k rows of 20 features are 8 MB: bounded memory at any length of history.
CHUNK_BARS = 50_000


def compute_history(
    client: Client,
    features: FeatureSet,
    *,
    until: datetime,
    since: datetime | None = None,
    symbols: list[str] | None = None,
    on_chunk: Callable[[float], None] = lambda _: None,
    run: str = "",
    limit: ShareLimit | None = None,
) -> Computed:
    """Compute and store a feature set over `[since, until]` of every symbol's stored bars.

    Parameters
    ----------
    since : datetime or None
        The first bar's close; None starts with the oldest bar.
    symbols : list of str or None
        None takes all that have bars.
    on_chunk : callable
        Told the share of the work that is done, from 0 to 1.
    run : str
        Who computes; the quarantine tells it.
    limit : ShareLimit, optional
        The share of bad rows, of all that the run has computed so far, above which it stops.

    Raises
    ------
    TooManyBadRows
        If it does; what was written before is sound, and running again goes on from there.
    """
    create_feature_table(client, features.view, features.features)
    spans = _spans(client, features, since=since, until=until, symbols=symbols)
    step = CHUNK_BARS * features.interval.delta
    chunks = [
        (symbol, start, min(start + step, last + features.interval.delta))
        for symbol, first, last in spans
        for start in _starts(first, last, step)
    ]
    total = Computed()
    for number, (symbol, start, stop) in enumerate(chunks, 1):
        rows = _compute_chunk(client, features, symbol, start, stop)
        total += write_features(client, features, rows, run=run, limit=limit, before=total.tally)
        on_chunk(number / len(chunks))
    return total


def _spans(
    client: Client,
    features: FeatureSet,
    *,
    since: datetime | None,
    until: datetime,
    symbols: list[str] | None,
) -> list[tuple[str, datetime, datetime]]:
    wanted = "AND symbol IN {symbols:Array(String)} " if symbols is not None else ""
    earliest = "AND event_timestamp >= {since:DateTime64(6, 'UTC')} " if since is not None else ""
    rows = client.query(
        "SELECT symbol, min(event_timestamp), max(event_timestamp) "
        f"FROM {bars_table(features.interval)} "
        f"WHERE event_timestamp <= {{until:DateTime64(6, 'UTC')}} {earliest}{wanted}"
        "GROUP BY symbol ORDER BY symbol",
        parameters={
            "until": moment(until),
            "since": moment(since or until),
            "symbols": symbols or [],
        },
        column_oriented=False,
        tz_mode="aware",
    ).result_rows
    return [(str(symbol), first, last) for symbol, first, last in rows]


def _starts(first: datetime, last: datetime, step: timedelta) -> list[datetime]:
    return [first + n * step for n in range((last - first) // step + 1)]


def _compute_chunk(
    client: Client, features: FeatureSet, symbol: str, start: datetime, stop: datetime
) -> pl.DataFrame:
    after = start - features.lookback
    bars = read_bars(client, features.interval, [symbol], after=after, before=stop)
    return features.compute(bars.lazy(), since=start).collect()
