"""Where bad rows go at every border: one table, each row once, with what is wrong with it.

A row is kept before its good neighbours are written, so that a process that is killed between the
two leaves nothing out: run again, it finds the bad rows there and writes the good ones. How many
bad rows are too many is `atlas.schemas.ShareLimit`'s to say, over a `Tally` of all batches.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

import polars as pl
import pyarrow as pa
from clickhouse_connect.driver.client import Client

from atlas.clickhouse.appends import append_missing
from atlas.clickhouse.quarantined_row import as_json
from atlas.clickhouse.values import moment
from atlas.schemas import Split, find_faults
from atlas.telemetry import get_logger

__all__ = ["Border", "admit", "keep_bad", "open_ids", "vicinity"]

log = get_logger(__name__)

_BLOCK_ROWS = 50_000
# Longer lists of symbols are not worth their place in a request.
_MAX_SYMBOLS = 200
# What ClickHouse's DateTime64 can hold; a time beyond it is told in the row only.
_FIRST = datetime(1900, 1, 1, tzinfo=UTC)
_LAST = datetime(2262, 1, 1, tzinfo=UTC)
_MOMENT = pa.timestamp("us", tz="UTC")
_COLUMNS = pa.schema(
    [
        ("row_id", pa.string()),
        ("border", pa.string()),
        ("table_name", pa.string()),
        ("symbol", pa.string()),
        ("event_timestamp", _MOMENT),
        ("load_id", pa.string()),
        ("source", pa.string()),
        ("row_number", pa.uint64()),
        ("reason", pa.string()),
        ("row", pa.string()),
    ]
)


class Border(StrEnum):
    """Where rows are judged before they go on."""

    INGEST = "ingest"
    OFFLINE = "offline"
    ONLINE = "online"
    TRAINING = "training"


def admit(
    client: Client, schema: Any, rows: pl.DataFrame, *, view: str, border: Border, run: str
) -> Split:
    """Let the rows pass that keep a schema; keep the others in quarantine.

    When this returns, the bad rows are stored: with reason, view, key, time, run and border, and
    the same row refused for the same reason at the same border only once, whoever met it.

    Parameters
    ----------
    schema : pandera (polars) model or schema
        With the columns of `rows`, in their order.
    view : str
        Feature view, or table, that the rows belong to.
    run : str
        Who met them; of several runs the first is kept.

    Raises
    ------
    InvalidInput
        If the columns of `rows` are not the schema's.
    """
    faults = find_faults(schema, rows)
    broken = faults.is_not_null()
    if not broken.any():
        return Split(rows, rows.clear().with_columns(faults.clear()))
    bad = rows.filter(broken)
    reasons = faults.filter(broken)
    numbered = pl.DataFrame(
        {
            "row_number": (broken.arg_true() + 1).cast(pl.UInt64),
            "reason": reasons,
            "symbol": bad["symbol"] if "symbol" in bad.columns else [""] * bad.height,
            "event_timestamp": (
                bad["event_timestamp"]
                if "event_timestamp" in bad.columns
                else pl.repeat(None, bad.height, dtype=pl.Datetime("us", "UTC"), eager=True)
            ),
        }
    )

    def texts(places: Sequence[int]) -> list[str]:
        return [as_json(row) for row in bad[places].iter_rows(named=True)]

    keep_bad(client, numbered, texts, view=view, border=border, run=run, source=run)
    return Split(rows.filter(~broken), bad.with_columns(reasons))


def keep_bad(
    client: Client,
    bad: pl.DataFrame,
    texts: Callable[[Sequence[int]], list[str]],
    *,
    view: str,
    border: Border,
    run: str,
    source: str,
) -> None:
    """Keep bad rows that the quarantine does not have open yet.

    Parameters
    ----------
    bad : frame
        row_number (from 1, in what was read), reason, symbol, event_timestamp.
    texts : callable
        Returns the JSON of the rows at places of `bad`, counted from 0.
    run : str
        At the ingest border the load's identity: there a row is the same if it stands at the same
        place of the same content. Elsewhere it is the same if it reads the same.
    """
    if bad.is_empty():
        return
    log.warning("rows_quarantined", view=view, border=str(border), run=run, rows=bad.height)
    for start in range(0, bad.height, _BLOCK_ROWS):
        part = bad.slice(start, _BLOCK_ROWS)
        rows = texts(range(start, start + part.height))
        places = (
            [f"{run} {number}" for number in part["row_number"]]
            if border is Border.INGEST
            else rows
        )
        block = part.select(
            "row_number",
            "reason",
            pl.Series(
                "row_id",
                [
                    _identity(border, view, place, reason)
                    for place, reason in zip(places, part["reason"], strict=True)
                ],
            ),
            pl.Series("row", rows),
            pl.col("symbol").fill_null(""),
            pl.when(pl.col("event_timestamp").is_between(_FIRST, _LAST, closed="left"))
            .then("event_timestamp")
            .cast(pl.Datetime("us", "UTC")),
            border=pl.lit(str(border)),
            table_name=pl.lit(view),
            load_id=pl.lit(run),
            source=pl.lit(source),
        ).unique("row_id", keep="first", maintain_order=True)
        _append(client, block, view=view, border=border)


def open_ids(where: str) -> str:
    """Return SQL for the ids of rows that are in quarantine and were not readmitted since.

    Parameters
    ----------
    where : str
        Condition on the quarantine's columns.
    """
    return (
        f"SELECT row_id FROM (SELECT row_id, 1 AS met FROM quarantine WHERE {where} "
        "UNION ALL SELECT row_id, -1 AS met FROM readmissions) "
        "GROUP BY row_id HAVING sum(met) > 0"
    )


def vicinity(rows: pl.DataFrame, *, view: str, border: Border) -> tuple[str, dict[str, Any]]:
    """Return a condition that the quarantine's rows with these keys meet, and its parameters.

    Parameters
    ----------
    rows : frame
        symbol, event_timestamp.
    """
    where = "border = {border:String} AND table_name = {view:String}"
    parameters: dict[str, Any] = {"border": str(border), "view": view}
    symbols = rows["symbol"].unique().to_list()
    times = rows["event_timestamp"]
    # What an earlier version wrote may lack its symbol and time.
    if len(symbols) <= _MAX_SYMBOLS:
        where += " AND (symbol IN {symbols:Array(String)} OR symbol = '')"
        parameters["symbols"] = symbols
    first, last = times.min(), times.max()
    if times.null_count() == 0 and isinstance(first, datetime) and isinstance(last, datetime):
        where += (
            " AND (event_timestamp BETWEEN {first:DateTime64(6, 'UTC')}"
            " AND {last:DateTime64(6, 'UTC')} OR event_timestamp IS NULL)"
        )
        parameters |= {"first": moment(first), "last": moment(last)}
    return where, parameters


def _append(client: Client, block: pl.DataFrame, *, view: str, border: Border) -> None:
    """Add the rows of a block that are not in quarantine, or were all readmitted."""
    where, parameters = vicinity(block, view=view, border=border)

    def look() -> tuple[int, pa.Table]:
        seen = client.query(
            "SELECT count() FROM quarantine WHERE border = {border:String} "
            "AND table_name = {view:String}",
            parameters=parameters,
        ).result_rows[0][0]
        kept = client.query(open_ids(where), parameters=parameters).result_rows
        lacking = block.filter(~pl.col("row_id").is_in([row[0] for row in kept]))
        return int(seen), lacking.select(_COLUMNS.names).to_arrow().cast(_COLUMNS)

    append_missing(client, "quarantine", f"{border} {view}", look)


def _identity(border: Border, view: str, place: str, reason: str) -> str:
    """Return what tells one bad row from another, as the table's default does in SQL."""
    return hashlib.sha256("\0".join((border, view, place, reason)).encode()).hexdigest()
