"""Which rows of a load go to quarantine: the bad ones, as the source has them."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl
from clickhouse_connect.driver.client import Client

from atlas.clickhouse.quarantine import Border, keep_bad
from atlas.ingest.batch import Batch

__all__ = ["quarantine"]


def quarantine(client: Client, batch: Batch, bad: pl.DataFrame) -> None:
    """Keep the bad rows of a batch that the quarantine does not have yet.

    Parameters
    ----------
    bad : frame
        row_number and reason.
    """
    numbers = bad["row_number"]
    keys = batch.rows.select("row_number", "symbol", "event_timestamp")

    def texts(places: Sequence[int]) -> list[str]:
        return batch.as_read(numbers[places].to_list())

    keep_bad(
        client,
        bad.join(keys, on="row_number", how="left", maintain_order="left"),
        texts,
        view=batch.table,
        border=Border.INGEST,
        run=batch.load_id,
        source=batch.source,
    )
