"""Candle files into ClickHouse."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prefect import flow, task

from atlas.clock import WallClock
from atlas.errors import TooManyBadRows, UnreadableFile
from atlas.ingest import LoadReport, discover, load_candles
from atlas.runtime.installation import Installation
from flows.accounts import account, account_of_stop, told
from flows.progress import progress
from flows.retry import STORE_TASK

__all__ = ["Ingested", "ingest", "load_file"]


@task(**STORE_TASK, timeout_seconds=900, tags=["ingest"])
def load_file(path: Path) -> LoadReport:
    """Load one file; a bad row goes to quarantine, a second load of the same changes nothing."""
    installation = Installation()
    # History that will be replayed lies ahead of the replayed clock: only the wall bounds it.
    return load_candles(
        installation.clickhouse,
        path,
        now=WallClock().now(),
        source_delay=installation.settings.source_delay,
        limit=installation.share_limit,
    )


@dataclass(frozen=True, slots=True)
class Ingested:
    """What became of each file."""

    reports: tuple[LoadReport, ...]
    unreadable: tuple[str, ...]
    """What is wrong with each file that could not be read; nothing of it was loaded."""
    passed_over: tuple[str, ...]
    """Files that are not candles."""


@flow(name="ingest", timeout_seconds=3600)
def ingest(data: str) -> Ingested:
    """Load a candle file, or every one of a folder; a broken file does not keep the others out.

    Raises
    ------
    TooManyBadRows
        If the share of bad rows of a file is above the setting: nothing of it is stored, the
        others are loaded, and what comes after this flow does not run.
    UnreadableFile
        If no file could be read.
    """
    found = discover(Path(data))
    reports, unreadable = [], []
    lines: list[dict[str, Any]] = []
    refused: list[TooManyBadRows] = []
    with progress("ingest", "Ingest") as tell:
        for number, path in enumerate(found.candles, 1):
            try:
                reports.append(load_file(path))
                lines.append({"source": path.name} | _counts(reports[-1]))
            except TooManyBadRows as stopped:
                refused.append(stopped)
                lines.append({"source": path.name} | account_of_stop(stopped))
            except UnreadableFile as error:
                unreadable.append(str(error))
                lines.append({"source": path.name, "outcome": "unreadable", "why": str(error)})
            tell(number / len(found.candles))
    account("ingest-rows", "Rows of each file", lines)
    if refused:
        raise refused[0]
    if not reports:
        raise UnreadableFile(unreadable[0])
    passed_over = tuple(path.name for path in found.passed_over)
    return Ingested(tuple(reports), tuple(unreadable), passed_over)


def _counts(report: LoadReport) -> dict[str, Any]:
    return {
        "read": report.rows_read,
        "written": report.inserted + report.corrected,
        "corrected": report.corrected,
        "unchanged": report.unchanged,
        "quarantined": report.quarantined,
        "why": told(report.reasons),
        "outcome": "done",
    }
