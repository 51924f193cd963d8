"""`atlas ingest`: loads candle files into ClickHouse, and says what became of every row."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from atlas.cli.terminal import open_console
from atlas.clock import WallClock
from atlas.config import Settings, load_settings
from atlas.errors import InvalidInput, StoreUnavailable, TooManyBadRows

if TYPE_CHECKING:
    from atlas.ingest import LoadReport

__all__ = ["ingest"]

_MAX_REASONS = 3


def ingest(
    path: Annotated[Path, typer.Argument(help="A candle file, or a folder of them.")],
) -> None:
    """Load candle files into ClickHouse: freqtrade JSON or Feather, CSV, Parquet.

    Names are SYMBOL-INTERVAL.ext, such as BTC_USDT-1m.json.gz. Bad rows go to quarantine with the
    reason, good rows go on. Loading a file again changes nothing; changed values become
    corrections beside what was known before.

    Exits with 1 if a file could not be read, or more of its rows are bad than ATLAS_MAX_BAD_SHARE;
    nothing of it is stored, and the others are loaded all the same.
    """
    from atlas.clickhouse import connect, migrate
    from atlas.ingest import discover, load_candles
    from atlas.schemas import ShareLimit

    settings = load_settings()
    console = open_console()
    found = discover(path)
    limit = ShareLimit(settings.max_bad_share, settings.min_judged_rows)
    now, whose = _now(settings)
    reports: list[LoadReport] = []
    unreadable: list[str] = []
    with connect(host=settings.host, port=settings.clickhouse_port) as client:
        migrate(client, settings.clickhouse_database)
        try:
            for file in found.candles:
                with console.status(f"Loading {escape(file.name)}"):
                    try:
                        delay = settings.source_delay
                        reports.append(
                            load_candles(client, file, now=now, source_delay=delay, limit=limit)
                        )
                    except InvalidInput as error:
                        unreadable.append(f"[red]Unreadable[/] {escape(str(error))}")
                    except TooManyBadRows as error:
                        unreadable.append(f"[red]Refused[/] {escape(str(error))}")
        finally:
            # What was loaded before ClickHouse went away is loaded.
            if reports:
                console.print(_table(reports))
            for report in reports:
                if report.reasons:
                    console.print(f"{escape(report.source)}: {_why(report)}.", soft_wrap=True)
    if found.passed_over:
        names = ", ".join(entry.name for entry in found.passed_over)
        console.print(f"Passed over, no candle files: {escape(names)}.", soft_wrap=True)
    console.print(f"Judged by {whose}: {now:%Y-%m-%d %H:%M:%S} UTC.")
    for sentence in unreadable:
        console.print(sentence, soft_wrap=True)
    if unreadable:
        raise typer.Exit(1)


def _now(settings: Settings) -> tuple[datetime, str]:
    """Return the project's time, and which clock told it."""
    from atlas.bus import RedisClock, connect

    try:
        with connect(settings.host, settings.redis_port) as redis:
            return RedisClock(redis).now(), "the project's clock"
    except StoreUnavailable:
        # Nothing is replayed where Redis does not run.
        return WallClock().now(), "the wall's clock (Redis does not answer)"


def _table(reports: list[LoadReport]) -> Table:
    table = Table(box=None)
    for name in ("file", "symbol", "interval"):
        table.add_column(name, overflow="fold")
    for name in ("read", "inserted", "corrected", "unchanged", "quarantined"):
        table.add_column(name, justify="right")
    for report in reports:
        table.add_row(
            escape(report.source),
            escape(report.symbol),
            str(report.interval),
            f"{report.rows_read:,}",
            f"{report.inserted:,}",
            f"{report.corrected:,}",
            f"{report.unchanged:,}",
            f"[yellow]{report.quarantined:,}[/]" if report.quarantined else "0",
        )
    return table


def _why(report: LoadReport) -> str:
    told = [f"{escape(reason)} ({count:,})" for reason, count in report.reasons[:_MAX_REASONS]]
    further = len(report.reasons) - _MAX_REASONS
    if further > 0:
        told.append(f"{further:,} further reason{'s' if further > 1 else ''}")
    return f"[yellow]{report.quarantined:,} in quarantine[/]: {'; '.join(told)}"
