"""A strategy decides from observations alone: so a test is a list of them."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atlas.deployment import (
    STRATEGIES,
    Conclusion,
    Intent,
    Observation,
    Outcome,
    Strategy,
    Terms,
    blue_green,
    canary,
    rolling,
    shadow,
)
from atlas.matured import Matured
from atlas.serving import Stage, Traffic

SHADOW, LIVE = Intent(7, Stage.SHADOW), Intent(7, Stage.LIVE)


def seen(rows: int = 0, **more: Any) -> Observation:
    usual = {"workers": 1, "latency_p99_us": 800.0, "predicted": rows, "fleet": ("w1",)}
    return Observation(rows=rows, **{**usual, **more})


def earned(trades: int, drawdown: float = 0.01, shortfall_p: float | None = 0.5) -> Matured:
    return Matured(
        trades=trades,
        win_rate=0.5,
        hours=20,
        mean=1e-4,
        error=1e-4,
        max_drawdown=drawdown,
        net=0.01,
        since_us=1,
        expected=2e-4,
        shortfall_p=shortfall_p,
    )


def play(
    observations: list[Observation],
    strategy: Callable[..., Strategy] = blue_green,
    begun: Traffic | None = None,
    **options: Any,
) -> tuple[list[Intent], Conclusion]:
    """Run the strategy through the observations to its end."""
    walk = strategy(7, Terms(**{"min_rows": 10, **options}), begun=begun)
    intents = [next(walk)]
    for observation in observations[:-1]:
        intents.append(walk.send(observation))
    with pytest.raises(StopIteration) as end:
        walk.send(observations[-1])
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
        ({"matured": earned(5, drawdown=0.11)}, "fell 11.0% below its peak in 5 trades"),
        ({"matured": earned(5, drawdown=float("nan"))}, "fell nan% below"),
        ({"matured": earned(5, shortfall_p=0.001)}, "the chance of so little is 0.10%"),
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
        "As a shadow: It predicted 9 rows in 1860 s; expected 10. Check that features arrive, or "
        "ask for fewer rows.",
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
    assert conclusion == Conclusion(
        Outcome.ROLLED_BACK, "Live: Refused by 1 workers: blob is corrupt"
    )


def test_a_shadow_stays_one() -> None:
    intents, conclusion = play([seen(3), seen(10)], shadow)
    assert intents == [SHADOW, SHADOW]
    assert conclusion == Conclusion(Outcome.HELD, "10 rows as a shadow, 0 errors.")


def part(share: float, *workers: str) -> Intent:
    return Intent(7, Stage.CANARY, Traffic(share, "7", workers))


def test_a_canary_trades_a_tenth_first_and_then_more() -> None:
    intents, conclusion = play([seen(10), seen(9), seen(10), seen(10), seen(10), seen(0)], canary)
    assert intents == [SHADOW, part(0.1), part(0.1), part(0.25), part(0.5), LIVE]
    assert conclusion.outcome is Outcome.PROMOTED


def test_too_few_trades_hold_a_canary_and_never_promote_it() -> None:
    few = seen(500, matured=earned(4), waited=timedelta(minutes=29))
    late = seen(500, matured=earned(4), waited=timedelta(minutes=30))
    intents, conclusion = play(
        [seen(10), seen(0, matured=earned(0)), few, few, late], canary, min_trades=5
    )
    assert set(intents[1:]) == {part(0.1)}
    assert conclusion.outcome is Outcome.ROLLED_BACK
    assert "4 of its trades matured in 1800 s; expected 5" in conclusion.why


def test_each_share_asks_for_trades_of_its_own() -> None:
    told = [0, 5, 5, 9, 10, 10, 15, 15]
    intents, conclusion = play(
        [seen(10), *(seen(10, matured=earned(n)) for n in told)], canary, min_trades=5
    )
    assert intents[1:] == [
        *[part(0.1)] * 2,
        *[part(0.25)] * 3,
        *[part(0.5)] * 2,
        LIVE,
    ]
    assert conclusion.outcome is Outcome.PROMOTED


def test_without_books_a_canary_that_must_trade_is_taken_back() -> None:
    _, conclusion = play([seen(10), seen(10, waited=timedelta(hours=1))], canary, min_trades=5)
    assert "start the paper broker" in conclusion.why


def test_a_canary_keeps_each_share_for_the_time_asked_for() -> None:
    hour = timedelta(hours=1)
    intents, _ = play(
        [seen(10), seen(10), seen(10, waited=hour), seen(10, refusals=("x",))],
        canary,
        min_time=hour,
    )
    assert intents == [SHADOW, part(0.1), part(0.1), part(0.25)]


def test_a_canary_that_was_cut_off_goes_on_from_its_share() -> None:
    intents, conclusion = play([seen(10), seen(10), seen(10)], canary, begun=Traffic(0.25, "7"))
    assert intents == [part(0.25), part(0.5), LIVE]
    assert conclusion.outcome is Outcome.PROMOTED


def test_rolling_moves_worker_by_worker_and_minds_one_that_joins() -> None:
    two, three = ("a", "b"), ("a", "b", "c")
    intents, conclusion = play(
        [seen(10, fleet=two), seen(10, fleet=two), *[seen(10, fleet=three)] * 3], rolling
    )
    assert intents == [
        SHADOW,
        part(0.0, "a"),
        part(0.0, "a", "b"),
        part(0.0, "a", "b", "c"),
        LIVE,
    ]
    assert conclusion.outcome is Outcome.PROMOTED


def test_rolling_that_is_begun_again_is_not_deceived_by_a_blind_look() -> None:
    fleet = ("a", "b")
    intents, _ = play(
        [Observation(), seen(10, fleet=fleet), seen(10, fleet=fleet), seen(10)],
        rolling,
        begun=Traffic(0.0, "7", ("a",)),
    )
    assert intents == [part(0.0, "a"), part(0.0, "a"), part(0.0, "a", "b"), LIVE]


def test_live_it_is_watched_for_the_rows_asked_for() -> None:
    intents, conclusion = play(
        [seen(10), seen(0), seen(4, matured=earned(9, drawdown=0.5))], watched_rows=5
    )
    assert intents == [SHADOW, LIVE, LIVE]
    assert conclusion.outcome is Outcome.ROLLED_BACK


LOOKS = st.builds(
    seen,
    st.integers(0, 20),
    errors=st.sampled_from([0, 0, 0, 3]),
    workers=st.integers(0, 2),
    waiting=st.sampled_from([0, 0, 1]),
    fleet=st.sampled_from([(), ("a",), ("a", "b")]),
    latency_p99_us=st.sampled_from([900.0, 900.0, 2e5, float("nan")]),
    matured=st.one_of(
        st.none(),
        st.builds(earned, st.integers(0, 9), st.sampled_from([0.0, 0.5, float("nan")])),
    ),
    waited=st.sampled_from([timedelta(0), timedelta(minutes=29), timedelta(hours=1)]),
)


@pytest.mark.parametrize("name", STRATEGIES)
@given(looks=st.lists(LOOKS, max_size=30))
def test_whatever_is_seen_nothing_goes_live_without_evidence(
    name: str, looks: list[Observation]
) -> None:
    terms = Terms(min_rows=10, min_trades=3)
    walk = STRATEGIES[name](7, terms)
    intent, last, end = next(walk), seen(), None
    for look in looks:
        last, before = look, intent
        try:
            intent = walk.send(look)
        except StopIteration as stop:
            end = stop.value
            break
        # It moves on only from a look that shows everything and breaks nothing.
        if intent != before:
            assert terms.breach(look) is None
            assert look.rows >= 10
            assert look.workers
    if end is not None and end.outcome is Outcome.PROMOTED:
        assert intent == LIVE
        assert terms.breach(last) is None
        assert last.workers
        assert not last.waiting
