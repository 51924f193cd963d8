"""Which quarantined candles may go on: those that are read and judged to be good now."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

import orjson
import polars as pl
from clickhouse_connect.driver.client import Client

from atlas.clickhouse.quarantined_row import from_json
from atlas.clickhouse.quarantined_rows import Outcome
from atlas.errors import InvalidInput
from atlas.ingest.batch import VALUES, Batch, batch_of_frame
from atlas.ingest.columns import canonical_rows
from atlas.ingest.formats import read_rows
from atlas.ingest.load import judge, load_candles, stored_otherwise
from atlas.market import BAR_COLUMNS, Interval

__all__ = ["readmit_candles"]

_MOMENT = pl.Datetime("us", "UTC")
_KEY = {"symbol": pl.String(), "event_timestamp": _MOMENT}
_FRAME = _KEY | dict.fromkeys(VALUES, pl.Float64())
_ROWS = {"place": pl.UInt32(), **_FRAME, "fault": pl.String()}
# What the row's text has is the time cut short.
_FINER = "finer than a microsecond"


def readmit_candles(
    client: Client,
    interval: Interval,
    kept: pl.DataFrame,
    *,
    now: datetime,
    source_delay: timedelta,
) -> tuple[list[Outcome], pl.Series]:
    """Load those quarantined candles that are good now, as any other candles.

    A candle whose bar is stored with other values is replaced by that one.

    Parameters
    ----------
    kept : frame
        symbol, source, reason, row.

    Returns
    -------
    list of Outcome, series
        One for each row; and why a row is refused, null where it is not.
    """
    read = _read(kept, interval)
    rows = read.select(pl.col("place").cast(pl.UInt64).alias("row_number"), *_FRAME, "fault")
    batch = Batch("readmitted", interval, "", rows, [])
    bars, bad = judge(batch, now=now, source_delay=source_delay)
    reasons = pl.repeat(None, kept.height, dtype=pl.String, eager=True).alias("reason")
    reasons = reasons.scatter(bad["row_number"], bad["reason"])
    other = stored_otherwise(client, interval, bars)
    load = bars.join(other, on=list(_KEY), how="anti", maintain_order="left")
    if load.height:
        batch = batch_of_frame(load.select(BAR_COLUMNS), interval, source="readmitted")
        load_candles(client, batch, now=now, source_delay=source_delay)
    gone = set(read.join(other, on=list(_KEY), how="semi")["place"].to_list())
    return [
        Outcome.REFUSED
        if why is not None
        else Outcome.REPLACED
        if place in gone
        else Outcome.READMITTED
        for place, why in enumerate(reasons)
    ], reasons


def _read(kept: pl.DataFrame, interval: Interval) -> pl.DataFrame:
    """Return the rows' columns as a file's reader would, by place."""
    numbered = kept.with_columns(place=pl.int_range(pl.len(), dtype=pl.UInt32))
    parts = [
        _of_source(part, interval)
        for part in numbered.partition_by("source", "symbol", maintain_order=True)
    ]
    return pl.concat(parts).sort("place")


def _of_source(part: pl.DataFrame, interval: Interval) -> pl.DataFrame:
    source = part["source"][0]
    symbol = part["symbol"][0]
    decoded = [orjson.loads(text) for text in part["row"]]
    shapes: dict[Any, list[int]] = {}
    for number, (row, why) in enumerate(zip(decoded, part["reason"], strict=True)):
        shapes.setdefault("finer" if _FINER in why else _shape(row), []).append(number)
    found = []
    for shape, numbers in shapes.items():
        places = part["place"].gather(numbers)
        texts, rows = part["row"].gather(numbers), [decoded[number] for number in numbers]
        try:
            columns = _columns(shape, texts, rows, symbol=symbol, source=source, interval=interval)
        except (InvalidInput, ValueError, TypeError) as error:
            columns = _unread(len(numbers), str(error))
        found.append(columns.with_columns(place=places).select(list(_ROWS)).cast(_ROWS))  # type: ignore[arg-type]
    return pl.concat(found)


def _shape(row: Any) -> Any:
    """Tell rows of one layout from those of another."""
    if not isinstance(row, dict):
        return "cells"
    return "frame" if set(row) - {"known_at"} == set(_FRAME) else tuple(row)


def _columns(
    shape: Any,
    texts: Iterable[str],
    rows: list[Any],
    *,
    symbol: str,
    source: str,
    interval: Interval,
) -> pl.DataFrame:
    if shape == "finer":
        return _unread(len(rows), f"its time is {_FINER}")
    if shape == "frame":
        known = "known_at" in rows[0]
        frame = from_json(texts, _FRAME | ({"known_at": _MOMENT} if known else {}))
        return frame.with_columns(fault=pl.lit(None, pl.String))
    if shape == "cells" and not source.lower().endswith((".json", ".json.gz")):
        return _unread(len(rows), "its file's header is not kept; load the file again")
    read = read_rows(rows)
    return canonical_rows(
        read.columns, source=source, symbol=symbol, interval=interval, faults=read.faults
    )


def _unread(rows: int, why: str) -> pl.DataFrame:
    empty = pl.DataFrame(schema=_FRAME).clear(rows)
    return empty.with_columns(fault=pl.lit(why))
