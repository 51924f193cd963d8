"""The page itself: plain HTML with its plots inside, readable without a server or a network."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import Any

import polars as pl

from atlas.gates import Evidence, Report
from atlas.paper import Settlement
from atlas.reporting.markup import document, figure, outcome_mark, table, write_document
from atlas.reporting.plots import draw_equity, draw_price
from atlas.serving import Signal, Stage

__all__ = ["Judged", "Observed", "RunReport", "write_report"]


@dataclass(frozen=True)
class Judged:
    """One candidate, what it was judged by, and the verdicts."""

    model: str
    version: int
    evidence: Evidence
    report: Report
    manifest: dict[str, Any]
    periods: Sequence[object]
    """Start of each out-of-sample period."""


@dataclass(frozen=True)
class Observed:
    """What was seen of a version on bars that training never saw."""

    model: str
    version: int
    stage: Stage
    signals: Sequence[Signal]
    bars: pl.DataFrame
    settlement: Settlement
    latency_ms: tuple[float, float]
    """Median and 99th percentile, from features told to signal published."""


@dataclass(frozen=True)
class RunReport:
    """A run from candles to signals."""

    title: str
    source: str
    simulated: bool
    decision: str
    facts: Sequence[tuple[str, str]]
    judged: Sequence[Judged]
    observed: Observed | None = None
    notes: Sequence[str] = field(default_factory=tuple)


def write_report(run: RunReport, path: Path) -> Path:
    """Write the page; it appears whole or not at all."""
    return write_document(_page(run), path)


def _page(run: RunReport) -> str:
    warning = (
        '<p class="simulated">This market is <b>simulated</b>: its predictability was planted. '
        "Nothing here says that any real market can be predicted.</p>"
        if run.simulated
        else ""
    )
    facts = "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in run.facts)
    body = [
        f"<h1>{escape(run.title)}</h1>",
        warning,
        f'<p class="decision">{escape(run.decision)}</p>',
        f"<dl>{facts}</dl>",
        *(_observed(run.observed) if run.observed else ()),
        *(part for judged in run.judged for part in _judged(judged)),
        *(f"<p>{escape(note)}</p>" for note in run.notes),
    ]
    return document(run.title, body)


def _observed(observed: Observed) -> list[str]:
    settlement = observed.settlement
    p50, p99 = observed.latency_ms
    rows = [
        ("signals", f"{settlement.signals:,}"),
        ("on decision bars", f"{settlement.decisions:,}"),
        ("trades", f"{settlement.trade_returns.size:,}"),
        ("won", _percent(settlement.win_rate)),
        ("net return after costs", _percent(settlement.net_return)),
        ("latency, median / 99 %", f"{p50:.1f} / {p99:.1f} ms"),
    ]
    marked = (
        " Rejected by the gates: these are observations, on a stream of their own, and nobody "
        "trades on them."
        if observed.stage is Stage.REJECTED
        else ""
    )
    return [
        f"<h2>Played live: {escape(observed.model)}/{observed.version}</h2>",
        f"<p>Bars that training never saw, as {observed.stage}.{marked}</p>",
        table([("figure", "value"), *rows]),
        draw_price(observed.bars, observed.signals),
        draw_equity(
            settlement.period_start.to_list(),
            settlement.period_returns,
            "Played live, net of costs",
        ),
    ]


def _judged(judged: Judged) -> list[str]:
    manifest = judged.manifest
    facts = [
        ("feature view", f"{manifest['plan']['view']} ({len(manifest['plan']['features'])})"),
        ("feature hash", manifest["feature_hash"]),
        ("rows", f"{manifest['rows']:,}"),
        ("data", " to ".join(manifest["data_range"])),
        ("data hash", manifest["data_hash"][:16]),
        ("model bytes", manifest["blob"][:16]),
        ("MLflow run", manifest["run_id"]),
        ("parameters", ", ".join(f"{k} {figure(v)}" for k, v in manifest["parameters"].items())),
    ]
    return [
        f"<h2>Judged: {escape(judged.model)}/{judged.version} "
        f"{outcome_mark(str(judged.report.outcome))}</h2>",
        table(judged.report.table()),
        draw_equity(
            list(judged.periods),
            judged.evidence.selected_returns,
            "Walk-forward, out of sample, net of costs",
        ),
        "<details><summary>Beside the verdicts</summary>",
        table(judged.report.context.table()),
        "</details><details><summary>What it is</summary>",
        table([("fact", "value"), *facts]),
        "</details>",
    ]


def _percent(value: float) -> str:
    return "none" if math.isnan(value) else f"{100 * value:.2f} %"
