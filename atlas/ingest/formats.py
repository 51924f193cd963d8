"""How the bytes of a candle file become columns: one reader a format, all of them whole or none."""

from __future__ import annotations

import csv
import gc
import gzip
import io
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import orjson
import polars as pl
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet

from atlas.errors import UnreadableFile

__all__ = ["Read", "gunzip", "read_csv", "read_feather", "read_json", "read_parquet", "read_rows"]

_CANDLE = ("time", "open", "high", "low", "close", "volume")
# Binance's archives have these twelve columns and, before 2025, no header.
_KLINE = (
    "open_time",
    "open",
    "high",
    "low",
    "close",
    "volume",
    "close_time",
    "quote_volume",
    "trades",
    "taker_buy_volume",
    "taker_buy_quote_volume",
    "ignore",
)
_LAYOUTS = {len(_CANDLE): _CANDLE, len(_KLINE): _KLINE}


@dataclass(frozen=True)
class Read:
    """A file's columns, its rows as it has them, and why a row has no columns (null where it has).

    `original` is the rows themselves, or the columns where the two are the same.
    """

    columns: pl.DataFrame
    original: Sequence[Any] | pl.DataFrame
    faults: pl.Series | None = None


def gunzip(source: str, data: bytes) -> bytes:
    """Return what gzip packed."""
    try:
        return gzip.decompress(data)
    except EOFError as error:
        raise UnreadableFile(
            f"{source}: expected a whole gzip file; found one that ends early, after {len(data)} "
            "bytes. Fetch it again."
        ) from error
    except (gzip.BadGzipFile, zlib.error) as error:
        raise UnreadableFile(
            f"{source}: expected gzip data; found: {error}. Fetch the file again, or drop '.gz' "
            "from its name if it is not packed."
        ) from error


def read_json(source: str, data: bytes) -> Read:
    """Read freqtrade's JSON: a list of `[open_ms, open, high, low, close, volume]`.

    Binance's lists of twelve are read as well; their prices are text.
    """
    try:
        with _collector_paused():
            rows = orjson.loads(data)
            columns = _plain_columns(rows)
    except orjson.JSONDecodeError as error:
        raise UnreadableFile(
            f"{source}: expected whole JSON; found {len(data)} bytes that break off or break the "
            f"rules ({error}). Fetch the file again."
        ) from error
    if not isinstance(rows, list) or (rows and not any(isinstance(row, list) for row in rows)):
        found = (
            f"a list whose first item is {_kind(rows[0])}"
            if isinstance(rows, list)
            else _kind(rows)
        )
        raise UnreadableFile(
            f"{source}: expected a list of [open_ms, open, high, low, close, volume]; found "
            f"{found}. Export the candles as freqtrade's JSON, CSV or Parquet."
        )
    return _uneven(rows) if columns is None else Read(columns, columns)


def read_rows(rows: list[Any]) -> Read:
    """Read rows that were kept as JSON: all freqtrade's or Binance's lists, or all objects."""
    if not isinstance(rows[0], dict):
        return _uneven(rows)
    frame = pl.DataFrame(
        [pl.Series(name, [_text(row[name]) for row in rows], dtype=pl.String) for name in rows[0]]
    )
    return Read(frame, rows)


def read_csv(source: str, data: bytes) -> Read:
    """Read comma-separated text with a header; Binance's twelve columns need none."""
    body = data.removeprefix(b"\xef\xbb\xbf").lstrip(b"\r\n")
    try:
        text = body.decode()
    except UnicodeDecodeError as error:
        raise UnreadableFile(
            f"{source}: expected comma-separated text in UTF-8; found other bytes at "
            f"{error.start}. Save the file as UTF-8."
        ) from error
    if not text.strip():
        raise UnreadableFile(f"{source}: expected a header and candles; found an empty file.")
    names = _header(source, next(csv.reader(io.StringIO(text))))
    try:
        frame = pl.read_csv(
            io.BytesIO(body),
            has_header=names is None,
            new_columns=names,
            infer_schema=False,
        )
    except pl.exceptions.PolarsError:
        return _ragged(source, text, names)
    # A blank line is no row.
    frame = frame.filter(~pl.all_horizontal(pl.all().is_null()))
    return Read(frame, frame)


def read_parquet(source: str, data: bytes) -> Read:
    """Read a Parquet file."""
    return _of_arrow(source, "Parquet", pyarrow.parquet.read_table, data)


def read_feather(source: str, data: bytes) -> Read:
    """Read a Feather file, which is an Arrow IPC file."""
    return _of_arrow(source, "Feather", pyarrow.feather.read_table, data)


def _of_arrow(source: str, kind: str, read: Callable[[Any], pa.Table], data: bytes) -> Read:
    try:
        table = read(pa.BufferReader(data))
        # Damaged text passes the reader, and would end the process in polars.
        table.validate(full=True)
        frame = pl.from_arrow(table.replace_schema_metadata(None))
    except (pa.ArrowException, OSError, ValueError, pl.exceptions.PanicException) as error:
        raise _broken(source, kind, error) from error
    assert isinstance(frame, pl.DataFrame)
    return Read(frame, frame)


def _broken(source: str, kind: str, error: BaseException) -> UnreadableFile:
    reason = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
    return UnreadableFile(
        f"{source}: expected a whole {kind} file; found: {reason}. Fetch or write the file again."
    )


@contextmanager
def _collector_paused() -> Iterator[None]:
    """Keep Python from searching for garbage among the rows that are being made.

    A month of minutes is 43 k lists, each of them alive: looking through them again and again is
    three quarters of the time that it takes to read them.
    """
    paused = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if paused:
            gc.enable()


def _plain_columns(rows: Any) -> pl.DataFrame | None:
    """Return the columns of a list of rows of six numbers; None if anything is something else."""
    if not isinstance(rows, list):
        return None
    if not rows:
        return pl.DataFrame(schema=dict.fromkeys(_CANDLE, pl.Float64))
    # Kinds and lengths first: numbers that are not would be turned into some by the next step.
    if set(map(type, rows)) != {list} or set(map(len, rows)) != {len(_CANDLE)}:
        return None
    columns = list(zip(*rows, strict=True))
    if set(map(type, columns[0])) != {int} or max(columns[0]) >= 2**63:
        return None
    if any(not set(map(type, column)) <= {int, float} for column in columns[1:]):
        return None
    kinds = [pl.Int64(), *[pl.Float64()] * (len(_CANDLE) - 1)]
    return pl.DataFrame(
        [
            pl.Series(name, column, dtype=kind, strict=False)
            for name, column, kind in zip(_CANDLE, columns, kinds, strict=True)
        ]
    )


def _uneven(rows: list[Any]) -> Read:
    """Return the cells of rows as text, which the columns' readers judge one by one."""
    whole = [isinstance(row, list) and len(row) in _LAYOUTS for row in rows]
    cells = [row if fits else [None] * len(_CANDLE) for row, fits in zip(rows, whole, strict=True)]
    frame = pl.DataFrame(
        [
            pl.Series(name, [_text(row[place]) for row in cells], dtype=pl.String)
            for place, name in enumerate(_CANDLE)
        ]
    )
    faults = [None if fits else _misfit(row) for row, fits in zip(rows, whole, strict=True)]
    return Read(frame, rows, pl.Series(faults, dtype=pl.String))


def _text(cell: Any) -> str | None:
    if cell is None or isinstance(cell, str):
        return cell
    # `repr` of a number reads back as the same number.
    return repr(cell) if isinstance(cell, int | float) and not isinstance(cell, bool) else f"{cell}"


def _misfit(row: Any) -> str:
    found = f"{len(row)} values" if isinstance(row, list) else _kind(row)
    return f"expected 6 values, found {found}"


def _kind(value: Any) -> str:
    kinds = {dict: "an object", str: "text", type(None): "null", bool: "a truth value"}
    return kinds.get(type(value), "a number")


def _header(source: str, first: list[str]) -> list[str] | None:
    """Return the names of a file that has no header, None if its first line is one."""
    if not all(_is_number(cell) for cell in first):
        names = [cell.strip().lower() for cell in first]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise UnreadableFile(
                f"{source}: expected each column once; found {', '.join(twice)} more than once. "
                "Drop or rename one."
            )
        return None
    if len(first) != len(_KLINE):
        raise UnreadableFile(
            f"{source}: expected a header line (time, open, high, low, close, volume), or "
            f"Binance's {len(_KLINE)} columns without one; found {len(first)} numbers. Add a "
            "header."
        )
    return list(_KLINE)


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _ragged(source: str, text: str, names: list[str] | None) -> Read:
    """Read text with lines of too few or too many cells: those are faults of their rows."""
    try:
        lines = [line for line in csv.reader(io.StringIO(text)) if any(line)]
    except csv.Error as error:
        raise UnreadableFile(
            f"{source}: expected comma-separated text; found a line that is not: {error}. Fetch "
            "or write the file again."
        ) from error
    header, lines = (lines[0], lines[1:]) if names is None else (names, lines)
    cells = [line if len(line) == len(header) else [None] * len(header) for line in lines]
    frame = pl.DataFrame(cells, schema=dict.fromkeys(header, pl.String), orient="row")
    faults = [
        None
        if len(line) == len(header)
        else f"expected {len(header)} values, found {len(line)} values"
        for line in lines
    ]
    return Read(frame, lines, pl.Series(faults, dtype=pl.String))
