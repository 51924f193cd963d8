"""An experiment names a winner as rarely and as surely as it was planned to, and never too soon."""

import math
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from scipy.stats import norm

from atlas.deployment.experiments import Arms, Finding, Mode, Plan, design, judge
from atlas.errors import InvalidInput
from bench.experiment_power import DEVIATION, MARKETS, arms, plan_for, play

PLAN = Plan(
    mode=Mode.PAIRED,
    effect=0.001,
    variance=1e-4,
    periods=600,
    min_periods=168,
    error=0.05,
    power=0.8,
    max_drawdown=0.5,
)


def draw(n: int, difference: float, *, seed: int = 1, deviation: float = 0.001) -> Arms:
    rng = np.random.default_rng(seed)
    champion = rng.normal(0.0, deviation, n)
    return Arms(champion, champion + rng.normal(difference, deviation, n))


def first(arms: Arms, n: int) -> Arms:
    return Arms(arms.champion[:n], arms.challenger[:n])


def test_the_planned_size_is_that_of_a_two_sided_test_of_the_mean():
    plan = design(Mode.PAIRED, variance=4e-6, effect=1e-4, error=0.05, power=0.9)
    level = 0.03 / 2  # three fifths are for the end, which is twice as strict
    z = norm.isf(level / 2) + norm.ppf(0.9)
    assert plan.periods == math.ceil(z**2 * 4e-6 / 1e-8)


def test_without_an_effect_a_tenth_of_the_deviation_is_looked_for():
    assert design(Mode.PAIRED, variance=4e-6).effect == pytest.approx(2e-4)


def test_no_plan_is_shorter_than_three_weeks_or_the_least_duration():
    assert design(Mode.PAIRED, variance=4e-6, effect=1.0).periods == 504
    assert design(Mode.PAIRED, variance=4e-6, effect=1.0, min_periods=800).periods == 800


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("variance", 0.0),
        ("variance", math.nan),
        ("effect", -1e-4),
        ("error", 0.0),
        ("power", 1.01),
        ("max_drawdown", 0.0),
        ("share", 1.5),
    ],
)
def test_a_plan_of_nonsense_is_refused(name: str, value: float):
    with pytest.raises(InvalidInput, match=f"^{name}: expected a number above"):
        design(Mode.SPLIT, **{"variance": 4e-6, "share": 0.5, name: value})


def test_the_error_is_split_between_the_looks_and_the_end():
    assert (PLAN.early_error, PLAN.final_error) == pytest.approx((0.01, 0.03))
    assert Plan.of(PLAN.as_dict()) == PLAN


def test_nothing_seen_is_undecided():
    verdict = judge(PLAN, Arms(np.zeros(0), np.zeros(0)))
    assert (verdict.finding, verdict.figures.periods) == (Finding.UNDECIDED, 0)


def test_no_winner_is_named_before_the_least_duration_however_clear():
    clear = draw(600, 0.01)
    findings = [judge(PLAN, first(clear, n)).finding for n in (1, 2, 5, 60, 167, 168)]
    assert findings == [Finding.UNDECIDED] * 5 + [Finding.CHALLENGER]


@pytest.mark.parametrize(
    ("difference", "finding"), [(0.0005, Finding.CHALLENGER), (-0.0005, Finding.CHAMPION)]
)
def test_a_clear_difference_stops_early_and_the_verdict_stays(difference, finding):
    clear = draw(600, difference)
    verdict = judge(PLAN, first(clear, 300))
    assert verdict.finding is finding
    assert "stops early" in verdict.why
    assert verdict.figures.difference == pytest.approx(difference, abs=3e-4)
    assert {judge(PLAN, first(clear, n)).finding for n in range(300, 600, 50)} == {finding}


def test_the_figures_of_every_look_are_those_of_the_record_so_far():
    record = draw(400, 0.0002)
    looks = [judge(PLAN, first(record, n)).figures for n in range(1, 401)]
    assert [look.periods for look in looks] == list(range(1, 401))
    assert all(b.early_p <= a.early_p for a, b in pairwise(looks))
    assert looks[-1].difference == pytest.approx(np.mean(record.challenger - record.champion))
    assert {look.final_p for look in looks} == {None}


def test_the_end_without_a_difference_is_inconclusive_and_stays_so():
    same = draw(700, 0.0)
    ends = [judge(PLAN, first(same, n)) for n in (599, 600, 650, 700)]
    assert [end.finding for end in ends] == [Finding.UNDECIDED] + [Finding.INCONCLUSIVE] * 3
    # What comes after the planned end is not looked at.
    assert len({end.figures.final_p for end in ends[1:]}) == 1
    assert ends[1].figures.periods == ends[3].figures.periods == 600


def test_a_middling_difference_is_found_by_the_sharpe_ratios_at_the_end():
    rng = np.random.default_rng(4)
    plan = replace(PLAN, effect=0.01)  # far from the truth, so looks find nothing
    champion = rng.normal(0.0, 0.001, 600)
    challenger = champion + rng.normal(0.00015, 0.001, 600)
    verdict = judge(plan, Arms(champion, challenger))
    assert verdict.finding is Finding.CHALLENGER
    assert "Sharpe ratio" in verdict.why
    assert verdict.figures.sharpe_difference > 0


def test_a_deep_drawdown_stops_the_challenger_at_once():
    losing = draw(30, 0.0)
    challenger = losing.challenger.copy()
    challenger[-1] = -0.6
    verdict = judge(PLAN, Arms(losing.champion, challenger))
    assert verdict.finding is Finding.BREACHED
    assert "at most 50.0% may be lost" in verdict.why


def test_the_drawdown_is_watched_beyond_the_planned_end_too():
    same = draw(700, 0.0)
    challenger = same.challenger.copy()
    challenger[-1] = -0.6
    assert judge(PLAN, Arms(same.champion, challenger)).finding is Finding.BREACHED


@pytest.mark.parametrize("challenger", [np.zeros(600), "the same"], ids=["stands still", "is one"])
def test_arms_that_cannot_be_compared_name_no_winner(challenger):
    record = draw(600, 0.0)
    other = record.champion.copy() if isinstance(challenger, str) else challenger
    assert judge(PLAN, Arms(record.champion, other)).finding is Finding.INCONCLUSIVE


def test_arms_of_two_lengths_are_refused():
    with pytest.raises(InvalidInput, match="as many returns of one arm"):
        Arms(np.zeros(3), np.zeros(4))


def test_looking_after_every_hour_finds_what_looking_at_the_end_does():
    """The verdict of a look counts all looks before it: nothing depends on when one looks."""
    market = MARKETS[3]
    plan = plan_for(market, 504)
    stopped = 0
    for seed in range(6):
        record = arms(market, plan.periods, 2 * plan.effect, np.random.default_rng(seed))
        looks = [judge(plan, first(record, n)) for n in range(150, plan.periods + 1)]
        named = [look.finding for look in looks if look.finding is not Finding.UNDECIDED]
        assert len(set(named)) <= 1
        assert looks[-1].finding is (named[0] if named else Finding.INCONCLUSIVE)
        stopped += len(named) > 1
    assert stopped > 0


def test_simulated_arms_have_the_means_and_variances_asked_for():
    market = MARKETS[4]
    record = arms(market, 200_000, 0.001, np.random.default_rng(8))
    difference = record.challenger - record.champion
    assert difference.mean() == pytest.approx(0.001, abs=1e-4)
    assert difference.std() == pytest.approx(DEVIATION, rel=0.05)


def most(rate: float, n: int) -> float:
    """Return how many of `n` a rate exceeds about once in a thousand times."""
    return rate * n + 3.1 * math.sqrt(n * rate * (1 - rate))


@pytest.mark.parametrize("market", [MARKETS[0], MARKETS[3]], ids=lambda market: market.name)
def test_false_alarms_are_as_rare_and_effects_found_as_often_as_planned(market):
    n = 100
    null = play(market, 504, n, skilled=False)
    assert null[Finding.CHALLENGER] + null[Finding.CHAMPION] <= most(0.05, n)
    found = play(market, 504, n, skilled=True)
    assert n - found[Finding.CHALLENGER] <= most(0.2, n)


@pytest.mark.slow
@pytest.mark.parametrize("market", MARKETS, ids=lambda market: market.name)
def test_a_thousand_null_experiments_raise_at_most_five_percent_of_false_alarms(market):
    null = play(market, 1_000, 1_000, skilled=False)
    assert null[Finding.CHALLENGER] + null[Finding.CHAMPION] <= 50


@pytest.mark.slow
@pytest.mark.parametrize("market", MARKETS, ids=lambda market: market.name)
def test_a_thousand_experiments_find_the_planned_effect_as_often_as_planned(market):
    n = 1_000
    found = play(market, 1_000, n, skilled=True)
    assert n - found[Finding.CHALLENGER] <= most(0.2, n)
    assert found[Finding.CHAMPION] == 0
