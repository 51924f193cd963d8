"""One batch of a view's latest rows: judged by the view's schema, then written as bytes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import polars as pl
import pyarrow as pa

from atlas.features import stored_views
from atlas.online.landing import Landing, packed_text
from atlas.online.materialisation.arrow_values import feature_cells, join_key_values, micros
from atlas.online.materialisation.cells import (
    Cells,
    constant_cells,
    join_rows,
    known_cells,
    timestamp_cells,
)
from atlas.online.materialisation.entity_keys import entity_keys
from atlas.online.materialisation.view_plan import ViewPlan
from atlas.schemas import ShareLimit, Split, Tally

__all__ = ["Encoded", "Judge", "encode", "pieces", "schema_of"]

# Rows encoded together: some 4 MB of 20 doubles.
_ROWS = 8_192
# What orders before every creation that is known.
_UNKNOWN = -(1 << 63)
_MOMENT = pl.Datetime("us", "UTC")


@dataclass(frozen=True, slots=True)
class Encoded:
    """Rows as the landing script takes them."""

    keys: pa.BinaryArray
    rows: pa.BinaryArray


class Judge:
    """Lets the rows of a run pass that keep their schema, and counts.

    Parameters
    ----------
    admit : callable
        Splits a frame and keeps its bad rows in quarantine.
    """

    def __init__(
        self,
        plan: ViewPlan,
        schema: Any,
        admit: Callable[[Any, pl.DataFrame], Split],
        limit: ShareLimit,
    ) -> None:
        self._plan = plan
        self._schema = schema
        self._admit = admit
        self._limit = limit
        self.tally = Tally()

    def passed(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Return the good rows of a batch; the bad ones are in quarantine.

        Raises
        ------
        TooManyBadRows
            If the run has met more of them than allowed.
        """
        names = [column.name for column in (*self._plan.keys, *self._plan.features)]
        frame = pl.from_arrow(
            pa.Table.from_batches([batch]).rename_columns([*names, "event_timestamp", "known_at"])
        )
        assert isinstance(frame, pl.DataFrame)
        ordered = frame.select(
            "symbol",
            pl.col("event_timestamp", "known_at").cast(_MOMENT),
            *(feature.name for feature in self._plan.features),
        )
        split = self._admit(self._schema, ordered)
        self.tally += Tally.of(split)
        self._limit.judge(self.tally, view=self._plan.name, border="online")
        if split.bad.is_empty():
            return batch
        if split.good.is_empty():
            return batch.slice(0, 0)
        good = split.good.select(*names, "event_timestamp", "known_at").to_arrow()
        return good.combine_chunks().to_batches()[0]


def schema_of(plan: ViewPlan) -> Any | None:
    """Return the schema of a view that Atlas computes; None for any other view."""
    for features in stored_views():
        if (
            features.view == plan.name
            and tuple(features.kinds) == tuple(feature.name for feature in plan.features)
            and [key.name for key in plan.keys] == ["symbol"]
            and plan.created
        ):
            return features.schema
    return None


def pieces(batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    """Cut a batch so that the bytes made of it stay few."""
    for start in range(0, batch.num_rows, _ROWS):
        yield batch.slice(start, _ROWS)


def encode(plan: ViewPlan, landing: Landing, batch: pa.RecordBatch) -> Encoded:
    """Write rows as bytes; the columns are those of `latest_rows_query`.

    Raises
    ------
    InvalidInput
        If a value does not fit its declared type.
    """
    n = batch.num_rows
    columns = iter(batch.columns)
    keys = {
        key.name: (
            join_key_values(key.name, next(columns), key.type_name, where=plan.where(key)),
            key.type_name,
        )
        for key in plan.keys
    } or {key.name: (pa.array([""] * n), "STRING") for key in plan.all_keys}
    features = [
        feature_cells(feature.name, next(columns), feature.type_name, where=plan.where(feature))
        for feature in plan.features
    ]
    event_us = micros(next(columns), missing=0)
    known_us = micros(next(columns), missing=_UNKNOWN) if plan.created else event_us
    values = (timestamp_cells(event_us), known_cells(known_us), *features)
    parts: list[Cells | pa.BinaryArray] = []
    for field, value in zip(landing.fields, values, strict=True):
        parts += [constant_cells(n, packed_text(field)), value]
    return Encoded(entity_keys(keys, plan.project), join_rows(parts))
