"""How values are written into ClickHouse parameters, and results read back."""

from __future__ import annotations

from datetime import UTC, datetime

import polars as pl
import pyarrow as pa

__all__ = ["frame_of", "moment"]


def moment(value: datetime) -> str:
    """Return a moment as a DateTime64(6, 'UTC') parameter."""
    return value.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S.%f")


def frame_of(table: pa.Table) -> pl.DataFrame:
    """Return rows keyed by symbol and time, with text symbols and UTC times in microseconds."""
    frame = pl.from_arrow(table)
    assert isinstance(frame, pl.DataFrame)
    return frame.with_columns(
        pl.col("symbol").cast(pl.String),
        pl.col("event_timestamp", "known_at").cast(pl.Datetime("us", "UTC")),
    )
