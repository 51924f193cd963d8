"""How a bad row is written down: JSON that can be read back exactly.

JSON has no infinity, no NaN and no time, so these are text; the schema's type tells them from text.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime
from typing import Any

import orjson
import polars as pl

__all__ = ["as_json", "from_json"]


def as_json(row: Any) -> str:
    """Write a row, or its cells, as JSON: floats to the last bit, times to the microsecond."""
    return orjson.dumps(_plain(row), default=str).decode()


def from_json(rows: Iterable[str], columns: Mapping[str, Any]) -> pl.DataFrame:
    """Read rows that `as_json` wrote.

    Parameters
    ----------
    columns : mapping
        Name and Polars type of each column.

    Raises
    ------
    ValueError
        If a text is no JSON object, lacks a column, has another one or a value of another type.
    """
    found = [_checked(orjson.loads(text), columns) for text in rows]
    return pl.DataFrame(
        {
            name: pl.Series(name, [_typed(row[name], kind) for row in found], kind, strict=True)
            for name, kind in columns.items()
        },
        schema=dict(columns),
    )


def _checked(row: Any, columns: Mapping[str, Any]) -> dict[str, Any]:
    if not isinstance(row, dict) or set(row) != set(columns):
        names = ", ".join(row) if isinstance(row, dict) else type(row).__name__
        raise ValueError(f"Expected the columns {', '.join(columns)}; found {names}.")
    return row


def _typed(value: Any, kind: pl.DataType) -> Any:
    if value is None:
        return None
    if kind in (pl.Float64, pl.Float32):
        return float(value)
    if kind == pl.Datetime:
        moment = datetime.fromisoformat(value)
        aware = getattr(kind, "time_zone", None) is not None
        return moment.astimezone(UTC) if aware else moment
    if kind == pl.Date:
        return date.fromisoformat(value)
    return value


def _plain(value: Any) -> Any:
    """Return a value that JSON can hold."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, datetime | date):
        return value.isoformat()
    if isinstance(value, bytes):
        return value.hex()
    return value
