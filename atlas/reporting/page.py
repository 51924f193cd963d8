"""The page itself: plain HTML with its plots inside, readable without a server or a network."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from atlas.gates import Evidence, Report
from atlas.paper import Settlement
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
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_suffix(".new")
    fresh.write_text(_page(run), encoding="utf-8")
    os.replace(fresh, path)
    return path


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
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width">'
        f"<title>{escape(run.title)}</title><style>{_STYLE}</style></head>"
        f"<body><main>{''.join(body)}</main></body></html>\n"
    )


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
        _table([("figure", "value"), *rows]),
        draw_price(observed.bars, observed.signals),
        draw_equity(
            settlement.period_start.to_list(),
            settlement.period_returns,
            "Played live, net of costs",
        ),
    ]


def _judged(judged: Judged) -> list[str]:
    manifest = judged.manifest
    context = judged.report.context.as_dict()
    facts = [
        ("feature view", f"{manifest['plan']['view']} ({len(manifest['plan']['features'])})"),
        ("feature hash", manifest["feature_hash"]),
        ("rows", f"{manifest['rows']:,}"),
        ("data", " to ".join(manifest["data_range"])),
        ("data hash", manifest["data_hash"][:16]),
        ("model bytes", manifest["blob"][:16]),
        ("MLflow run", manifest["run_id"]),
        ("parameters", ", ".join(f"{k} {_figure(v)}" for k, v in manifest["parameters"].items())),
    ]
    return [
        f"<h2>Judged: {escape(judged.model)}/{judged.version} "
        f'<span class="{judged.report.outcome}">{judged.report.outcome}</span></h2>',
        _table(judged.report.table()),
        draw_equity(
            list(judged.periods),
            judged.evidence.selected_returns,
            "Walk-forward, out of sample, net of costs",
        ),
        "<details><summary>Beside the verdicts</summary>",
        _table([("figure", "value"), *((k, _figure(v)) for k, v in context.items())]),
        "</details><details><summary>What it is</summary>",
        _table([("fact", "value"), *facts]),
        "</details>",
    ]


def _table(rows: Sequence[Sequence[str]]) -> str:
    head, *body = rows
    lines = ["".join(f"<th>{escape(cell)}</th>" for cell in head)]
    lines += ["".join(_cell(cell) for cell in row) for row in body]
    return f"<table>{''.join(f'<tr>{line}</tr>' for line in lines)}</table>"


def _cell(text: str) -> str:
    known = text if text in ("PASS", "FAIL", "INCONCLUSIVE") else ""
    return f'<td class="{known}">{escape(text)}</td>' if known else f"<td>{escape(text)}</td>"


def _figure(value: Any) -> str:
    if isinstance(value, float | np.floating):
        return f"{value:.4g}"
    if isinstance(value, dict):
        return ", ".join(f"{key}: {_figure(item)}" for key, item in value.items())
    return str(value)


def _percent(value: float) -> str:
    return "none" if math.isnan(value) else f"{100 * value:.2f} %"


_STYLE = """
body{font:15px/1.5 system-ui,sans-serif;color:#22313f;background:#fbfbfa;margin:0}
main{max-width:1020px;margin:2rem auto;padding:0 1rem}
h1{font-size:1.5rem}h2{font-size:1.15rem;margin-top:2.2rem}
table{border-collapse:collapse;margin:.6rem 0;font-size:.9rem}
th,td{text-align:left;padding:.25rem .8rem .25rem 0;border-bottom:1px solid #e3e6e8;
vertical-align:top;overflow-wrap:anywhere}
dl{display:grid;grid-template-columns:max-content 1fr;gap:.15rem 1.2rem}
dt{color:#66737f}dd{margin:0}
svg{max-width:100%;height:auto}
.PASS{color:#1a7f5a;font-weight:600}.FAIL{color:#b3402e;font-weight:600}
.INCONCLUSIVE{color:#a06a00;font-weight:600}
.simulated{background:#fff4d6;border-left:4px solid #d9a400;padding:.5rem .8rem}
.decision{font-size:1.1rem;font-weight:600}
"""
