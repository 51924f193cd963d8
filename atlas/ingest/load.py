"""How candles enter ClickHouse: judged, compared with what is stored, and added as new versions.

A bar that is new is known at its close plus the source's delay. A bar that is stored with other
values is a correction: a new row with the same close, known from now. Nothing is updated in place.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
from clickhouse_connect.driver.client import Client

from atlas.clickhouse import latest_bars
from atlas.clickhouse.appends import append_missing
from atlas.clickhouse.values import frame_of, moment
from atlas.errors import InvalidInput
from atlas.ingest.batch import VALUES, Batch
from atlas.ingest.files import read_candles
from atlas.ingest.ledger import Span, record
from atlas.ingest.quarantine import quarantine
from atlas.ingest.store import reaching
from atlas.market import BAR_COLUMNS, Interval
from atlas.schemas import ShareLimit, Split, Tally, candles_at, find_faults
from atlas.telemetry import get_logger

__all__ = ["LoadReport", "judge", "load_candles", "stored_otherwise"]

log = get_logger(__name__)

# One block is taken whole or not at all; 100 k bars are 8 MB.
_BLOCK_BARS = 100_000
_MICROSECOND = timedelta(microseconds=1)
_KEY = ["symbol", "event_timestamp"]
_AMBIGUOUS = "different candles of one bar in one load"


@dataclass(frozen=True, slots=True)
class LoadReport:
    """What a load did, in rows; `first` and `last` are closes of good bars.

    `unchanged` counts bars stored already with the same values, and repetitions in the source.
    `reasons` counts the quarantined rows by why, most frequent first.
    """

    source: str
    interval: Interval
    symbols: tuple[str, ...]
    rows_read: int
    inserted: int
    corrected: int
    unchanged: int
    quarantined: int
    first: datetime | None
    last: datetime | None
    reasons: tuple[tuple[str, int], ...]

    @property
    def symbol(self) -> str:
        """The symbol; several, separated by commas, where the source holds several."""
        return ", ".join(self.symbols)


def load_candles(
    client: Client,
    candles: Batch | Path,
    *,
    now: datetime,
    source_delay: timedelta = timedelta(0),
    limit: ShareLimit | None = None,
) -> LoadReport:
    """Store a batch or a file of candles: bad rows in quarantine, good ones in the bars table.

    The source is read and judged whole before anything is written, and the ledger row comes last.
    A load that was killed is finished by running it again; the same file may be loaded by two at
    once.

    Parameters
    ----------
    now : datetime
        The project's time: no candle closes after it, and a correction is known from it.
    source_delay : timedelta
        How long after its close a bar of this source is known.
    limit : ShareLimit, optional
        The share of bad rows above which nothing of the source is stored; none if not given.

    Raises
    ------
    UnreadableFile
        If the file cannot be read; nothing is stored.
    TooManyBadRows
        If the share of bad rows is above the limit; they are in quarantine, no bar is stored and
        the ledger has no entry.
    StoreUnavailable
        If ClickHouse does not answer or refuses; run the load again.
    """
    if now.tzinfo is None or source_delay < timedelta(0):
        raise InvalidInput(
            "Expected a time with a zone and a delay of zero or more; found "
            f"now={now.isoformat()}, source_delay={source_delay}."
        )
    now = now.astimezone(UTC)
    batch = read_candles(candles) if isinstance(candles, Path) else candles
    good, bad = judge(batch, now=now, source_delay=source_delay)
    span = _span(good)
    tally = Tally.of(Split(good, bad))
    with reaching(f"the candles of {batch.source}"):
        quarantine(client, batch, bad)
        if limit is not None:
            limit.judge(tally, view=batch.table, border=f"ingest ({batch.source})")
        for symbol, bars in _blocks(good):
            _append(client, batch, symbol, bars, now=now)
        changed = record(client, batch, quarantined=bad.height, span=span)
    report = LoadReport(
        source=batch.source,
        interval=batch.interval,
        symbols=span.symbols if span else tuple(batch.rows["symbol"].drop_nulls().unique().sort()),
        rows_read=batch.rows.height,
        inserted=changed.inserted,
        corrected=changed.corrected,
        unchanged=changed.unchanged(batch, bad.height),
        quarantined=bad.height,
        first=span.first if span else None,
        last=span.last if span else None,
        reasons=tally.reasons,
    )
    log.info(
        "candles_loaded",
        source=report.source,
        read=report.rows_read,
        inserted=report.inserted,
        corrected=report.corrected,
        unchanged=report.unchanged,
        quarantined=report.quarantined,
    )
    return report


def judge(
    batch: Batch, *, now: datetime, source_delay: timedelta
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return good bars, each once and in order, and bad rows (row_number, reason)."""
    rows = batch.rows.with_columns(known_at=pl.col("event_timestamp") + source_delay)
    broken = find_faults(candles_at(batch.interval, now=now), rows.select(BAR_COLUMNS))
    rows = rows.with_columns(pl.coalesce("fault", broken).alias("reason"))
    bad = rows.filter(pl.col("reason").is_not_null()).select("row_number", "reason")
    bars = rows.filter(pl.col("reason").is_null()).select("row_number", *BAR_COLUMNS).sort(_KEY)
    repeated = _same_bar(bars)
    if repeated.any():
        ambiguous = _ambiguous(bars)
        told = bars.filter(ambiguous).select("row_number", reason=pl.lit(_AMBIGUOUS))
        bad = pl.concat([bad, told])
        bars = bars.filter(~ambiguous & ~repeated)
    return bars.select(BAR_COLUMNS), bad.sort("row_number")


def _same_bar(bars: pl.DataFrame) -> pl.Series:
    """Tell for each row, in order of the key, whether the row before has the same key."""
    same = pl.all_horizontal(pl.col(name) == pl.col(name).shift() for name in _KEY)
    return bars.select(same.fill_null(False)).to_series()


def _ambiguous(bars: pl.DataFrame) -> pl.Series:
    """Tell for each row whether another row of the same bar has other values."""
    values = bars.select(*_KEY, *(_bits(bars[name]) for name in VALUES))
    other = pl.any_horizontal((pl.col(name) != pl.col(name).first()) for name in VALUES)
    return values.select(other.any().over(_KEY)).to_series()


def _blocks(bars: pl.DataFrame) -> Iterator[tuple[str, pl.DataFrame]]:
    """Yield bars by symbol, in blocks that ClickHouse takes whole."""
    for of_symbol in bars.partition_by("symbol", maintain_order=True):
        for block in of_symbol.iter_slices(_BLOCK_BARS):
            yield block["symbol"][0], block


def _append(
    client: Client, batch: Batch, symbol: str, bars: pl.DataFrame, *, now: datetime
) -> None:
    """Add those bars of one symbol that are new, or stored with other values."""

    def look() -> tuple[int, pa.Table]:
        counted = client.query(
            f"SELECT count() FROM `{batch.table}` WHERE symbol = {{symbol:String}}",
            parameters={"symbol": symbol},
        ).result_rows[0][0]
        changed = _changed(bars, _stored(client, batch.interval, symbol, bars), now=now)
        return int(counted), changed.with_columns(load_id=pl.lit(batch.load_id)).to_arrow()

    append_missing(client, batch.table, symbol, look)


def _stored(client: Client, interval: Interval, symbol: str, bars: pl.DataFrame) -> pl.DataFrame:
    """Return the newest versions of the bars in the time that `bars` span."""
    where = (
        "symbol = {symbol:String} AND event_timestamp >= {first:DateTime64(6, 'UTC')} "
        "AND event_timestamp <= {last:DateTime64(6, 'UTC')}"
    )
    table = client.query_arrow(
        latest_bars(interval, where),
        parameters={
            "symbol": symbol,
            "first": moment(bars["event_timestamp"][0]),
            "last": moment(bars["event_timestamp"][-1]),
        },
        use_strings=True,
    )
    return frame_of(table)


def stored_otherwise(client: Client, interval: Interval, bars: pl.DataFrame) -> pl.DataFrame:
    """Return symbol and event_timestamp of the bars that are stored with other values."""
    stretch = pl.col("event_timestamp").to_physical() // (_BLOCK_BARS * interval.micros)
    found = [bars.select(_KEY).clear()]
    for part in bars.with_columns(stretch=stretch).partition_by("symbol", "stretch"):
        near = part.drop("stretch").sort(_KEY)
        stored = _stored(client, interval, near["symbol"][0], near)
        both = near.join(stored.select(*_KEY, *VALUES), on=_KEY, suffix="_stored")
        same = pl.all_horizontal(
            _bits(both[name]) == _bits(both[f"{name}_stored"]) for name in VALUES
        )
        found.append(both.filter(~same).select(_KEY))
    return pl.concat(found)


def _changed(bars: pl.DataFrame, stored: pl.DataFrame, *, now: datetime) -> pl.DataFrame:
    """Return bars that are not stored, and as later versions those whose values differ."""
    joined = bars.join(stored, on=_KEY, how="left", suffix="_stored", maintain_order="left")
    same = pl.all_horizontal(
        # Bit by bit: 0.0 and -0.0 are two values, and a NaN that somebody stored is one.
        _bits(joined[name]) == _bits(joined[f"{name}_stored"])
        for name in VALUES
    )
    former = pl.col("known_at_stored")
    corrected_at = pl.max_horizontal(pl.lit(now, pl.Datetime("us", "UTC")), former + _MICROSECOND)
    return joined.filter(former.is_null() | ~same).select(
        *_KEY,
        pl.when(former.is_null()).then("known_at").otherwise(corrected_at).alias("known_at"),
        *VALUES,
    )


def _bits(values: pl.Series) -> pl.Series:
    """Return the bits of float64 values as integers."""
    return pl.Series(values.name, values.fill_null(0.0).to_numpy().view(np.int64))


def _span(bars: pl.DataFrame) -> Span | None:
    if bars.is_empty():
        return None
    times = bars["event_timestamp"]
    first, last = times.min(), times.max()
    assert isinstance(first, datetime)
    assert isinstance(last, datetime)
    return Span(tuple(bars["symbol"].unique().sort()), first, last)
