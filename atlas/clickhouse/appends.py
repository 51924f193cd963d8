"""How rows are appended to ClickHouse without a lock, and so that nothing can fall between.

Two writers may work on the same rows at once, and either may be killed at any moment. Each looks
at what the table has, and appends what is missing in one block that carries a deduplication token
made of the number of rows that it saw. ClickHouse takes one block for each token: of two writers
that saw the same state one wins, and the other's block is dropped. Both then look again, until
nothing is missing. Rows are only ever added, so their number tells two states of a table apart.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import pyarrow as pa
from clickhouse_connect.driver.client import Client

from atlas.clickhouse.tables import content_token
from atlas.errors import StoreUnavailable

__all__ = ["append_missing"]

# Tries without any row landing: then somebody deletes rows as fast as they are added.
_MAX_STALLS = 8
_FIRST_WAIT_S = 0.05


def append_missing(
    client: Client, table: str, scope: str, look: Callable[[], tuple[int, pa.Table]]
) -> None:
    """Append blocks until none is missing.

    Parameters
    ----------
    scope : str
        Names the part of the table that may not be written by two at once.
    look : callable
        Returns how many rows that part has, and one block of what it lacks, empty when it lacks
        nothing; at most some 100 k rows, which ClickHouse takes whole or not at all. The rows are
        counted before the block is made: one made of a later state only loses to another writer.

    Raises
    ------
    StoreUnavailable
        If blocks are accepted and yet no row appears.
    """
    last, stalls = -1, 0
    while True:
        seen, block = look()
        if block.num_rows == 0:
            return
        stalls = stalls + 1 if seen == last else 0
        if stalls > _MAX_STALLS:
            raise StoreUnavailable(
                f"Expected {block.num_rows} rows to appear in {table} ({scope}); found none after "
                f"{stalls} tries. Look whether another program deletes them, and try again."
            )
        if stalls:
            # The token was used before, for rows that have since been deleted: it needs another,
            # but not before a writer who may have used it just now has shown his rows.
            time.sleep(_FIRST_WAIT_S * 2 ** (stalls - 1))
            if look()[0] != seen:
                continue
        token = content_token([table, scope, str(seen), str(stalls)])
        client.insert_arrow(table, block, settings={"insert_deduplication_token": token})
        last = seen
