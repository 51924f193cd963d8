"""The run report: whole, self-contained, and honest about a simulated market."""

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np

from atlas.fills import Costs
from atlas.gates import Evidence, GatePolicy, judge
from atlas.ingest import MarketRecipe, simulate
from atlas.market import interval_of
from atlas.paper import settle
from atlas.reporting import Judged, Observed, RunReport, write_report
from atlas.serving import Signal, Stage

START = datetime(2024, 1, 1, tzinfo=UTC)


def evidence() -> Evidence:
    rng = np.random.default_rng(0)
    returns = rng.normal(0, 1e-3, (400, 12))
    return Evidence(
        trial_returns=returns,
        selected=0,
        in_sample=(returns[:200, 0],),
        out_of_sample=(returns[200:, 0],),
        trade_returns=returns[:, 0],
        hits=rng.random(500) > 0.5,
        period=timedelta(hours=1),
    )


def run(tmp_path: Path, *, simulated: bool = True) -> str:
    bars = simulate(MarketRecipe(symbols=("SIM_A",), days=1))
    signals = [
        Signal("m", 1, Stage.REJECTED, "SIM_A", int(t.timestamp() * 1e6), 0.7, 1, True, "h", 1)
        for t in bars["event_timestamp"][29:600:30]
    ]
    settled = settle(
        signals,
        bars,
        interval=interval_of("1m"),
        decision_bars=30,
        costs=Costs.crypto_taker(),
    )
    judged = evidence()
    manifest = {
        "plan": {"view": "ohlcv_1m", "features": ["a"]},
        "feature_hash": "h",
        "rows": 5,
        "data_range": ["a", "b"],
        "data_hash": "d" * 64,
        "blob": "b" * 64,
        "run_id": "r",
        "parameters": {"max_depth": 2, "eta": 0.25},
    }
    report = RunReport(
        title="Atlas run report",
        source="<script>alert(1)</script>",
        simulated=simulated,
        decision="m/1 was rejected.",
        facts=[("source", "<script>alert(1)</script>")],
        judged=[
            Judged(
                "m",
                1,
                judged,
                judge(judged, GatePolicy(n_paths=200)),
                manifest,
                [START + timedelta(hours=i) for i in range(400)],
            )
        ],
        observed=Observed("m", 1, Stage.REJECTED, signals, bars, settled, (1.0, 2.0)),
    )
    return write_report(report, tmp_path / "reports" / "run.html").read_text()


def test_the_page_shows_decision_plots_and_every_gate(tmp_path: Path) -> None:
    page = run(tmp_path)
    assert "m/1 was rejected." in page
    assert page.count("<svg") == 3
    gates = ("win_rate", "walk_forward", "overfitting", "drawdown", "accuracy", "sharpe")
    assert all(f"<td>{gate}</td>" in page for gate in gates)
    assert "nobody trades on them" in page


def test_the_page_needs_nothing_from_elsewhere(tmp_path: Path) -> None:
    page = run(tmp_path)
    assert "<script" not in page
    assert not re.findall(r'(?:src|href)="(?!#)', page.replace("xlink:", ""))


def test_a_simulated_market_is_called_one(tmp_path: Path) -> None:
    assert "<b>simulated</b>" in run(tmp_path)
    assert "<b>simulated</b>" not in run(tmp_path, simulated=False)
