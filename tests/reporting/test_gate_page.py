"""The gates' report: every figure, its bound and its sample, on a page that needs nothing else."""

import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from html import unescape

import numpy as np
import pytest

from atlas.gates import Evidence, GatePolicy, Report, judge
from atlas.reporting import report_html, report_markdown, write_gate_page

QUICK = GatePolicy(n_paths=200)
START = datetime(2024, 1, 1, tzinfo=UTC)
MANIFEST = {
    "model": "direction_ohlcv_1m",
    "version": 3,
    "blob": "b" * 64,
    "data_hash": "d" * 64,
    "feature_hash": "f" * 64,
    "code_version": "0.1.0",
    "judged_by": "<b>mallory</b>",
    "judged_at": "2024-03-01T00:00:00+00:00",
    "plan": {"view": "ohlcv_1m", "features": ["return_24h", "rsi_14"]},
    "golden_rows": [[0.123456789]],
    "parameters": {"max_depth": 2, "eta": 0.25},
}


@pytest.fixture(scope="module")
def evidence() -> Evidence:
    """A year of hours of twelve trials, the first of which is skilled."""
    rng = np.random.default_rng(0)
    returns = rng.normal(0, 1e-3, (720, 12))
    returns[:, 0] += 3e-4
    return Evidence(
        trial_returns=returns,
        selected=0,
        in_sample=(returns[:360, 0],),
        out_of_sample=(returns[360:, 0],),
        trade_returns=returns[:, 0],
        hits=rng.random(500) < 0.6,
        period=timedelta(hours=1),
    )


@pytest.fixture(scope="module")
def report(evidence: Evidence) -> Report:
    return judge(evidence, QUICK)


def cells(page: str) -> list[list[str]]:
    """Return the text of every cell of every row."""
    rows = re.findall(r"<tr>(.*?)</tr>", page)
    return [[unescape(c) for c in re.findall(r"<t[dh][^>]*>(.*?)</t[dh]>", row)] for row in rows]


def test_the_page_has_every_verdict_and_every_figure_beside_them(report):
    rows = cells(report_html(report, MANIFEST))
    assert [list(row) for row in report.table()] == rows[: len(report.verdicts) + 1]
    assert all(list(row) in rows for row in report.context.table())


def test_the_page_says_what_was_judged_by_whom_and_by_which_policy(report):
    rows = cells(report_html(report, MANIFEST))
    for name in ("blob", "data hash", "feature hash", "code version"):
        assert [name, MANIFEST[name.replace(" ", "_")]] in rows
    assert ["features taken", "return_24h, rsi_14"] in rows
    assert ["evidence digest", report.evidence["digest"]] in rows
    assert ["win rate", "0.57"] in rows
    assert any(row[0] == "position of a jump model" for row in rows)


def test_nothing_in_a_manifest_becomes_markup(report):
    page = report_html(report, MANIFEST)
    assert "<b>mallory</b>" not in page
    assert "Judged by &lt;b&gt;mallory&lt;/b&gt; at" in page


def test_the_page_needs_nothing_from_elsewhere_and_plots_what_was_earned(
    evidence, report, tmp_path
):
    hours = [START + timedelta(hours=i) for i in range(720)]
    path = tmp_path / "models" / "gates.html"
    assert write_gate_page(path, report, MANIFEST, evidence=evidence, periods=hours) == path
    page = path.read_text(encoding="utf-8")
    assert page.count("<svg") == 1
    assert "<script" not in page
    assert not re.findall(r'(?:src|href)="(?!#)', page.replace("xlink:", ""))


def test_a_page_without_a_manifest_or_a_plot_is_still_a_page(report):
    page = report_html(report, {})
    assert "<svg" not in page
    assert "Gates: a model" in page


def test_the_decision_names_the_gates_that_hold_a_model_back(evidence, report):
    assert "Every gate passed" in report_html(report, MANIFEST)
    held = judge(replace(evidence, hits=np.zeros(500, dtype=bool)), QUICK)
    assert "Rejected: accuracy did not pass." in report_html(held, MANIFEST)


def test_the_markdown_has_the_same_tables(report):
    lines = report_markdown(report, MANIFEST).splitlines()
    assert lines[0] == "# direction_ohlcv_1m/3: PASS"
    for row in (*report.table(), *report.context.table()):
        assert f"| {' | '.join(row)} |" in lines


def test_a_bar_or_a_tag_in_a_manifest_breaks_no_table(report):
    markdown = report_markdown(report, {**MANIFEST, "judged_by": "a|b <img>"})
    assert "a\\|b &lt;img&gt;" in markdown
