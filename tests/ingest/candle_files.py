"""Writes candle files for tests: the same few candles in every format."""

import gzip
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl

OPENED = datetime(2021, 6, 10, 13, 36, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
NAMES = ("open", "high", "low", "close", "volume")

# As freqtrade writes them: open time in milliseconds, then the candle.
ROWS = [
    [1623332160000, 37552.9, 37633.9, 37552.15, 37630.95, 50.758334],
    [1623332220000, 37629.32, 37712.23, 37623.65, 37647.0, 103.848926],
    [1623332280000, 37647.0, 37682.54, 37608.94, 37671.05, 42],
    [1623332340000, 37672.98, 37689.99, 37638.82, 37662.1, 0.1 + 0.2],
]
CLOSES = [OPENED + MINUTE * (place + 1) for place in range(len(ROWS))]


def candles(rows=ROWS):
    """The rows as a frame with the open's time, as a user's own export might have it."""
    frame = pl.DataFrame(rows, schema=["date", *NAMES], orient="row")
    return frame.with_columns(
        pl.from_epoch("date", time_unit="ms").dt.replace_time_zone("UTC"),
        pl.col(NAMES).cast(pl.Float64),
    )


def write_json(folder: Path, name: str, rows=ROWS) -> Path:
    path = folder / name
    data = json.dumps(rows).encode()
    path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    return path


def write_text(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text)
    return path


def csv_text(rows=ROWS, *, header: str = "time,open,high,low,close,volume") -> str:
    return "\n".join([header, *(",".join(map(str, row)) for row in rows)]) + "\n"


def write_parquet(folder: Path, name: str, frame: pl.DataFrame) -> Path:
    path = folder / name
    frame.write_parquet(path)
    return path


def write_feather(folder: Path, name: str, frame: pl.DataFrame, **options) -> Path:
    path = folder / name
    frame.write_ipc(path, **options)
    return path
