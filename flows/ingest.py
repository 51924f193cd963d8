"""Candle files into ClickHouse."""

from __future__ import annotations

from pathlib import Path

from prefect import flow, task

from atlas.clock import WallClock
from atlas.ingest import LoadReport, discover, load_candles
from atlas.runtime.installation import Installation
from flows.progress import progress

__all__ = ["ingest", "load_file"]


@task(retries=2, retry_delay_seconds=2, timeout_seconds=900, tags=["ingest"])
def load_file(path: Path) -> LoadReport:
    """Load one file; a bad row goes to quarantine, a second load of the same changes nothing."""
    installation = Installation()
    # History that will be replayed lies ahead of the replayed clock: only the wall bounds it.
    return load_candles(
        installation.clickhouse,
        path,
        now=WallClock().now(),
        source_delay=installation.settings.source_delay,
    )


@flow(name="ingest", timeout_seconds=3600, validate_parameters=True)
def ingest(data: str) -> list[LoadReport]:
    """Load a candle file, or every one of a folder."""
    files = discover(Path(data)).files
    reports = []
    with progress("ingest", "Ingest") as tell:
        for number, path in enumerate(files, 1):
            reports.append(load_file(path))
            tell(number / len(files))
    return reports
