"""What every view of features has, however it is computed: a name, a schema, a table, an age."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property
from types import MappingProxyType

import pandera.polars as pa
import polars as pl

from atlas.market import Interval, features_table
from atlas.serving import FEAST_PROJECT, ReadPlan, ValueKind

__all__ = ["KEY_COLUMNS", "StoredView"]

KEY_COLUMNS = ("symbol", "event_timestamp", "known_at")
"""Columns of every feature frame before the features themselves."""

# A row may be served for so many bars after its own; then it is stale.
_FRESH_BARS = 5
_KINDS = MappingProxyType(
    {
        pl.Float64: ValueKind.DOUBLE,
        pl.Int32: ValueKind.INT32,
        pl.String: ValueKind.STRING,
    }
)


@dataclass(frozen=True, kw_only=True)
class StoredView:
    """One view of features: a ClickHouse table, a Feast view and what its rows may be."""

    name: str
    interval: Interval
    schema: type[pa.DataFrameModel]
    description: str
    depth: int = 0
    """So many last rows of each symbol are kept online for sequence models; 0 is none."""

    @property
    def view(self) -> str:
        """Name of the ClickHouse table and of the Feast view."""
        return features_table(self.name, self.interval)

    @cached_property
    def kinds(self) -> Mapping[str, ValueKind]:
        """All columns after the keys, in the schema's order, and what each one holds."""
        columns = self.schema.to_schema().columns
        return MappingProxyType(
            {
                name: _KINDS[column.dtype.type]
                for name, column in columns.items()
                if name not in KEY_COLUMNS
            }
        )

    @cached_property
    def features(self) -> tuple[str, ...]:
        """Names of the columns that a model may take: the numbers, in the schema's order."""
        return tuple(name for name, kind in self.kinds.items() if kind is not ValueKind.STRING)

    @property
    def ttl(self) -> timedelta:
        """Age beyond which a row is stale."""
        return _FRESH_BARS * self.interval.delta

    @property
    def plan(self) -> ReadPlan:
        """Where the rows lie in the online store, with all their columns."""
        kinds = self.kinds
        return ReadPlan(
            project=FEAST_PROJECT,
            view=self.view,
            join_keys=("symbol",),
            features=tuple(kinds),
            kinds=tuple(kinds.values()),
            ttl_us=self.ttl // timedelta(microseconds=1),
            depth=self.depth,
        )
