"""The table of how often known skill passes is that of the gates themselves, and reproducible."""

import numpy as np
import pytest

from atlas.gates import judge
from bench.gate_power import DAILY, GATES, HOURLY, POLICY, ROWS, history, row
from bench.gate_power import judge as judge_quickly


@pytest.mark.parametrize(
    ("desk", "skill", "spread"), [(DAILY, 0.5, 0.5), (DAILY, 5.0, 0.5), (HOURLY, 12.0, 2.0)]
)
def test_its_verdicts_are_the_gates_own(desk, skill, spread):
    evidence = history(desk, skill, spread, np.random.default_rng(1))
    report = judge(evidence, POLICY)
    assert judge_quickly(evidence).passed == tuple(report[name].passed for name in GATES)


def test_a_row_is_the_same_each_time():
    place = ROWS.index((DAILY, 0.5, 3.0))
    assert row(place, 2) == row(place, 2)


@pytest.mark.parametrize("desk", [DAILY, HOURLY])
def test_its_histories_have_the_skill_asked_for_and_enough_trades(desk):
    evidence = history(desk, 3.0, 0.0, np.random.default_rng(2))
    years = evidence.n_periods / POLICY.periods_per_year(desk.period)
    pooled = evidence.trial_returns.mean() / evidence.trial_returns.std()
    found = pooled * np.sqrt(POLICY.periods_per_year(desk.period))
    # Half of the noise is common to all trials: so many years tell their mean to this.
    assert found == pytest.approx(3.0, abs=3 / np.sqrt(2 * years))
    assert evidence.trade_returns.size >= POLICY.min_trades
