"""What the quarantine holds, read page by page, and how a row leaves it.

Nothing is deleted: a row has left when as many readmissions as refusals of it are on record.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

import polars as pl
import pyarrow as pa
from clickhouse_connect.driver.client import Client

from atlas.clickhouse.appends import append_missing
from atlas.clickhouse.quarantine import Border, open_ids, vicinity
from atlas.clickhouse.values import moment

__all__ = ["Outcome", "Wanted", "groups", "pages", "record_outcomes", "summaries"]

_PAGE_ROWS = 50_000
_NO_TIME = "toDateTime64('2299-12-31 00:00:00', 6, 'UTC')"
_OUTCOMES = pa.schema(
    [(name, pa.string()) for name in ("row_id", "border", "table_name", "outcome", "run")]
)


class Outcome(StrEnum):
    """What became of a row that was looked at again."""

    READMITTED = "readmitted"
    REPLACED = "replaced"
    """Another version of it is stored since; that one stays."""
    REFUSED = "refused"
    """It still breaks the schema, and stays in quarantine."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which open rows are meant; what is not given does not matter.

    `since` bounds the rows' own times; rows without one are meant as well.
    """

    view: str | None = None
    border: Border | None = None
    run: str | None = None
    since: datetime | None = None

    def sql(self) -> tuple[str, dict[str, Any]]:
        """Return the condition on the quarantine's columns, and its parameters."""
        terms, parameters = ["1"], dict[str, Any]()
        for column, value in (
            ("table_name", self.view),
            ("border", self.border),
            ("load_id", self.run),
        ):
            if value is not None:
                terms.append(f"{column} = {{{column}:String}}")
                parameters[column] = str(value)
        if self.since is not None:
            terms.append(
                "(event_timestamp IS NULL OR event_timestamp >= {since:DateTime64(6, 'UTC')})"
            )
            parameters["since"] = moment(self.since)
        return " AND ".join(terms), parameters


def groups(client: Client, wanted: Wanted) -> list[tuple[Border, str]]:
    """Return the borders and views that have open rows."""
    where, parameters = wanted.sql()
    found = client.query(
        f"SELECT DISTINCT border, table_name FROM quarantine WHERE {where} "
        f"AND row_id IN ({open_ids(where)}) ORDER BY border, table_name",
        parameters=parameters,
    ).result_rows
    return [(Border(border), str(view)) for border, view in found]


def summaries(client: Client, wanted: Wanted, *, limit: int) -> pl.DataFrame:
    """Count open rows by view, border, key, reason and run, most recent times first.

    Returns
    -------
    frame
        view, border, symbol, first, last, reason, run, source, count.
    """
    where, parameters = wanted.sql()
    table = client.query_arrow(
        "SELECT table_name AS view, border, symbol, min(event_timestamp) AS first, "
        "max(event_timestamp) AS last, reason, load_id AS run, any(source) AS source, "
        f"uniqExact(row_id) AS count FROM quarantine WHERE {where} "
        f"AND row_id IN ({open_ids(where)}) GROUP BY view, border, symbol, reason, run "
        "ORDER BY last DESC NULLS FIRST, view, border, symbol, reason, run "
        "LIMIT {limit:UInt64}",
        parameters=parameters | {"limit": limit},
        use_strings=True,
    )
    return _frame(table)


def pages(client: Client, wanted: Wanted, *, border: Border, view: str) -> Iterator[pl.DataFrame]:
    """Yield a view's open rows by key and time; the rows of one key and time are on one page.

    Returns
    -------
    iterator of frames
        row_id, symbol, event_timestamp, source, run, row_number, reason, row, written_at.
    """
    where, parameters = Wanted(view, border, wanted.run, wanted.since).sql()
    parameters["rows"] = _PAGE_ROWS
    beyond = "1"
    while True:
        table = client.query_arrow(
            "SELECT * FROM (SELECT row_id, symbol, event_timestamp, source, load_id AS run, "
            "row_number, reason, row, written_at, "
            f"ifNull(event_timestamp, {_NO_TIME}) AS place FROM quarantine "
            f"WHERE {where} AND row_id IN ({open_ids(where)}) AND {beyond} "
            "ORDER BY written_at LIMIT 1 BY row_id) "
            "ORDER BY symbol, place LIMIT {rows:UInt64} WITH TIES",
            parameters=parameters,
            use_strings=True,
        )
        page = _frame(table).sort("symbol", "place", "row_number", "row_id")
        if page.is_empty():
            return
        yield page.drop("place")
        beyond = "(symbol, place) > ({symbol:String}, {place:DateTime64(6, 'UTC')})"
        parameters |= {"symbol": page["symbol"][-1], "place": moment(page["place"][-1])}


def record_outcomes(
    client: Client,
    rows: pl.DataFrame,
    outcomes: Sequence[Outcome],
    *,
    border: Border,
    view: str,
    run: str,
) -> None:
    """Record that rows have left the quarantine; refused ones stay, and are not recorded.

    Parameters
    ----------
    rows : frame
        Of `pages`.
    """
    block = rows.select(
        "row_id",
        "symbol",
        "event_timestamp",
        border=pl.lit(str(border)),
        table_name=pl.lit(view),
        outcome=pl.Series([str(outcome) for outcome in outcomes], dtype=pl.String),
        run=pl.lit(run),
    ).filter(pl.col("outcome") != Outcome.REFUSED)
    if block.is_empty():
        return
    where, parameters = vicinity(block, view=view, border=border)

    def look() -> tuple[int, pa.Table]:
        seen = client.query(
            "SELECT count() FROM readmissions WHERE border = {border:String} "
            "AND table_name = {view:String}",
            parameters=parameters,
        ).result_rows[0][0]
        still = client.query(open_ids(where), parameters=parameters).result_rows
        left = block.filter(pl.col("row_id").is_in([row[0] for row in still]))
        return int(seen), left.select(_OUTCOMES.names).to_arrow().cast(_OUTCOMES)

    append_missing(client, "readmissions", f"{border} {view}", look)


def _frame(table: pa.Table) -> pl.DataFrame:
    found = pl.from_arrow(table)
    assert isinstance(found, pl.DataFrame)
    moments = [name for name, kind in found.schema.items() if kind == pl.Datetime]
    return found.with_columns(pl.col(moments).cast(pl.Datetime("us", "UTC")))
