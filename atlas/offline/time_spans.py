"""The SQL conditions of a span of time, also where its ends lie beyond ClickHouse's moments."""

from __future__ import annotations

from datetime import UTC, date, datetime, time
from typing import Any

import pandas as pd

from atlas.clickhouse import sql
from atlas.errors import InvalidInput

__all__ = ["bound_of", "not_after", "not_before", "within"]

# Between the first and the last moment that SQL can write, to tell which of them a time is beyond.
_MIDDLE_YEAR = 1970


def bound_of(name: str, bound: Any) -> datetime | None:
    """Return a bound that a caller gave as `name`; a date is its midnight in UTC.

    Raises
    ------
    InvalidInput
        If it is neither a moment nor a date.
    """
    if bound is None or (isinstance(bound, datetime) and bound is not pd.NaT):
        return bound
    if isinstance(bound, date) and bound is not pd.NaT:
        return datetime.combine(bound, time(), UTC)
    raise InvalidInput(
        f"Expected {name} to be a datetime or a date; found {bound!r}. Convert it, for example "
        "with datetime.fromisoformat(…)."
    )


def within(time: str, start: datetime | None, end: datetime | None) -> list[str]:
    """Return the conditions that a time column lies in `[start, end]`, to the microsecond."""
    return [f"{time} IS NOT NULL", *not_before(time, start), *not_after(time, end)]


def not_before(time: str, start: datetime | None) -> list[str]:
    """Return the condition of the span's begin; none if it has none."""
    if start is None:
        return []
    if bound := sql.moment(start):
        return [f"{time} >= {bound}"]
    return [] if start.year < _MIDDLE_YEAR else ["0"]


def not_after(time: str, end: datetime | None) -> list[str]:
    """Return the condition of the span's end; none if it has none."""
    if end is None:
        return []
    if bound := sql.moment(end):
        return [f"{time} <= {bound}"]
    return ["0"] if end.year < _MIDDLE_YEAR else []
