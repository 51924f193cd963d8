"""How the columns of a candle file are understood: which is which, in what unit, of what type.

Files stamp a candle's open; here it becomes the close, which is when the candle is known. A cell
that cannot be read is a fault of its row; a column that cannot be read is a fault of the file.
"""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from atlas.errors import UnreadableFile
from atlas.ingest.batch import VALUES
from atlas.market import Interval

__all__ = ["canonical_rows"]

# The first that a file has is its time; `timestamp` before `date` where an export has both.
_TIME_NAMES = ("open_time", "timestamp", "time", "date", "datetime")

# An integer is read in the unit in which it lies between 1973 and 5138: no moment of that span
# has the same number in two units. Below is no time of any market (a zero, a row counter).
_LEAST_TIME = 10**8
_SECONDS_BELOW, _MILLIS_BELOW, _MICROS_BELOW = 10**11, 10**14, 10**17

_ISO = (
    r"^(?P<day>\d{4}-\d{2}-\d{2})"
    r"(?:[T ](?P<minute>\d{2}:\d{2})(?P<second>:\d{2}(?:\.\d{1,6}0*)?)?)?"
    r" ?(?P<zone>Z|UTC|[+-]\d{2}:?\d{2})?$"
)


@dataclass(frozen=True)
class _Column:
    """Values of a column, and for each row why it has none (null where it was read)."""

    values: pl.Series
    fault: pl.Series


def canonical_rows(
    raw: pl.DataFrame,
    *,
    source: str,
    symbol: str,
    interval: Interval,
    faults: pl.Series | None = None,
) -> pl.DataFrame:
    """Return a file's rows under the names and types of bars.

    Parameters
    ----------
    raw : frame
        The file's columns under its own names; case does not matter.
    symbol : str
        Whose the rows are, where no column `symbol` says it.
    faults : series of text, optional
        Rows that are already known to be unreadable.

    Returns
    -------
    frame
        row_number (from 1), symbol, event_timestamp (the close), open, high, low, close, volume,
        fault (why the row could not be read, else null).

    Raises
    ------
    UnreadableFile
        If a column is missing, or holds values of the wrong type only.
    """
    names = _names(raw, source)
    times = _times(raw[names["time"]], source)
    numbers = {name: _numbers(raw[names[name]], source) for name in VALUES}
    symbols = _symbols(raw[names["symbol"]], source) if "symbol" in names else pl.lit(symbol)
    known = [] if faults is None else [faults]
    reasons = [*known, times.fault, *(column.fault for column in numbers.values())]
    return pl.DataFrame({"opened": times.values}).select(
        pl.int_range(1, pl.len() + 1, dtype=pl.UInt64).alias("row_number"),
        pl.Series("symbol", symbols) if isinstance(symbols, pl.Series) else symbols.alias("symbol"),
        (pl.col("opened") + interval.delta).alias("event_timestamp"),
        *(column.values.alias(name) for name, column in numbers.items()),
        pl.coalesce(reasons).alias("fault"),
    )


def _names(raw: pl.DataFrame, source: str) -> dict[str, str]:
    """Return the file's own name for each column that is needed."""
    own: dict[str, list[str]] = {}
    for name in raw.columns:
        own.setdefault(name.strip().lower().replace(" ", "_"), []).append(name)
    time = next((name for name in _TIME_NAMES if name in own), None)
    missing = [name for name in VALUES if name not in own]
    if time is None or missing:
        lacks = ([] if time else [f"a time ({', '.join(_TIME_NAMES)})"]) + missing
        raise UnreadableFile(
            f"{source}: expected columns for the time, open, high, low, close and volume; found "
            f"{', '.join(raw.columns) or 'none'}. Missing: {', '.join(lacks)}. Rename or add them."
        )
    wanted = {"time": time} | {name: name for name in (*VALUES, "symbol") if name in own}
    twice = [name for name in wanted.values() if len(own[name]) > 1]
    if twice:
        raise UnreadableFile(
            f"{source}: expected each column once; found {', '.join(twice)} more than once. Drop "
            "or rename one."
        )
    return {meaning: own[name][0] for meaning, name in wanted.items()}


def _numbers(column: pl.Series, source: str) -> _Column:
    if column.dtype.is_numeric() or column.dtype == pl.Null:
        return _Column(column.cast(pl.Float64), _no_fault(column))
    if column.dtype != pl.String:
        raise _wrong_type(column, source, "numbers")
    text = column.str.strip_chars()
    values = text.cast(pl.Float64, strict=False)
    return _Column(values, _told(column, text, values, source, "a number"))


def _symbols(column: pl.Series, source: str) -> pl.Series:
    if column.dtype not in (pl.String, pl.Categorical, pl.Enum):
        raise _wrong_type(column, source, "symbols")
    return column.cast(pl.String)


def _times(column: pl.Series, source: str) -> _Column:
    """Return when each candle opened."""
    kind = column.dtype
    if kind == pl.String:
        return _missing_told(_times_of_text(column, source))
    if kind.is_float():
        whole = column.is_null() | (column == column.floor()).fill_null(False)
        fault = pl.select(
            pl.when(~whole).then(pl.lit(f"{column.name} is not a whole number"))
        ).to_series()
        times = _times_of_integers(column.set(~whole, None).cast(pl.Int64, strict=False))
        return _missing_told(_Column(times.values, _first(fault, times.fault)))
    if kind.is_integer() or kind == pl.Null:
        return _missing_told(_times_of_integers(column.cast(pl.Int64, strict=False)))
    if kind == pl.Date:
        return _missing_told(_Column(_utc(column.cast(pl.Datetime("us"))), _no_fault(column)))
    if isinstance(kind, pl.Datetime):
        micros = column.cast(pl.Datetime("us", kind.time_zone))
        finer = (micros.cast(kind) != column).fill_null(False)
        return _missing_told(_Column(_utc(micros), _too_fine(column, finer)))
    raise _wrong_type(column, source, "times")


def _times_of_integers(numbers: pl.Series) -> _Column:
    number = pl.col("number")
    micros = (
        pl.when(number < _LEAST_TIME)
        .then(None)
        .when(number < _SECONDS_BELOW)
        .then(number * 1_000_000)
        .when(number < _MILLIS_BELOW)
        .then(number * 1_000)
        .when(number < _MICROS_BELOW)
        .then(number)
        .otherwise(number // 1_000)
    )
    fault = (
        pl.when(number < _LEAST_TIME)
        .then(pl.format(f"{numbers.name} {{}} is no time in s, ms, us or ns", number))
        .when((number >= _MICROS_BELOW) & (number % 1_000 != 0))
        .then(pl.lit(f"{numbers.name} is finer than a microsecond"))
    )
    read = pl.DataFrame({"number": numbers}).select(
        micros.cast(pl.Datetime("us", "UTC")).alias("micros"), fault.alias("fault")
    )
    return _Column(read["micros"], read["fault"])


def _times_of_text(column: pl.Series, source: str) -> _Column:
    text = column.str.strip_chars()
    integers = text.cast(pl.Int64, strict=False)
    if integers.null_count() == text.null_count():
        return _times_of_integers(integers)
    frame = pl.DataFrame({"text": text, "integer": integers})
    found = frame.select(pl.col("text").str.extract_groups(_ISO).alias("found")).unnest("found")
    zone = pl.col("zone").replace({"Z": "+0000", "UTC": "+0000"}).str.replace(":", "")
    iso = found.select(
        pl.concat_str(
            "day",
            pl.lit("T"),
            pl.col("minute").fill_null("00:00"),
            pl.col("second").fill_null(":00"),
            # A time that names no zone is UTC, like everything else here.
            zone.fill_null("+0000"),
        ).str.to_datetime("%Y-%m-%dT%H:%M:%S%.f%z", time_unit="us", strict=False)
    ).to_series()
    of_integers = _times_of_integers(integers.alias(column.name))
    values = _first(_utc(iso), of_integers.values)
    fault = _told(column, text, _first(values.cast(pl.String), of_integers.fault), source, "a time")
    return _Column(values, _first(of_integers.fault, fault))


def _utc(times: pl.Series) -> pl.Series:
    kind = times.dtype
    assert isinstance(kind, pl.Datetime)
    if kind.time_zone is None:
        return times.dt.replace_time_zone("UTC")
    return times.dt.convert_time_zone("UTC")


def _told(
    column: pl.Series, text: pl.Series, read: pl.Series, source: str, wanted: str
) -> pl.Series:
    """Return the fault of each cell with a text that could not be read."""
    written = text.str.len_bytes().fill_null(0) > 0
    unread = written & read.is_null()
    if unread.any() and not (written & ~unread).any():
        example = text.filter(unread)[0]
        raise UnreadableFile(
            f"{source}: expected {wanted} in each row of column {column.name}; found {example!r} "
            "and no row that is. Check which column is which."
        )
    shown = pl.format("{} is not {}: {}", pl.lit(column.name), pl.lit(wanted), text.str.head(40))
    return pl.select(pl.when(unread).then(shown)).to_series()


def _missing_told(times: _Column) -> _Column:
    fault = pl.select(
        pl.when(times.fault.is_not_null())
        .then(times.fault)
        .when(times.values.is_null())
        .then(pl.lit("time is missing"))
    ).to_series()
    return _Column(times.values, fault)


def _too_fine(column: pl.Series, finer: pl.Series) -> pl.Series:
    told = pl.lit(f"{column.name} is finer than a microsecond")
    return pl.select(pl.when(finer).then(told)).to_series()


def _first(one: pl.Series, other: pl.Series) -> pl.Series:
    return pl.select(pl.coalesce(one, other)).to_series()


def _no_fault(column: pl.Series) -> pl.Series:
    return pl.repeat(None, column.len(), dtype=pl.String, eager=True)


def _wrong_type(column: pl.Series, source: str, wanted: str) -> UnreadableFile:
    return UnreadableFile(
        f"{source}: expected {wanted} in column {column.name}; found {column.dtype}. Write the "
        "column with that type."
    )
