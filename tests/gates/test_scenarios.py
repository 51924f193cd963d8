"""Whole searches of known worth: skill goes on, each fraud is stopped by the gate made for it."""

from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest
from played_market import market, opinion, searched

from atlas.fills import Costs, net_returns, trades
from atlas.gates import Evidence, judge
from atlas.ingest import MarketRecipe

THREE = ("SIM_A", "SIM_B", "SIM_C")
TAKER = Costs.crypto_taker()
PLANTED = MarketRecipe(symbols=THREE, days=30, seed=1)
BARREN = replace(PLANTED, drift_bps_per_hour=0.0)


def held_back(report):
    """The gates that did not pass."""
    return [verdict.name for verdict in report.verdicts if not verdict.passed]


def partly_knowing(rng, known, shares):
    """One rule a share: it takes the known side so often, and any side else."""
    return [
        opinion(np.where(rng.random(known.size) < share, known, rng.choice([-1, 0, 1], known.size)))
        for share in shares
    ]


def test_planted_skill_passes_every_gate_after_a_takers_costs(quick):
    """Rules that see through the drift more or less often."""
    rng, found = np.random.default_rng(0), market(PLANTED)
    rules = partly_knowing(rng, found.regime, 0.25 + 0.06 * np.arange(12))
    report = judge(searched(found, rules, costs=TAKER)[0], quick)
    assert held_back(report) == []


def test_coins_are_rejected_for_what_coins_are(quick):
    """Half of the trades won, half of the labels met, a winner that is luck; hardly any costs."""
    rng, found = np.random.default_rng(0), market(BARREN)
    rules = [opinion(rng.choice([-1, 1], found.regime.size)) for _ in range(12)]
    report = judge(searched(found, rules, costs=Costs.index_fund())[0], quick)
    assert {"win_rate", "accuracy", "overfitting"} <= set(held_back(report))
    assert report["accuracy"].value == pytest.approx(0.5, abs=0.03)
    assert report["win_rate"].value == pytest.approx(0.5, abs=0.03)


def test_features_that_know_the_future_pass_everything_but_the_audit(quick):
    """Nothing in what a leak earns gives it away: that is why features are audited."""
    rng, found = np.random.default_rng(0), market(BARREN)
    label = found.events["label"].to_numpy()
    rules = partly_knowing(rng, label, 0.4 + 0.05 * np.arange(12))
    leaking = searched(found, rules, costs=TAKER)[0]
    audited = replace(leaking, audited=500, leaked=("next_return",))
    assert held_back(judge(leaking, quick)) == []
    assert held_back(judge(audited, quick)) == ["point_in_time"]
    assert "next_return" in judge(audited, quick)["point_in_time"].reason


@pytest.mark.parametrize("seed", range(3))
def test_the_best_of_many_coins_has_a_fine_sharpe_ratio_and_is_caught_as_overfit(quick, seed):
    """The search is the fraud, and one trial shows nothing of it."""
    rng = np.random.default_rng(seed)
    found = market(replace(BARREN, symbols=("SIM_A",), days=24, seed=seed + 1))
    rules = [opinion(rng.choice([-1, 1], found.regime.size)) for _ in range(150)]
    report = judge(searched(found, rules, costs=Costs.index_fund())[0], quick)
    passed = {name for name in ("sharpe", "drawdown") if report[name].passed}
    assert passed == {"sharpe", "drawdown"}
    assert report["sharpe"].value > 5
    assert report["overfitting"].outcome == "FAIL"
    assert report["overfitting"].value > 0.3
    assert report.context.deflated_sharpe < 0.95 < report.context.probabilistic_sharpe


def options_sold(rng, crashes, crash):
    """A book that sells an option every other hour; at the crashes its buyer gains so much.

    The other trials mostly buy, and pay for it: to sell looks like a skill.
    """
    n = 1_440
    option = np.where(np.arange(n) % 2 == 0, -rng.uniform(0.0015, 0.0035, n), 0.0)
    option[crashes] = crash
    sides = rng.choice([-1.0, 1.0], (n, 12), p=[0.25, 0.75]) * (np.arange(n) % 2 == 0)[:, None]
    sides[:, 0] = -1.0 * (np.arange(n) % 2 == 0)
    costs = Costs.index_fund()
    nets = [net_returns(side, option, costs) for side in sides.T]
    windows = tuple(np.array_split(nets[0], 6))
    return Evidence(
        trial_returns=np.column_stack(nets),
        selected=0,
        in_sample=windows[:-1],
        out_of_sample=windows[1:],
        trade_returns=trades(sides[:, 0], nets[0], costs).net,
        hits=option[option != 0] < 0,
        period=timedelta(hours=1),
    )


def test_many_small_wins_and_a_rare_large_loss_pass_the_win_rate_and_fail_at_the_drawdown(quick):
    report = judge(options_sold(np.random.default_rng(7), [200, 700, 1_300], 0.22), quick)
    assert report["win_rate"].value > 0.99
    assert held_back(report) == ["drawdown"]


def test_a_crash_that_the_record_has_not_seen_passes_and_shows_only_under_stress(quick):
    """No figure of a record knows what was not in it; the stressed path tells how much hangs."""
    report = judge(options_sold(np.random.default_rng(7), [700], 0.11), quick)
    assert held_back(report) == []
    assert report.context.breach_stressed > 0.3
    assert report.context.max_drawdown < 0.2 < report.context.max_drawdown_stressed
