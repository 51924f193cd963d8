"""The strategy decides from observations alone: so a test is a list of them."""

from datetime import timedelta
from typing import Any

import pytest

from atlas.deployment import Conclusion, Intent, Observation, Outcome, shadow_then_switch
from atlas.serving import Stage

SHADOW, LIVE = Intent(7, Stage.SHADOW), Intent(7, Stage.LIVE)


def seen(rows: int = 0, **more: Any) -> Observation:
    return Observation(rows=rows, **{"workers": 1, "latency_p99_us": 800.0, **more})


def play(observations: list[Observation], **options: Any) -> tuple[list[Intent], Conclusion]:
    """Run the strategy through the observations to its end."""
    strategy = shadow_then_switch(7, **{"min_rows": 10, **options})
    intents = [next(strategy)]
    for observation in observations[:-1]:
        intents.append(strategy.send(observation))
    with pytest.raises(StopIteration) as end:
        strategy.send(observations[-1])
    return intents, end.value.value


def test_a_healthy_candidate_is_watched_then_switched() -> None:
    intents, conclusion = play([seen(0), seen(9), seen(10), seen(12)])
    assert intents == [SHADOW, SHADOW, SHADOW, LIVE]
    assert conclusion.outcome is Outcome.PROMOTED
    assert conclusion.why == "10 rows as a shadow, 0 errors; 1 workers serve it."


def test_evidence_that_is_there_already_counts() -> None:
    intents, conclusion = play([seen(5_000), seen(5_000)])
    assert intents == [SHADOW, LIVE]
    assert conclusion.outcome is Outcome.PROMOTED


@pytest.mark.parametrize(
    ("breach", "why"),
    [
        ({"errors": 2}, "2 of 12 predictions failed"),
        ({"latency_p99_us": 100_001.0}, "latency is 100.0 ms"),
        ({"latency_p99_us": float("nan")}, "latency is nan ms"),
        ({"refusals": ("golden rows differ",), "workers": 0}, "golden rows differ"),
    ],
)
@pytest.mark.parametrize("when", ["as a shadow", "with enough rows", "live"])
def test_a_breach_takes_it_back_whenever_it_comes(
    breach: dict[str, Any], why: str, when: str
) -> None:
    before = {"as a shadow": [seen(3)], "with enough rows": [seen(3)], "live": [seen(10)]}[when]
    intents, conclusion = play([*before, seen(10, **breach)])
    assert conclusion.outcome is Outcome.ROLLED_BACK
    assert why in conclusion.why
    assert intents[-1] == (LIVE if when == "live" else SHADOW)


def test_few_errors_among_many_rows_are_borne() -> None:
    _, conclusion = play([seen(990, errors=10), seen(990, errors=10)])
    assert conclusion.outcome is Outcome.PROMOTED


def test_patience_ends_and_says_what_was_missing() -> None:
    late = timedelta(minutes=31)
    intents, conclusion = play([seen(3), seen(9, waited=late)])
    assert intents == [SHADOW, SHADOW]
    assert conclusion == Conclusion(
        Outcome.ROLLED_BACK,
        "It predicted 9 rows in 1860 s; expected 10. Check that features arrive, or ask for "
        "fewer rows.",
    )


def test_without_any_worker_it_says_so() -> None:
    _, conclusion = play([seen(0, workers=0, waited=timedelta(minutes=30))])
    assert "No worker serves it" in conclusion.why


def test_the_last_moment_of_patience_still_counts() -> None:
    intents, conclusion = play([seen(10, waited=timedelta(hours=9)), seen(10)])
    assert intents == [SHADOW, LIVE]
    assert conclusion.outcome is Outcome.PROMOTED


@pytest.mark.parametrize(
    ("agreement", "outcome"),
    [(0.79, Outcome.ROLLED_BACK), (0.80, Outcome.PROMOTED), (None, Outcome.PROMOTED)],
)
def test_disagreement_with_the_live_version_takes_it_back_where_asked(
    agreement: float | None, outcome: Outcome
) -> None:
    observations = [seen(10, agreement=agreement)]
    if outcome is Outcome.PROMOTED:
        observations.append(seen(10))
    assert play(observations, min_agreement=0.8)[1].outcome is outcome


def test_the_switch_waits_until_every_worker_has_answered() -> None:
    intents, conclusion = play(
        [seen(10), seen(10, workers=0), seen(10, workers=1, waiting=1), seen(10, workers=2)]
    )
    assert intents == [SHADOW, LIVE, LIVE, LIVE]
    assert "2 workers serve it" in conclusion.why


@pytest.mark.parametrize("stuck", [{"workers": 0}, {"workers": 1, "waiting": 1}])
def test_a_switch_that_workers_do_not_follow_is_taken_back(stuck: dict[str, int]) -> None:
    slow = seen(10, waited=timedelta(seconds=30), **stuck)
    intents, conclusion = play([seen(10), slow])
    assert intents == [SHADOW, LIVE]
    assert conclusion.outcome is Outcome.ROLLED_BACK
    assert "After 30 s" in conclusion.why


def test_one_worker_that_refuses_the_switch_is_enough_to_take_it_back() -> None:
    mixed = seen(10, workers=2, refusals=("blob is corrupt",))
    _, conclusion = play([seen(10), mixed])
    assert conclusion == Conclusion(Outcome.ROLLED_BACK, "Refused by 1 workers: blob is corrupt")
