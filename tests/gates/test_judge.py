"""The gates together: skill goes on, and luck, danger and broken evidence do not."""

import json
import math
import re
from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import atlas.gates
from atlas.errors import InvalidInput
from atlas.gates import Evidence, Outcome, judge
from atlas.stats import automatic_block, max_drawdown, overfitting_probability, overfitting_study

GATES = ["win_rate", "walk_forward", "overfitting", "drawdown", "accuracy", "sharpe"]
FIELDS = ["trial_returns", "trade_returns", "in_sample", "out_of_sample", "hits"]


def outcomes(report):
    return {verdict.name: str(verdict.outcome) for verdict in report.verdicts}


def test_planted_skill_passes_every_gate(skilled):
    report = judge(skilled)
    assert outcomes(report) == dict.fromkeys(GATES, "PASS")
    assert (report.passed, report.outcome) == (True, Outcome.PASS)


@pytest.mark.parametrize("seed", range(5))
def test_noise_fails(build, quick, seed):
    rng = np.random.default_rng(seed)
    noise = rng.normal(0, 0.003, (1_440, 12))
    best = noise.mean(axis=0).argmax()
    lucky = build(noise[:, best], np.delete(noise, best, axis=1), hit_rate=0.5)
    report = judge(lucky, quick)
    assert report.outcome is Outcome.FAIL
    assert not report["win_rate"].passed


def test_many_small_wins_and_a_rare_large_loss_fail_at_the_drawdown_alone(build, quick):
    """A book that sells options: everything looks fine until it does not."""
    rng = np.random.default_rng(7)
    premium = rng.uniform(0.0006, 0.0014, 1_440)
    premium[[100, 700, 1_300]] = -0.22  # two in sample and two out of sample
    report = judge(build(premium, rng.normal(-0.001, 0.003, (1_440, 11)), hit_rate=0.95), quick)
    assert outcomes(report) == dict.fromkeys(GATES, "PASS") | {"drawdown": "FAIL"}
    assert report.outcome is Outcome.FAIL


@settings(max_examples=15, deadline=None)
@given(
    field=st.sampled_from(FIELDS),
    bad=st.sampled_from([math.nan, math.inf, -math.inf]),
    place=st.integers(0, 10**6),
)
def test_no_evidence_with_a_hole_ever_passes(skilled, quick, field, bad, place):
    value = getattr(skilled, field)
    if isinstance(value, tuple):
        broken = tuple(window.copy() for window in value)
        window = broken[place % len(broken)]
        window[place % window.size] = bad
    else:
        broken = value.astype(float)
        broken.flat[place % broken.size] = math.nan if field == "hits" else bad
    report = judge(replace(skilled, **{field: broken}), quick)
    readers = {
        "trial_returns": "overfitting",
        "trade_returns": "win_rate",
        "in_sample": "walk_forward",
        "out_of_sample": "walk_forward",
        "hits": "accuracy",
    }
    verdict = report[readers[field]]
    assert report.outcome is Outcome.FAIL
    assert (verdict.outcome, math.isnan(verdict.value)) == (Outcome.FAIL, True)
    assert "NaN or infinite" in verdict.reason
    assert json.dumps(report.as_dict(), allow_nan=False)


def test_evidence_that_is_all_holes_is_still_a_report(skilled, quick):
    holes = replace(
        skilled,
        trial_returns=np.full((1_440, 12), math.nan),
        trade_returns=np.full(500, math.nan),
        in_sample=(np.full(9, math.nan),),
        out_of_sample=(np.full(9, math.nan),),
        hits=np.full(500, math.nan),
    )
    report = judge(holes, quick)
    assert outcomes(report) == dict.fromkeys(GATES, "FAIL")
    assert json.dumps(report.as_dict(), allow_nan=False)


def test_empty_evidence_never_passes_and_never_raises(quick):
    nothing = Evidence(
        trial_returns=np.empty((0, 1)),
        selected=0,
        in_sample=(),
        out_of_sample=(),
        trade_returns=np.empty(0),
        hits=np.empty(0, dtype=bool),
        period=timedelta(hours=1),
    )
    report = judge(nothing, quick)
    assert [v.name for v in report.verdicts if v.passed] == []
    assert json.dumps(report.as_dict(), allow_nan=False)


@settings(max_examples=25, deadline=None)
@given(scale=st.sampled_from([1e-320, 1e-200, 1.0, 1e200, 1e308]), seed=st.integers(0, 99))
def test_absurd_but_finite_evidence_never_raises(quick, scale, seed):
    rng = np.random.default_rng(seed)
    returns = rng.choice([-1.0, 0.0, 1.0], (64, 3)) * scale
    evidence = Evidence(
        trial_returns=returns,
        selected=int(rng.integers(3)),
        in_sample=(returns[:, 0],),
        out_of_sample=(returns[:, 1],),
        trade_returns=returns[:, 2],
        hits=returns[:, 0] > 0,
        forecasts=returns[:, 0],
        targets=returns[:, 1],
        period=timedelta(days=1),
    )
    report = judge(evidence, replace(quick, r2=0.1, mse=0.1, min_trades=1, min_rows_per_block=1))
    assert not report.passed
    assert json.dumps(report.as_dict(), allow_nan=False)


def test_one_inconclusive_gate_holds_the_model_back(changed, quick):
    report = judge(changed(hits=np.ones(10, dtype=bool)), quick)
    assert (report.outcome, report.passed) == (Outcome.INCONCLUSIVE, False)


def test_a_failure_outweighs_what_is_inconclusive(changed, quick):
    report = judge(changed(hits=np.ones(10, dtype=bool), trade_returns=np.full(500, -0.1)), quick)
    assert report.outcome is Outcome.FAIL


def test_a_report_without_verdicts_does_not_pass(skilled, quick):
    empty = replace(judge(skilled, quick), verdicts=())
    assert not empty.passed


def test_returns_of_another_period_fail_every_gate(changed, quick):
    report = judge(changed(period=timedelta(minutes=1)), quick)
    assert outcomes(report) == dict.fromkeys(GATES, "FAIL")
    assert "Resample" in report["win_rate"].reason


def test_the_same_evidence_gives_the_same_report(skilled, quick):
    assert judge(skilled, quick).as_dict() == judge(skilled, quick).as_dict()


def test_the_digest_changes_with_any_figure(skilled, changed):
    moved = skilled.trade_returns.copy()
    moved[17] += 1e-12
    digests = {
        skilled.digest,
        changed(trade_returns=moved).digest,
        changed(selected=1).digest,
        changed(in_sample=skilled.out_of_sample, out_of_sample=skilled.in_sample).digest,
        changed(period=timedelta(days=1)).digest,
    }
    assert len(digests) == 5
    assert changed(model="another").digest == skilled.digest


def test_the_report_is_json_and_names_its_evidence_and_policy(skilled, quick):
    report = json.loads(json.dumps(judge(skilled, quick).as_dict(), allow_nan=False))
    assert report["outcome"] == "PASS"
    assert [verdict["name"] for verdict in report["verdicts"]] == GATES
    assert report["evidence"]["model"] == "xgboost_BTC_20241205_120000"
    assert report["evidence"]["data_range"][0] == "2024-01-01T00:00:00+00:00"
    assert re.fullmatch("[0-9a-f]{64}", report["evidence"]["digest"])
    assert report["policy"]["version"] == "2"
    assert report["policy"]["return_periods"] == [3600.0, 86400.0]


def test_the_table_has_a_row_for_every_gate(skilled, quick):
    heading, *rows = judge(skilled, quick).table()
    assert heading == ("gate", "outcome", "value", "threshold", "bound", "n", "reason")
    assert [row[0] for row in rows] == GATES
    assert {len(row) for row in rows} == {len(heading)}


def test_the_context_is_measured_on_the_evidence(skilled, quick):
    figures = judge(skilled, quick).context
    study = overfitting_study(skilled.trial_returns)
    trials = skilled.trial_returns
    pairs = np.corrcoef(trials.T)[np.triu_indices(12, 1)]
    won, lost = trials[trials[:, 0] > 0, 0].mean(), -trials[trials[:, 0] <= 0, 0].mean()
    stitched = np.concatenate(skilled.out_of_sample)
    assert figures.loss_probability == study.loss_probability
    assert figures.overfitting_by_blocks == {
        blocks: overfitting_probability(trials, n_blocks=blocks) for blocks in (8, 10, 16)
    }
    assert figures.mean_trial_correlation == pytest.approx(pairs.mean())
    assert figures.out_of_sample_t == pytest.approx(
        stitched.mean() / stitched.std(ddof=1) * math.sqrt(stitched.size)
    )
    assert figures.mean_block == automatic_block(trials[:, 0])
    stressed = trials[:, 0].copy()
    stressed[stressed.argmin()] *= 2
    assert figures.max_drawdown == max_drawdown(trials[:, 0])
    assert figures.max_drawdown_stressed == max_drawdown(stressed)
    assert figures.break_even_win_rate == pytest.approx(lost / (won + lost))
    assert figures.win_rate_lower == judge(skilled, quick)["win_rate"].bound
    assert figures.accuracy_lower == judge(skilled, quick)["accuracy"].bound
    assert 0.99 < figures.deflated_sharpe < figures.probabilistic_sharpe <= 1


def test_the_context_is_told_in_words_with_every_figure(skilled, quick):
    figures = judge(skilled, quick).context
    heading, *rows = figures.table()
    blocks = [name for name, _ in rows if name.startswith("probability of overfitting")]
    assert [int(name.split()[3]) for name in blocks] == [8, 10, 16]
    assert len(rows) == len(figures.as_dict()) - 1 + len(blocks)
    assert {len(row) for row in rows} == {len(heading)}
    assert "cannot be told" not in {value for _, value in rows}


def test_a_figure_that_cannot_be_told_says_so(changed, quick):
    rows = dict(judge(changed(trade_returns=[0.01] * 500), quick).context.table())
    assert rows["win rate at which trades of these sizes break even"] == "cannot be told"


def test_clones_amount_to_one_trial(build, quick):
    rng = np.random.default_rng(5)
    one = rng.normal(0.001, 0.003, 1_440)
    clones = one[:, None] + rng.normal(0, 1e-6, (1_440, 19))
    figures = judge(build(one, clones), quick).context
    assert figures.mean_trial_correlation == pytest.approx(1.0, abs=1e-4)
    assert figures.effective_trials == pytest.approx(1.0, abs=0.01)


def test_the_context_shows_what_independent_draws_hide(build, quick):
    """Losses that come in clusters, and one loss that was only half as bad as the next may be."""
    rng = np.random.default_rng(6)
    clustered = np.where(np.arange(1_440) % 240 < 20, -0.006, 0.0025) + rng.normal(0, 0.001, 1_440)
    clustered[700] = -0.1
    figures = judge(build(clustered, rng.normal(0, 0.003, (1_440, 11))), quick)
    verdict = figures["drawdown"]
    assert figures.context.mean_block > 5
    assert figures.context.breach_independent < verdict.value < figures.context.breach_stressed


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("trial_returns", np.zeros(5)),
        ("trial_returns", [[0.1], [0.1, 0.2]]),
        ("selected", 12),
        ("selected", -1),
        ("selected", 0.5),
        ("in_sample", (np.zeros(3),)),
        ("trade_returns", np.zeros((3, 1))),
        ("trade_returns", ["won"]),
        ("hits", np.array([1, -1])),
        ("hits", np.zeros((2, 2), dtype=bool)),
        ("period", timedelta(0)),
        ("period", 3_600),
        ("forecasts", np.zeros(3)),
    ],
)
def test_evidence_of_the_wrong_shape_is_refused(changed, field, value):
    with pytest.raises(InvalidInput):
        changed(**{field: value})


def test_a_missing_hit_is_not_taken_for_a_hit(changed, quick):
    """NaN and None become True in a boolean array."""
    verdict = judge(changed(hits=[True] * 500 + [None]), quick)["accuracy"]
    assert verdict.outcome is Outcome.FAIL


def test_evidence_cannot_be_changed_through_its_arrays(skilled):
    with pytest.raises(ValueError, match="read-only"):
        skilled.trial_returns[0, 0] = 1.0


def test_the_names_exported_are_the_names_promised():
    assert atlas.gates.__all__ == sorted(
        [
            "CONVENTIONS",
            "Context",
            "Evidence",
            "GatePolicy",
            "Outcome",
            "Report",
            "Verdict",
            "desk_policy",
            "judge",
        ]
    )
