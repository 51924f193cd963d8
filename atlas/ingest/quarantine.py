"""Where bad rows go: the quarantine table, each once for each load, with the reason."""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl
import pyarrow as pa
from clickhouse_connect.driver.client import Client

from atlas.ingest.batch import Batch
from atlas.ingest.store import append_missing

__all__ = ["quarantine"]

_BLOCK_ROWS = 50_000
_COLUMNS = pa.schema(
    [
        ("load_id", pa.string()),
        ("source", pa.string()),
        ("table_name", pa.string()),
        ("row_number", pa.uint64()),
        ("reason", pa.string()),
        ("row", pa.string()),
    ]
)


def quarantine(client: Client, batch: Batch, bad: pl.DataFrame) -> None:
    """Keep the bad rows of a batch that the quarantine does not have yet.

    Parameters
    ----------
    bad : frame
        row_number and reason.
    """
    if bad.is_empty():
        return

    def look() -> tuple[int, pa.Table]:
        kept = pl.from_arrow(
            client.query_arrow(
                "SELECT row_number, reason FROM quarantine WHERE load_id = {load_id:String}",
                parameters={"load_id": batch.load_id},
                use_strings=True,
            )
        )
        assert isinstance(kept, pl.DataFrame)
        kinds = bad.schema
        lacking = bad.join(kept.cast(kinds), on=kinds.names(), how="anti", maintain_order="left")
        return kept.height, _block(batch, lacking.head(_BLOCK_ROWS))

    append_missing(client, "quarantine", batch.load_id, look)


def _block(batch: Batch, bad: pl.DataFrame) -> pa.Table:
    numbers = bad["row_number"].to_list()
    columns: Mapping[str, list[object]] = {
        "load_id": [batch.load_id] * bad.height,
        "source": [batch.source] * bad.height,
        "table_name": [batch.table] * bad.height,
        "row_number": numbers,
        "reason": bad["reason"].to_list(),
        "row": list(batch.as_read(numbers)),
    }
    return pa.table(dict(columns), schema=_COLUMNS)
