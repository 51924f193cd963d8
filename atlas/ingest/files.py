"""Which files hold candles, whose they are, and how each format is read.

A file is named `SYMBOL-INTERVAL.ext`, such as `BTC_USDT-1m.json.gz`; an exchange's archives may add
a month or a day. It is read whole: a truncated or broken file gives one error and no rows.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from atlas.errors import InvalidInput, UnreadableFile
from atlas.ingest.batch import Batch, batch_of_file
from atlas.ingest.columns import canonical_rows
from atlas.ingest.formats import Read, gunzip, read_csv, read_feather, read_json, read_parquet
from atlas.market import Interval, check_symbol, interval_of

__all__ = ["Discovery", "discover", "read_candles"]

_READERS: dict[str, Callable[[str, bytes], Read]] = {
    ".json": read_json,
    ".json.gz": lambda source, data: read_json(source, gunzip(source, data)),
    ".csv": read_csv,
    ".csv.gz": lambda source, data: read_csv(source, gunzip(source, data)),
    ".parquet": read_parquet,
    ".feather": read_feather,
    ".arrow": read_feather,
}
_NAME = re.compile(r"(?P<symbol>.+)-(?P<interval>\d+[A-Za-z]+)(?:-\d{4}-\d{2}(?:-\d{2})?)?")


@dataclass(frozen=True, slots=True)
class Discovery:
    """What a path holds: candle files by name, and what else lies there."""

    candles: tuple[Path, ...]
    passed_over: tuple[Path, ...]


def discover(path: Path) -> Discovery:
    """Find the candle files at a path: the file itself, or those in the folder (not below it).

    Whatever is in a format that Atlas reads counts as a candle file, so that a misnamed one is
    told by its error and not passed over.

    Raises
    ------
    InvalidInput
        If nothing is there, or no candle file is in the folder.
    UnreadableFile
        If it is a file of another format.
    """
    if not path.exists():
        raise InvalidInput(f"Expected a file or a folder of candles; found nothing at {path}.")
    if not path.is_dir():
        _suffix(path)
        return Discovery((path,), ())
    entries = sorted(path.iterdir())
    candles = tuple(entry for entry in entries if entry.is_file() and _is_read(entry))
    passed_over = tuple(entry for entry in entries if entry not in candles)
    if not candles:
        found = ", ".join(entry.name for entry in passed_over[:10]) or "nothing"
        raise InvalidInput(
            f"Expected candle files in {path}, such as BTC_USDT-1m.json.gz or SPY-1d.csv; found "
            f"{found}. Formats are {', '.join(_READERS)}."
        )
    return Discovery(candles, passed_over)


def read_candles(path: Path) -> Batch:
    """Read a candle file whole: freqtrade JSON or Feather, CSV or Parquet, JSON and CSV also gzip.

    The file stamps each candle's open, in UTC where it names no zone; integers may count seconds,
    milli-, micro- or nanoseconds. A column `symbol` says whose each row is; without it the file's
    name does. A row that cannot be read keeps its place, with a fault.

    Raises
    ------
    UnreadableFile
        If the file is truncated or broken, in no known format, lacks a column, has a column of the
        wrong type, or its name does not say whose candles it holds and of which interval.
    UnknownInterval
        If Atlas keeps no bars of that interval.
    """
    suffix = _suffix(path)
    symbol, interval = _identity(path, suffix)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UnreadableFile(
            f"Expected a file that can be read; found at {path}: {error.strerror}."
        ) from error
    read = _READERS[suffix](path.name, data)
    rows = canonical_rows(
        read.columns, source=path.name, symbol=symbol, interval=interval, faults=read.faults
    )
    return batch_of_file(path.name, interval, data, rows, read.original)


def _is_read(path: Path) -> bool:
    return not path.name.startswith(".") and path.name.lower().endswith(tuple(_READERS))


def _suffix(path: Path) -> str:
    for suffix in _READERS:
        if path.name.lower().endswith(suffix):
            return suffix
    raise UnreadableFile(
        f"Expected a candle file in one of the formats {', '.join(_READERS)}; found {path.name}."
    )


def _identity(path: Path, suffix: str) -> tuple[str, Interval]:
    """Return whose candles a file holds and of which interval, as its name says."""
    name = _NAME.fullmatch(path.name[: -len(suffix)])
    if name is None:
        raise UnreadableFile(
            "Expected a file name SYMBOL-INTERVAL.ext, such as BTC_USDT-1m.json.gz; found "
            f"{path.name}. Rename the file to say whose candles it holds and of which interval."
        )
    try:
        return check_symbol(name["symbol"]), interval_of(name["interval"])
    except InvalidInput as error:
        raise type(error)(f"{path.name}: {error} Rename the file if that is not so.") from error
