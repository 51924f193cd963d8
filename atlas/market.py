"""The desk's words for market data: intervals, bars, and the names of what is kept of them.

A bar is `[open, open + interval)`. Its `event_timestamp` is its close: the moment it became known.
The interval is part of every table's, view's and model's name, so bars of two intervals never meet.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import timedelta

from atlas.errors import InvalidInput, UnknownInterval

__all__ = [
    "BAR_COLUMNS",
    "INTERVALS",
    "Interval",
    "bars_table",
    "check_symbol",
    "features_table",
    "interval_of",
    "model_name",
]

BAR_COLUMNS = ("symbol", "event_timestamp", "known_at", "open", "high", "low", "close", "volume")
"""Columns of a frame of bars, in order; prices in quote currency, volume in base units."""

_SYMBOL = re.compile(r"[A-Z0-9][A-Z0-9._-]{0,31}")


@dataclass(frozen=True, slots=True, order=True)
class Interval:
    """How long a bar is."""

    delta: timedelta
    name: str

    @property
    def micros(self) -> int:
        """Length in microseconds."""
        return self.delta // timedelta(microseconds=1)

    def __str__(self) -> str:
        return self.name


INTERVALS = tuple(
    Interval(delta, name)
    for name, delta in {
        "1m": timedelta(minutes=1),
        "5m": timedelta(minutes=5),
        "15m": timedelta(minutes=15),
        "1h": timedelta(hours=1),
        "4h": timedelta(hours=4),
        "1d": timedelta(days=1),
    }.items()
)


def interval_of(name: str) -> Interval:
    """Return the interval of that name.

    Raises
    ------
    UnknownInterval
        If Atlas keeps no tables for it.
    """
    for interval in INTERVALS:
        if interval.name == name:
            return interval
    known = ", ".join(map(str, INTERVALS))
    raise UnknownInterval(f"Expected a bar interval among {known}; found {name!r}.")


def check_symbol(symbol: str) -> str:
    """Return the symbol if it is one: capital letters, digits, `.`, `_`, `-`, at most 32."""
    if not _SYMBOL.fullmatch(symbol):
        raise InvalidInput(
            "Expected a symbol of at most 32 capital letters, digits, '.', '_' or '-', such as "
            f"BTC_USDT; found {symbol!r}."
        )
    return symbol


def bars_table(interval: Interval) -> str:
    """Return the name of the table of bars."""
    return f"bars_{interval}"


def features_table(feature_set: str, interval: Interval) -> str:
    """Return the name shared by a feature set's table and its Feast view."""
    return f"{feature_set}_{interval}"


def model_name(target: str, feature_set: str, interval: Interval) -> str:
    """Return a registered model's name, such as `direction_ohlcv_1m`."""
    return f"{target}_{feature_set}_{interval}"
