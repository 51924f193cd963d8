"""Runs every measurement on engines of its own, prints a table, keeps a JSON."""

from __future__ import annotations

import json
import platform
import tempfile
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.table import Table

from atlas.config import load_settings
from atlas.runtime import supervise
from atlas.runtime.installation import Installation
from bench.measure import Measured, free_port
from bench.offline import point_in_time_join
from bench.online import read_many, read_one
from bench.pure import features_of_history, overfitting_of, score_one_row

RESULTS = Path("bench-results")


def main() -> None:
    """Measure, print, keep."""
    with tempfile.TemporaryDirectory(prefix="atlas-bench-") as folder:
        settings = load_settings(
            home=Path(folder), clickhouse_port=free_port(), redis_port=free_port()
        )
        with supervise(settings, only=["clickhouse", "redis", "tables"]) as stack:
            stack.settle()
            installation = Installation(settings)
            results = [
                *point_in_time_join(installation),
                read_one(settings),
                read_many(settings),
                score_one_row(),
                features_of_history(),
                overfitting_of(20),
                overfitting_of(1_000),
            ]
    _print(results)
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{datetime.now(UTC):%Y%m%d-%H%M%S}.json"
    machine = {
        "machine": platform.processor() or platform.machine(),
        "python": platform.python_version(),
    }
    path.write_text(json.dumps({**machine, "results": [r.as_dict() for r in results]}, indent=1))
    print(f"kept in {path}")


def _print(results: list[Measured]) -> None:
    table = Table("work", "ours", "baseline", "is", "ratio", "aim", box=None, header_style="bold")
    for each in results:
        ratio = "" if each.ratio is None else f"{each.ratio:.2f} x"
        baseline = "" if each.baseline_s is None else _text(each.baseline_s)
        table.add_row(each.work, _text(each.ours_s), baseline, each.baseline, ratio, each.aim)
    Console(width=120, highlight=False).print(table)


def _text(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds >= 1 else f"{1e3 * seconds:.3g} ms"


if __name__ == "__main__":
    main()
