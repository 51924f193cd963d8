"""What a feature set is: a schema, a pure function over bars, and how far back it looks."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

import pandera.polars as pa
import polars as pl

from atlas.market import Interval, features_table
from atlas.serving import FEAST_PROJECT, ReadPlan

__all__ = ["KEY_COLUMNS", "Compute", "FeatureSet"]

KEY_COLUMNS = ("symbol", "event_timestamp", "known_at")
"""Columns of every feature frame before the features themselves."""

# A row may be served for so many bars after its own; then it is stale.
_FRESH_BARS = 5


class Compute(Protocol):
    """A pure function from bars to features."""

    def __call__(self, bars: pl.LazyFrame, *, since: datetime | None = None) -> pl.LazyFrame:
        """Return one feature row for each bar at or after `since`."""
        ...


@dataclass(frozen=True)
class FeatureSet:
    """One definition of a set of features, for history and for the live path.

    `compute` takes bars (`atlas.market.BAR_COLUMNS`, sorted by symbol and time) and returns one
    row for each bar at or after `since`: symbol, event_timestamp, known_at and the features. A
    value depends only on the bars in `(t - lookback, t]`, so a tail of that length gives the same
    bits as a year. `known_at` is the latest of those bars' own: when one of them is corrected,
    the features that it touches become new rows.
    """

    name: str
    interval: Interval
    schema: type[pa.DataFrameModel]
    compute: Compute
    lookback: timedelta
    description: str
    depth: int = 0
    """So many last rows of each symbol are kept online for sequence models; 0 is none."""

    @property
    def view(self) -> str:
        """Name of the ClickHouse table and of the Feast view."""
        return features_table(self.name, self.interval)

    @property
    def features(self) -> tuple[str, ...]:
        """Names of the features, in the schema's order."""
        names = self.schema.to_schema().columns
        return tuple(name for name in names if name not in KEY_COLUMNS)

    @property
    def ttl(self) -> timedelta:
        """Age beyond which a row is stale."""
        return _FRESH_BARS * self.interval.delta

    @property
    def plan(self) -> ReadPlan:
        """Where the rows lie in the online store."""
        return ReadPlan(
            project=FEAST_PROJECT,
            view=self.view,
            join_keys=("symbol",),
            features=self.features,
            ttl_us=self.ttl // timedelta(microseconds=1),
            depth=self.depth,
        )
