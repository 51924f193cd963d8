"""What the gates said of one version, for people: an HTML page, and markdown for Prefect."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from atlas.gates import Evidence, Report
from atlas.reporting.markup import document, figure, outcome_mark, table, write_document
from atlas.reporting.plots import draw_equity

__all__ = ["report_html", "report_markdown", "write_gate_page"]

# Told in tables of their own, or for machines only.
_NOT_FACTS = {"report", "plan", "golden_rows", "golden_scores"}


def report_html(
    report: Report,
    manifest: Mapping[str, Any],
    *,
    evidence: Evidence | None = None,
    periods: Sequence[object] = (),
) -> str:
    """Return one self-contained page: the verdicts, what stands beside them, and what it is of.

    Parameters
    ----------
    report : Report
    manifest : mapping
        The version's file; whatever it holds is shown, and nothing of it is required.
    evidence, periods
        The evidence judged and the start of each of its periods, for a plot of what was earned.
    """
    title = f"Gates: {_named(report, manifest)}"
    return document(
        title,
        [
            f"<h1>{escape(title)} {outcome_mark(str(report.outcome))}</h1>",
            f'<p class="decision">{escape(_decision(report))}</p>',
            _who_and_when(manifest),
            table(report.table()),
            "<p>A figure must be strictly beyond its threshold; the drawdown gate judges its "
            "bound. Bounds are one-sided, 95 %.</p>",
            *_earned(evidence, periods),
            "<h2>Beside the verdicts</h2>",
            table(report.context.table()),
            "<h2>What was judged</h2>",
            table([("fact", "value"), *_facts(report, manifest)]),
            "<details><summary>"
            f"Policy {escape(report.policy.version)}: thresholds and conventions</summary>",
            table([("setting", "value"), *_policy(report)]),
            "</details>",
        ],
    )


def write_gate_page(
    path: Path,
    report: Report,
    manifest: Mapping[str, Any],
    *,
    evidence: Evidence | None = None,
    periods: Sequence[object] = (),
) -> Path:
    """Write `report_html` to a file; it appears whole or not at all."""
    return write_document(report_html(report, manifest, evidence=evidence, periods=periods), path)


def report_markdown(report: Report, manifest: Mapping[str, Any]) -> str:
    """Return the same, without plot and policy, as the markdown that Prefect shows."""
    return "\n\n".join(
        [
            f"# {_named(report, manifest)}: {report.outcome}",
            _decision(report),
            _pipes(report.table()),
            _pipes(report.context.table()),
            _pipes([("fact", "value"), *_facts(report, manifest)]),
            f"Policy {report.policy.version}.",
        ]
    )


def _named(report: Report, manifest: Mapping[str, Any]) -> str:
    model = manifest.get("model") or report.evidence.get("model") or "a model"
    version = manifest.get("version")
    return f"{model}/{version}" if version is not None else str(model)


def _decision(report: Report) -> str:
    if report.passed:
        return "Every gate passed: it may become a shadow."
    held = [verdict.name for verdict in report.verdicts if not verdict.passed]
    return f"Rejected: {', '.join(held) or 'no gate'} did not pass. It goes no further."


def _who_and_when(manifest: Mapping[str, Any]) -> str:
    who, when = manifest.get("judged_by"), manifest.get("judged_at")
    return f"<p>Judged by {escape(str(who))} at {escape(str(when))}.</p>" if who or when else ""


def _earned(evidence: Evidence | None, periods: Sequence[object]) -> list[str]:
    if evidence is None or len(periods) != evidence.n_periods or not len(periods):
        return []
    drawn = draw_equity(
        list(periods), evidence.selected_returns, "Walk-forward, out of sample, net of costs"
    )
    return [drawn]


def _facts(report: Report, manifest: Mapping[str, Any]) -> list[tuple[str, str]]:
    plan = manifest.get("plan") or {}
    known = {name: value for name, value in manifest.items() if name not in _NOT_FACTS}
    if plan:
        known["feature view"] = plan.get("view")
        known["features taken"] = plan.get("features")
    seen = {f"evidence {name}": value for name, value in report.evidence.items()}
    return [(name.replace("_", " "), figure(value)) for name, value in (known | seen).items()]


def _policy(report: Report) -> list[tuple[str, str]]:
    fields = report.policy.as_dict()
    words = fields.pop("conventions")
    rows = [*fields.items(), *words.items()]
    return [(name.replace("_", " "), figure(value)) for name, value in rows]


def _pipes(rows: Sequence[Sequence[str]]) -> str:
    head, *body = rows
    lines = [head, ["---"] * len(head), *body]
    return "\n".join(f"| {' | '.join(_cell(cell) for cell in line)} |" for line in lines)


def _cell(text: str) -> str:
    # A bar would end the cell, and Prefect renders raw HTML.
    return escape(text, quote=False).replace("|", "\\|").replace("\n", " ")
