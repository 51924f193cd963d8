"""Runs every measurement on engines of its own, prints a table, keeps a JSON and a plot.

`python -m bench join online` runs only those parts; `--small` leaves out the join of 20 M rows.
"""

from __future__ import annotations

import argparse
import json
import platform
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import psutil
from rich.console import Console
from rich.table import Table

from atlas.config import Settings, load_settings
from atlas.runtime import supervise
from atlas.runtime.installation import Installation
from bench.engines import engine_scores
from bench.growth import Curve, draw, join_growth
from bench.materialise import materialise_growth, materialise_many
from bench.measure import Measured, free_port
from bench.offline import Joins, large_join, small_joins
from bench.online import online_reads
from bench.pure import features_of_history, overfitting_of, score_one_row
from bench.serving import serving
from bench.training import search
from bench.validation import validation

RESULTS = Path("bench-results")
Panels = dict[str, tuple[str, dict[str, Curve]]]


class Bench:
    """The engines that the measurements share, and what they found."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._client = Installation(settings).clickhouse
        self.results: list[Measured] = []
        self.panels: Panels = {}

    def join(self, *, small: bool) -> None:
        """Measure point-in-time joins."""
        joins = Joins(self._client, self._settings, self._settings.home, symbols=10, rows=7_200)
        self.results += small_joins(joins)
        self.panels["Point-in-time join to 72 k rows"] = ("entity rows", join_growth(joins))
        if not small:
            large = Joins(
                self._client, self._settings, self._settings.home, symbols=200, rows=100_000
            )
            server = _listener(self._settings.clickhouse_port)
            self.results += large_join(large, 1_000_000, server=server)

    def materialise(self, *, small: bool) -> None:
        """Measure the way from ClickHouse to Redis."""
        store = (self._client, self._settings, self._settings.home)
        self.results.append(materialise_many(*store))
        sizes = [1_000, 5_000, 20_000] + ([] if small else [100_000])
        curves = {
            "Atlas, through Feast": (sizes, materialise_growth(*store, sizes, "ours")),
            "Feast's engine and store": (sizes[:3], materialise_growth(*store, sizes[:3], "feast")),
        }
        self.panels["feast materialize, 20 features"] = ("entities", curves)

    def online(self, *, small: bool) -> None:
        """Measure reads of Redis."""
        self.results += online_reads(self._settings, self._settings.home / "online")

    def serving(self, *, small: bool) -> None:
        """Measure the worker."""
        self.results += serving(self._settings, self._settings.home / "serving")

    def validation(self, *, small: bool) -> None:
        """Measure what judging rows adds to a write."""
        self.results.append(validation(self._client))

    def engines(self, *, small: bool) -> None:
        """Measure what scoring costs."""
        self.results += engine_scores(small=small)

    def pure(self, *, small: bool) -> None:
        """Measure what needs no store."""
        self.results += [
            score_one_row(),
            features_of_history(),
            overfitting_of(20),
            overfitting_of(1_000),
        ]

    def training(self, *, small: bool) -> None:
        """Measure a search on one process and on two."""
        if not small:
            self.results.append(search())


_PARTS: dict[str, Callable[..., None]] = {
    "join": Bench.join,
    "materialise": Bench.materialise,
    "online": Bench.online,
    "serving": Bench.serving,
    "validation": Bench.validation,
    "engines": Bench.engines,
    "training": Bench.training,
    "pure": Bench.pure,
}


def main() -> None:
    """Measure, print, keep."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=", ".join(_PARTS))
    parser.add_argument("--small", action="store_true", help="leave out what takes minutes")
    asked = parser.parse_args()
    if unknown := set(asked.parts) - set(_PARTS):
        parser.error(f"no part {', '.join(sorted(unknown))}; there are {', '.join(_PARTS)}")
    with tempfile.TemporaryDirectory(prefix="atlas-bench-") as folder:
        settings = load_settings(
            home=Path(folder), clickhouse_port=free_port(), redis_port=free_port()
        )
        with supervise(settings, only=["clickhouse", "redis", "tables"]) as stack:
            stack.settle()
            bench = Bench(settings)
            for part in asked.parts or _PARTS:
                _PARTS[part](bench, small=asked.small)
    _print(bench.results)
    _keep(bench)


def _listener(port: int) -> int:
    for process in psutil.Process().children(recursive=True):
        for connection in process.net_connections("tcp"):
            if connection.status == psutil.CONN_LISTEN and connection.laddr.port == port:
                return process.pid
    raise RuntimeError(f"nobody below this process listens on {port}")


def _print(results: list[Measured]) -> None:
    table = Table("work", "ours", "baseline", "is", "ratio", "aim", box=None, header_style="bold")
    for each in results:
        baseline = "" if each.baseline_s is None else _text(each.baseline_s)
        table.add_row(
            each.work, _text(each.ours_s), baseline, each.baseline, _ratio(each), each.aim
        )
    console = Console(width=140, highlight=False)
    console.print(table)
    for each in results:
        if each.notes:
            notes = ", ".join(f"{name} {value:,.0f}" for name, value in each.notes.items())
            console.print(f"{each.work}: {notes}")


def _ratio(each: Measured) -> str:
    if each.ratio is None:
        return ""
    return f"{1 / each.ratio:.3g} x faster" if each.ratio < 0.5 else f"{each.ratio:.2f} x"


def _keep(bench: Bench) -> None:
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{datetime.now(UTC):%Y%m%d-%H%M%S}.json"
    machine = {
        "machine": platform.processor() or platform.machine(),
        "python": platform.python_version(),
        "growth": bench.panels,
    }
    results = [each.as_dict() for each in bench.results]
    path.write_text(json.dumps({**machine, "results": results}, indent=1))
    print(f"kept in {path}")
    if bench.panels:
        draw(path.with_suffix(".png"), bench.panels)
        print(f"drawn in {path.with_suffix('.png')}")


def _text(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds >= 1 else f"{1e3 * seconds:.3g} ms"


if __name__ == "__main__":
    main()
