"""`atlas features status`: how complete each view is, by symbol and hour."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any

import orjson
import typer
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from atlas.cli.terminal import open_console

if TYPE_CHECKING:
    from atlas.clickhouse.completeness import HourOfSymbol, SymbolRecord

__all__ = ["status"]

_MAX_HOURS = 24 * 366
# At least this share of an hour's rows is there: how the hour is drawn.
_MARKS = ((1.0, "█", "green"), (0.9, "▓", "yellow"), (0.5, "▒", "yellow"), (1e-9, "░", "red"))
_CELLS = 48
_LEGEND = (
    "Each mark is an hour, the newest on the right: █ every bar has its row, ▓ 90 %, ▒ 50 %, "
    "░ some, x none, . no bars; a yellow ground: rows in quarantine."
)


def status(
    view: Annotated[
        str | None, typer.Argument(help="A feature view; every one with rows if not given.")
    ] = None,
    symbol: Annotated[
        list[str] | None, typer.Option(help="Only this symbol; may be given several times.")
    ] = None,
    hours: Annotated[
        int, typer.Option(min=1, max=_MAX_HOURS, help="How many hours back from now.")
    ] = 24,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Show how complete views are by symbol and hour, by the project's clock.

    Exits with 0 if each stored bar of the span has its feature row, with 1 otherwise, also if no
    view has rows at all.
    """
    from atlas.clickhouse import create_feature_table
    from atlas.clickhouse.completeness import completeness
    from atlas.features import stored_view, stored_views
    from atlas.runtime.installation import Installation

    chosen = stored_views() if view is None else (stored_view(view),)
    installation = Installation()
    now = installation.clock.now()
    found: dict[str, list[SymbolRecord]] = {}
    never: list[str] = []
    for features in chosen:
        create_feature_table(installation.clickhouse, features.view, features.kinds)
        records = completeness(
            installation.clickhouse, features, now=now, hours=hours, symbols=symbol
        )
        if view is not None or any(record.newest for record in records):
            found[features.view] = records
        elif records:
            never.append(features.view)
    if as_json:
        views = {name: _plain(records) for name, records in found.items()}
        told = {"now": now, "views": views, "never_computed": never}
        typer.echo(orjson.dumps(told).decode())
    else:
        _print(found, never, now=now, hours=hours)
    complete = bool(found) and all(
        record.complete for records in found.values() for record in records
    )
    raise typer.Exit(0 if complete else 1)


def _plain(records: list[SymbolRecord]) -> list[dict[str, Any]]:
    return [
        {
            "symbol": record.symbol,
            "newest": record.newest,
            "lag_s": record.lag.total_seconds() if record.lag is not None else None,
            "unplaced": record.unplaced,
            "complete": record.complete,
            "hours": record.hours,
        }
        for record in records
    ]


def _print(
    found: dict[str, list[SymbolRecord]], never: list[str], *, now: datetime, hours: int
) -> None:
    console = open_console()
    shown = min(hours, _CELLS)
    for view, records in found.items():
        if not records:
            console.print(f"{view}: no bars and no rows.")
            continue
        table = Table(title=view, title_justify="left", box=None)
        table.add_column("symbol", overflow="fold")
        table.add_column(f"last {shown} h")
        for name in ("rows", "nulls at worst", "quarantine", "newest (UTC)", "lag"):
            table.add_column(name, justify="right")
        for record in records:
            table.add_row(escape(record.symbol), _heat(record.hours[-shown:]), *_sums(record))
        console.print(table)
    if never:
        console.print(f"Never computed: {', '.join(never)}.")
    elif not found:
        console.print("No view has bars or rows. Ingest candles first: `atlas ingest PATH`.")
    if not found:
        return
    console.print(_LEGEND, style="dim", soft_wrap=True)
    if shown < hours:
        console.print(f"Sums are over {hours} hours; --json has every one of them.", style="dim")
    console.print(f"Judged by the project's clock: {now:%Y-%m-%d %H:%M:%S} UTC.")


def _heat(hours: tuple[HourOfSymbol, ...]) -> Text:
    drawn = Text()
    for hour in hours:
        mark, style = _mark(hour)
        drawn.append(mark, f"{style} on dark_goldenrod" if hour.quarantined else style)
    return drawn


def _mark(hour: HourOfSymbol) -> tuple[str, str]:
    if not hour.bars:
        return ("░", "red") if hour.present else (".", "dim")
    share = hour.present / hour.bars
    return next(((mark, style) for least, mark, style in _MARKS if share >= least), ("x", "red"))


def _sums(record: SymbolRecord) -> tuple[str, ...]:
    bars = sum(hour.bars for hour in record.hours)
    present = sum(hour.present for hour in record.hours)
    due = sum(hour.due for hour in record.hours)
    held = sum(hour.quarantined for hour in record.hours) + record.unplaced
    worst = max(record.hours, key=lambda hour: hour.null_share)
    return (
        f"{present:,}/{bars:,}" + (f" of {due:,} due" if due != bars else ""),
        f"{worst.worst_feature} {100 * worst.null_share:.0f} %" if worst.worst_feature else "none",
        f"{held:,}",
        f"{record.newest:%Y-%m-%d %H:%M}" if record.newest else "never",
        _lag(record.lag),
    )


def _lag(lag: timedelta | None) -> str:
    if lag is None:
        return "?"
    seconds = int(lag.total_seconds())
    days, rest = divmod(abs(seconds), 86_400)
    told = f"{rest // 3600:02}:{rest % 3600 // 60:02}:{rest % 60:02}"
    return f"{days} d {told}" if days else told
