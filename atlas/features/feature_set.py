"""What a feature set is: a schema, a pure function over bars, and how far back it looks."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

import polars as pl

from atlas.features.stored_view import StoredView

__all__ = ["Compute", "FeatureSet"]


class Compute(Protocol):
    """A pure function from bars to features."""

    def __call__(self, bars: pl.LazyFrame, *, since: datetime | None = None) -> pl.LazyFrame:
        """Return one feature row for each bar at or after `since`."""
        ...


@dataclass(frozen=True, kw_only=True)
class FeatureSet(StoredView):
    """One definition of a set of features, for history and for the live path.

    `compute` takes bars (`atlas.market.BAR_COLUMNS`, sorted by symbol and time) and returns one
    row for each bar at or after `since`: symbol, event_timestamp, known_at and the features. A
    value depends only on the bars in `(t - lookback, t]`, so a tail of that length gives the same
    bits as a year. `known_at` is the latest of those bars' own: when one of them is corrected,
    the features that it touches become new rows.
    """

    compute: Compute
    lookback: timedelta
