"""What one load carries: the candles of a file or a frame, as read and before they are judged."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
import polars as pl

from atlas.clickhouse import content_token
from atlas.clickhouse.quarantined_row import as_json
from atlas.errors import InvalidInput
from atlas.market import BAR_COLUMNS, Interval, bars_table

__all__ = ["VALUES", "Batch", "batch_of_file", "batch_of_frame"]

VALUES = ("open", "high", "low", "close", "volume")
"""The columns of a candle beside its key."""


@dataclass(frozen=True)
class Batch:
    """Candles of one source; the same content under the same name has the same `load_id`.

    `rows` has one row for each row of the source, in its order: row_number (from 1), symbol,
    event_timestamp (the close), open, high, low, close, volume, and `fault`: why the row could not
    be read, or null.
    """

    source: str
    interval: Interval
    load_id: str
    rows: pl.DataFrame
    original: Sequence[Any] | pl.DataFrame

    @property
    def table(self) -> str:
        """Name of the table that the candles belong in."""
        return bars_table(self.interval)

    def as_read(self, row_numbers: Sequence[int]) -> list[str]:
        """Return rows as the source has them, as JSON."""
        if isinstance(self.original, pl.DataFrame):
            wanted = self.original[[number - 1 for number in row_numbers]]
            return [as_json(row) for row in wanted.iter_rows(named=True)]
        return [as_json(self.original[number - 1]) for number in row_numbers]


def batch_of_file(
    source: str,
    interval: Interval,
    data: bytes,
    rows: pl.DataFrame,
    original: Sequence[Any] | pl.DataFrame,
) -> Batch:
    """Make the batch of a file whose bytes are `data`."""
    return Batch(source, interval, _load_id(source, interval, [data]), rows, original)


def batch_of_frame(frame: pl.DataFrame, interval: Interval, *, source: str) -> Batch:
    """Make a batch of a frame of bars.

    Parameters
    ----------
    frame : frame
        With `atlas.market.BAR_COLUMNS`; `event_timestamp` is the close. A `known_at` is allowed and
        not read: when a bar became known is for the load to say.
    source : str
        What the ledger and the quarantine call it.

    Raises
    ------
    InvalidInput
        If a column is missing or of another type.
    """
    kinds = {
        "symbol": pl.String(),
        "event_timestamp": pl.Datetime("us", "UTC"),
        **dict.fromkeys(VALUES, pl.Float64()),
    }
    found = frame.schema
    wrong = [f"{name} {kind}" for name, kind in kinds.items() if found.get(name) != kind]
    if wrong:
        raise InvalidInput(
            f"Expected a frame of bars with {', '.join(wrong)}; found "
            f"{', '.join(f'{name} {kind}' for name, kind in found.items())}."
        )
    original = frame.select(name for name in BAR_COLUMNS if name in frame.columns)
    rows = original.select(
        pl.int_range(1, pl.len() + 1, dtype=pl.UInt64).alias("row_number"),
        *kinds,
        pl.lit(None, pl.String).alias("fault"),
    )
    return Batch(source, interval, _load_id(source, interval, _parts(rows)), rows, original)


def _load_id(source: str, interval: Interval, content: Iterable[bytes]) -> str:
    return content_token([bars_table(interval), source, *content])


def _parts(rows: pl.DataFrame) -> Iterator[bytes]:
    """Yield what tells one frame from another."""
    for name in ("event_timestamp", *VALUES):
        column = rows[name].to_physical()
        yield column.fill_null(0).to_numpy().tobytes()
        yield column.is_null().to_numpy().tobytes()
    yield orjson.dumps(rows["symbol"].to_list())
