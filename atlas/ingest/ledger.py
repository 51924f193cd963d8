"""The ledger of loads: what each content put into a table, counted in the table itself.

A bar carries the `load_id` that brought it, as lineage. A load's count is what the table holds
under its name less what the ledger already says, so that a load killed between its rows and its
ledger row is counted by the run that finishes it, and two runs at once are counted once.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import pyarrow as pa
from clickhouse_connect.driver.client import Client

from atlas.clickhouse.appends import append_missing
from atlas.clickhouse.values import moment
from atlas.ingest.batch import Batch

__all__ = ["Changes", "Span", "record"]

_MOMENT = pa.timestamp("us", tz="UTC")
_LOADS = pa.schema(
    [
        ("load_id", pa.string()),
        ("source", pa.string()),
        ("table_name", pa.string()),
        *[
            (name, pa.uint64())
            for name in ("rows_read", "inserted", "corrected", "unchanged", "quarantined")
        ],
        ("first_event", _MOMENT),
        ("last_event", _MOMENT),
    ]
)


@dataclass(frozen=True, slots=True)
class Changes:
    """Rows that a load added: first versions of bars, and later ones."""

    inserted: int = 0
    corrected: int = 0

    def unchanged(self, batch: Batch, quarantined: int) -> int:
        """Return how many good rows of a batch added nothing."""
        # What an attempt inserted that was then killed, and what this one corrected of it, are
        # two additions of one row.
        return max(0, batch.rows.height - quarantined - self.inserted - self.corrected)


@dataclass(frozen=True, slots=True)
class Span:
    """Which bars a load may have touched."""

    symbols: tuple[str, ...]
    first: datetime
    last: datetime


def record(client: Client, batch: Batch, *, quarantined: int, span: Span | None) -> Changes:
    """Add the load to the ledger, and return what it changed.

    A load that changed nothing and is in the ledger already adds no row.
    """
    changes: list[Changes] = []

    def look() -> tuple[int, pa.Table]:
        known, recorded = _recorded(client, batch)
        present = Changes() if span is None else _present(client, batch, span)
        changed = Changes(
            present.inserted - recorded.inserted, present.corrected - recorded.corrected
        )
        changes.append(changed)
        if known and changed == Changes():
            return known, _LOADS.empty_table()
        return known, _row(batch, changed, quarantined, span)

    append_missing(client, "loads", f"{batch.table} {batch.load_id}", look)
    return changes[0]


def _row(batch: Batch, changed: Changes, quarantined: int, span: Span | None) -> pa.Table:
    row = {
        "load_id": batch.load_id,
        "source": batch.source,
        "table_name": batch.table,
        "rows_read": batch.rows.height,
        "inserted": changed.inserted,
        "corrected": changed.corrected,
        "unchanged": changed.unchanged(batch, quarantined),
        "quarantined": quarantined,
        "first_event": span.first if span else None,
        "last_event": span.last if span else None,
    }
    return pa.Table.from_pylist([row], schema=_LOADS)


def _recorded(client: Client, batch: Batch) -> tuple[int, Changes]:
    """Return how many rows the ledger has of this load, and what they add up to."""
    result = client.query(
        "SELECT count(), sum(inserted), sum(corrected) FROM loads "
        "WHERE load_id = {load_id:String} AND table_name = {table:String}",
        parameters={"load_id": batch.load_id, "table": batch.table},
    )
    rows, inserted, corrected = result.result_rows[0]
    return int(rows), Changes(int(inserted), int(corrected))


def _present(client: Client, batch: Batch, span: Span) -> Changes:
    """Count the rows that the table has from this load."""
    result = client.query(
        "SELECT countIf(first_load = {load_id:String}) AS inserted, sum(brought) - inserted "
        "FROM (SELECT argMin(load_id, known_at) AS first_load, "
        "countIf(load_id = {load_id:String}) AS brought "
        f"FROM `{batch.table}` WHERE symbol IN {{symbols:Array(String)}} "
        "AND event_timestamp >= {first:DateTime64(6, 'UTC')} "
        "AND event_timestamp <= {last:DateTime64(6, 'UTC')} "
        "GROUP BY symbol, event_timestamp) WHERE brought > 0",
        parameters={
            "load_id": batch.load_id,
            "symbols": list(span.symbols),
            "first": moment(span.first),
            "last": moment(span.last),
        },
    )
    inserted, corrected = result.result_rows[0]
    return Changes(int(inserted), int(corrected))
