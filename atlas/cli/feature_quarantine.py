"""`atlas features quarantine`: lists bad rows, and lets those go on that are good now."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import orjson
import typer
from rich.markup import escape
from rich.table import Table

from atlas.cli.terminal import open_console
from atlas.errors import InvalidInput

if TYPE_CHECKING:
    from atlas.clickhouse.quarantined_rows import Wanted
    from atlas.runtime.readmission import Readmission

__all__ = ["quarantine"]

_BORDERS = ("ingest", "offline", "online", "training")
_MAX_REASONS = 5


def quarantine(
    view: Annotated[
        str | None, typer.Argument(help="A feature view or a table of bars; all if not given.")
    ] = None,
    since: Annotated[
        datetime | None,
        typer.Option(help="Rows of that time in UTC or later; those without a time as well."),
    ] = None,
    run: Annotated[str | None, typer.Option(help="Rows that this run met.")] = None,
    border: Annotated[str | None, typer.Option(help=f"One of {', '.join(_BORDERS)}.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="Show at most so many lines.")] = 50,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print each row as one line of JSON.")
    ] = False,
    readmit: Annotated[
        bool, typer.Option("--readmit", help="Let those rows go on that keep their schema now.")
    ] = False,
) -> None:
    """List the rows in quarantine: view, key, time, border, reason, run and how many.

    With --readmit each is looked at again: a candle is loaded and a feature row written as any
    other, unless another version is stored since; a row that still breaks the schema stays, and is
    told with the reason. Nothing is deleted, and running it again changes nothing.

    Exits with 0; with --readmit with 1 if rows stay in quarantine.
    """
    from atlas.runtime.installation import Installation

    wanted = _wanted(view, since, run, border)
    installation = Installation()
    if readmit:
        from atlas.runtime.readmission import readmit as look_again

        done = look_again(installation, wanted, now=installation.clock.now())
        _tell_readmitted(done)
        raise typer.Exit(1 if any(each.refused for each in done) else 0)
    if as_json:
        _print_rows(installation.clickhouse, wanted, limit)
    else:
        _print_table(installation.clickhouse, wanted, limit)


def _wanted(
    view: str | None, since: datetime | None, run: str | None, border: str | None
) -> Wanted:
    from atlas.clickhouse.quarantine import Border
    from atlas.clickhouse.quarantined_rows import Wanted
    from atlas.features import stored_views
    from atlas.market import INTERVALS, bars_table

    known = [*(each.view for each in stored_views()), *map(bars_table, INTERVALS)]
    if view is not None and view not in known:
        raise InvalidInput(
            f"Expected a feature view or a table of bars among {', '.join(known)}; found {view!r}."
        )
    if border is not None and border not in _BORDERS:
        raise InvalidInput(f"Expected a border among {', '.join(_BORDERS)}; found {border!r}.")
    return Wanted(
        view,
        Border(border) if border is not None else None,
        run,
        since.replace(tzinfo=UTC) if since and since.tzinfo is None else since,
    )


def _print_rows(client: Any, wanted: Wanted, limit: int) -> None:
    from atlas.clickhouse.quarantined_rows import groups, pages

    left = limit
    for border, view in groups(client, wanted):
        for page in pages(client, wanted, border=border, view=view):
            for row in page.head(left).iter_rows(named=True):
                # The row's own text is JSON already.
                line = {"border": str(border), "view": view, **row, "row": orjson.loads(row["row"])}
                typer.echo(orjson.dumps(line).decode())
            left -= min(left, page.height)
            if not left:
                return


def _print_table(client: Any, wanted: Wanted, limit: int) -> None:
    from atlas.clickhouse.quarantined_rows import summaries

    console = open_console()
    found = summaries(client, wanted, limit=limit)
    if found.is_empty():
        console.print("Nothing is in quarantine.")
        return
    table = Table(box=None)
    for name in ("view", "key", "time", "border", "reason", "run"):
        table.add_column(name, overflow="fold")
    table.add_column("count", justify="right")
    for line in found.iter_rows(named=True):
        run = line["run"]
        # A load's name is a hash; its source says more.
        told = line["source"] if line["border"] == "ingest" else run
        table.add_row(
            line["view"],
            escape(line["symbol"]),
            _span(line["first"], line["last"]),
            line["border"],
            escape(line["reason"]),
            escape(told),
            f"{line['count']:,}",
        )
    console.print(table)
    if found.height == limit:
        console.print(f"Only the first {limit:,} lines are shown; --limit shows more.")


def _span(first: datetime | None, last: datetime | None) -> str:
    if first is None or last is None:
        return "?"
    told = f"{last:%Y-%m-%d %H:%M:%S}"
    return told if first == last else f"{first:%Y-%m-%d %H:%M:%S} to {told}"


def _tell_readmitted(done: list[Readmission]) -> None:
    console = open_console()
    if not done:
        console.print("Nothing is in quarantine.")
    for each in done:
        console.print(
            f"{each.view} ({each.border}): {each.readmitted:,} readmitted, {each.replaced:,} "
            f"replaced by another version since, {each.refused.total():,} stay."
        )
        for why, count in each.refused.most_common(_MAX_REASONS):
            console.print(f"  [yellow]stay[/] {escape(why)} ({count:,})", soft_wrap=True)
        further = len(each.refused) - _MAX_REASONS
        if further > 0:
            console.print(f"  {further:,} further reason{'s' if further > 1 else ''}")
