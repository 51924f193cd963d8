"""Each gate passes, fails, abstains and fails closed, each for its own reason."""

import math
from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest

from atlas.gates import GatePolicy, Outcome, Verdict, judge
from atlas.stats import (
    breach_probability,
    overfitting_probability,
    sharpe_ratio,
    walk_forward_efficiency,
)

PASS, FAIL, INCONCLUSIVE = Outcome.PASS, Outcome.FAIL, Outcome.INCONCLUSIVE


def shares(wins, n):
    """`n` trades of which `wins` made money."""
    return np.where(np.arange(n) < wins, 0.01, -0.01)


# --- G1


@pytest.mark.parametrize(
    ("wins", "n", "outcome"),
    [
        (581, 1_000, PASS),
        (571, 1_000, PASS),
        (570, 1_000, FAIL),  # exactly at the threshold
        (228, 400, FAIL),
        (229, 400, PASS),
        (399, 399, INCONCLUSIVE),
        (0, 0, INCONCLUSIVE),
    ],
)
def test_win_rate(changed, quick, wins, n, outcome):
    verdict = judge(changed(trade_returns=shares(wins, n)), quick)["win_rate"]
    assert (verdict.outcome, verdict.n) == (outcome, n)


def test_win_rate_shows_its_exact_lower_bound(changed, quick):
    verdict = judge(changed(trade_returns=shares(570, 1_000)), quick)["win_rate"]
    assert (verdict.value, verdict.bound) == (0.57, pytest.approx(0.5436, abs=5e-5))


def test_a_trade_that_earned_nothing_is_no_win(changed, quick):
    trades = np.where(np.arange(1_000) < 570, 0.01, 0.0)
    assert judge(changed(trade_returns=trades), quick)["win_rate"].value == 0.57


# --- G2


@pytest.mark.parametrize(
    ("out_of_sample", "outcome"), [(0.0086, PASS), (0.0085, FAIL), (0.0084, FAIL), (-0.01, FAIL)]
)
def test_walk_forward(changed, quick, out_of_sample, outcome):
    windows = {
        "in_sample": tuple(np.full(300, 0.01) for _ in range(5)),
        "out_of_sample": tuple(np.full(70, out_of_sample) for _ in range(5)),
    }
    verdict = judge(changed(**windows), quick)["walk_forward"]
    assert (verdict.outcome, verdict.n) == (outcome, 5)


def test_walk_forward_fails_when_nothing_was_earned_in_sample(changed, quick):
    windows = {"in_sample": (np.full(9, -0.01),), "out_of_sample": (np.full(9, -0.06),)}
    verdict = judge(changed(**windows), quick)["walk_forward"]
    assert verdict.outcome is FAIL
    assert "not positive" in verdict.reason


def test_walk_forward_abstains_without_windows(changed, quick):
    verdict = judge(changed(in_sample=(), out_of_sample=()), quick)["walk_forward"]
    assert verdict.outcome is INCONCLUSIVE


def test_walk_forward_is_the_pooled_efficiency_with_a_bound_below_it(skilled, quick):
    verdict = judge(skilled, quick)["walk_forward"]
    expected = walk_forward_efficiency(skilled.in_sample, skilled.out_of_sample)
    assert verdict.value == expected
    assert verdict.bound < expected


# --- G3


def test_overfitting_passes_where_one_trial_is_truly_better(skilled, quick):
    verdict = judge(skilled, quick)["overfitting"]
    assert (verdict.outcome, verdict.n) == (PASS, 12)
    assert verdict.value == overfitting_probability(skilled.trial_returns)


def test_overfitting_fails_where_the_best_trial_is_luck(changed, quick):
    noise = np.random.default_rng(0).normal(0, 0.003, (1_440, 12))
    assert judge(changed(trial_returns=noise), quick)["overfitting"].outcome is FAIL


def test_overfitting_exactly_at_the_threshold_does_not_pass(skilled, changed):
    noise = np.random.default_rng(0).normal(0, 0.003, (1_440, 12))
    found = overfitting_probability(noise)
    policy = GatePolicy(overfitting=found, n_paths=100)
    assert judge(changed(trial_returns=noise), policy)["overfitting"].outcome is FAIL


def test_overfitting_abstains_on_nine_trials_that_traded(skilled, changed, quick):
    idle = np.hstack([skilled.trial_returns[:, :9], np.zeros((1_440, 20))])
    verdict = judge(changed(trial_returns=idle), quick)["overfitting"]
    assert (verdict.outcome, verdict.n) == (INCONCLUSIVE, 9)


def test_trials_that_never_traded_do_not_flatter_the_winner(changed, quick):
    """Flat returns rank above every loss; the answer is that of the trials that traded."""
    losers = np.random.default_rng(0).normal(-0.0001, 0.003, (1_440, 12))
    padded = np.hstack([losers, np.zeros((1_440, 50))])
    expected = overfitting_probability(losers)
    assert overfitting_probability(padded) != expected
    assert judge(changed(trial_returns=padded), quick)["overfitting"].value == expected


@pytest.mark.parametrize(("n_periods", "outcome"), [(319, INCONCLUSIVE), (320, PASS)])
def test_overfitting_abstains_below_twenty_periods_a_block(
    skilled, changed, quick, n_periods, outcome
):
    recent = changed(trial_returns=skilled.trial_returns[-n_periods:])
    assert judge(recent, quick)["overfitting"].outcome is outcome


# --- G4


def test_drawdown_judges_the_upper_bound_and_not_the_estimate(skilled, changed):
    rng = np.random.default_rng(1)
    risky = changed(trial_returns=rng.normal(0.0003, 0.0062, (1_440, 12)))
    policy = GatePolicy(n_paths=400)
    verdict = judge(risky, policy)["drawdown"]
    stricter = GatePolicy(n_paths=400, drawdown=(verdict.value + verdict.bound) / 2)
    assert 0 < verdict.value < verdict.bound
    assert judge(risky, stricter)["drawdown"].outcome is FAIL
    assert "upper bound" in verdict.reason


def test_drawdown_uses_the_policys_limit_horizon_and_paths(skilled):
    policy = GatePolicy(
        n_paths=500, drawdown_limit=0.02, drawdown_horizon=timedelta(days=10), seed=3
    )
    expected = breach_probability(
        skilled.selected_returns, limit=0.02, horizon=240, n_paths=500, seed=3
    )
    verdict = judge(skilled, policy)["drawdown"]
    assert (verdict.value, verdict.bound) == expected


def test_drawdown_passes_where_a_breach_is_improbable(skilled, quick):
    assert judge(skilled, quick)["drawdown"].outcome is PASS


def test_the_horizon_is_no_longer_than_the_data(changed, quick):
    """252 days are 6 048 hours; the record has 1 440."""
    risky = changed(trial_returns=np.random.default_rng(1).normal(0, 0.004, (1_440, 12)))
    ask = {"limit": 0.2, "n_paths": 1_000}
    expected = breach_probability(risky.selected_returns, horizon=1_440, **ask)
    verdict = judge(risky, quick)["drawdown"]
    assert expected < breach_probability(risky.selected_returns, horizon=6_048, **ask)
    assert (verdict.value, verdict.bound) == expected


def test_a_bound_exactly_at_the_threshold_does_not_pass(skilled, quick):
    bound = judge(skilled, quick)["drawdown"].bound
    policy = GatePolicy(n_paths=1_000, drawdown=bound)
    assert judge(skilled, policy)["drawdown"].outcome is FAIL


# --- G5


@pytest.mark.parametrize(
    ("right", "n", "outcome"),
    [(541, 1_000, PASS), (540, 1_000, FAIL), (500, 1_000, FAIL), (399, 399, INCONCLUSIVE)],
)
def test_accuracy(changed, quick, right, n, outcome):
    verdict = judge(changed(hits=np.arange(n) < right), quick)["accuracy"]
    assert (verdict.outcome, verdict.n) == (outcome, n)


def planted_sharpe(annual, periods_per_year, n=1_440):
    """Returns whose Sharpe ratio is exactly as asked, up to rounding."""
    noise = np.random.default_rng(2).normal(0, 1, n)
    unit = (noise - noise.mean()) / noise.std(ddof=1)
    return 0.002 * (unit + annual / math.sqrt(periods_per_year))


@pytest.mark.parametrize(("annual", "outcome"), [(1.001, PASS), (1.0, FAIL), (0.999, FAIL)])
def test_sharpe_is_annualised_by_the_hours_of_a_market_that_never_closes(
    build, quick, annual, outcome
):
    others = np.random.default_rng(3).normal(0, 0.002, (1_440, 11))
    verdict = judge(build(planted_sharpe(annual, 8_760), others), quick)["sharpe"]
    assert verdict.outcome is outcome
    assert verdict.value == pytest.approx(annual)
    assert verdict.bound < verdict.value


def test_sharpe_of_daily_returns_on_an_exchange_with_hours(build):
    others = np.random.default_rng(3).normal(0, 0.002, (1_440, 11))
    daily = build(planted_sharpe(1.5, 252), others, period=timedelta(days=1))
    policy = GatePolicy(hours_per_year=252 * 24, n_paths=100)
    assert judge(daily, policy)["sharpe"].value == pytest.approx(1.5)


def test_a_selected_trial_that_never_traded_has_no_sharpe(build, quick):
    others = np.random.default_rng(3).normal(0, 0.002, (1_440, 11))
    report = judge(build(np.full(1_440, 0.1), others), quick)
    assert (report["sharpe"].outcome, report["sharpe"].value) == (FAIL, 0.0)
    assert sharpe_ratio(np.full(1_440, 0.1)) == 0.0


@pytest.mark.parametrize(
    ("policy", "outcomes"),
    [
        ({"r2": 0.5, "mse": 0.3}, [PASS, PASS]),  # R2 0.8, MSE 0.25
        ({"r2": 0.8, "mse": 0.25}, [FAIL, FAIL]),
        ({"r2": 0.9, "mse": 0.2}, [FAIL, FAIL]),
    ],
)
def test_regressors_are_judged_where_the_policy_asks(changed, policy, outcomes):
    targets = np.array([0.0, 1.0, 2.0, 3.0])
    regressor = changed(targets=targets, forecasts=targets + np.array([0.5, -0.5, 0.5, -0.5]))
    report = judge(regressor, GatePolicy(n_paths=100, **policy))
    assert [report["r2"].outcome, report["mse"].outcome] == outcomes


def test_a_classifier_is_not_asked_for_a_regressors_errors(skilled, quick):
    """A desk that sets the thresholds trains classifiers too."""
    report = judge(skilled, replace(quick, r2=0.9, mse=1e-9))
    assert [verdict.name for verdict in report.verdicts][-1] == "sharpe"
    assert report.passed


def test_a_regressor_that_kept_no_forecast_fails_where_the_policy_asks(changed, quick):
    empty = changed(forecasts=np.empty(0), targets=np.empty(0))
    verdict = judge(empty, replace(quick, r2=0.0))["r2"]
    assert verdict.outcome is FAIL
    assert "forecast" in verdict.reason


# --- verdicts and policies


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 0.5, 0.5 * (1 + 1e-14)])
def test_no_verdict_passes_at_its_threshold_or_without_a_number(value):
    at = {"threshold": 0.5, "n": 1}
    assert not Verdict.above("gate", value, **at).passed
    assert not Verdict.below("gate", value, **at).passed
    assert not Verdict.below("gate", 0.1, bound=value, **at).passed
    assert not Verdict.below("gate", math.nan, bound=0.1, **at).passed
