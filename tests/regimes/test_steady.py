"""What is told does not flicker: bounds that hold for any rows, and a restart that changes none."""

import itertools
import json
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atlas.errors import ArtifactCorrupt, InvalidInput
from atlas.regimes import Held, Steadied, Steadier, SteadyRules

MINUTE_US = 60_000_000
HOUR_US = 60 * MINUTE_US
LOOSE = SteadyRules(min_dwell=timedelta(0))


@st.composite
def streams(draw: st.DrawFn) -> list[tuple[int, list[float] | None]]:
    """Rows some minutes apart, each with odds of three regimes that often leave no doubt."""
    n = draw(st.integers(0, 60))
    event_us, rows = 0, []
    for _ in range(n):
        event_us += draw(st.integers(1, 20)) * MINUTE_US // draw(st.integers(1, 4))
        weights = [draw(st.sampled_from((0.0, 0.1, 1.0, 10.0))) for _ in range(3)]
        total = sum(weights)
        odds = [weight / total for weight in weights] if total else None
        rows.append((event_us, odds))
    return rows


@st.composite
def any_rules(draw: st.DrawFn) -> SteadyRules:
    return SteadyRules(
        min_confidence=draw(st.sampled_from((0.4, 0.7, 0.95))),
        margin=draw(st.sampled_from((0.0, 0.1, 0.5))),
        min_dwell=timedelta(minutes=draw(st.sampled_from((0, 7, 90)))),
        max_changes=draw(st.integers(1, 10)),
    )


def told(rules: SteadyRules, rows: list[tuple[int, list[float] | None]]) -> list[Steadied]:
    steadier = Steadier(rules)
    return [steadier.update(*row) for row in rows]


def slow(
    rules: SteadyRules, rows: list[tuple[int, list[float] | None]]
) -> list[tuple[int | None, Held | None]]:
    """Return the regime told after each row and what held another back, from all rows before."""
    found: list[tuple[int | None, Held | None]] = []
    changes: list[tuple[int, int]] = []
    for event_us, odds in rows:
        regime = changes[-1][1] if changes else None
        if odds is None:
            found.append((regime, Held.INPUTS))
            continue
        best = odds.index(max(odds))
        recent = [at for at, _ in changes if event_us - HOUR_US < at <= event_us]
        held = None
        if best != regime:
            if odds[best] < rules.min_confidence:
                held = Held.CONFIDENCE
            elif regime is not None and odds[best] - odds[regime] < rules.margin:
                held = Held.MARGIN
            elif regime is not None and event_us - changes[-1][0] < (
                rules.min_dwell // timedelta(microseconds=1)
            ):
                held = Held.DWELL
            elif regime is not None and len(recent) >= rules.max_changes:
                held = Held.CHANGES
            else:
                changes.append((event_us, best))
                regime = best
        found.append((regime, held))
    return found


@settings(max_examples=60, deadline=None)
@given(any_rules(), streams())
def test_what_is_told_is_what_all_rows_before_say(rules: SteadyRules, rows: Any) -> None:
    assert [(one.regime, one.held) for one in told(rules, rows)] == slow(rules, rows)


@settings(max_examples=60, deadline=None)
@given(streams())
def test_there_are_never_more_than_ten_changes_in_any_hour(rows: Any) -> None:
    rules = SteadyRules(min_confidence=0.4, margin=0.0, min_dwell=timedelta(0))
    changes = [at for (at, _), one in zip(rows, told(rules, rows), strict=True) if one.changed]
    assert all(sum(end - HOUR_US < at <= end for at in changes) <= 10 for end in changes), changes


def test_the_eleventh_change_within_an_hour_waits_for_the_first_to_be_an_hour_old() -> None:
    rows = [(at * MINUTE_US, [1.0, 0.0] if at % 2 else [0.0, 1.0]) for at in range(1, 65)]
    found = told(LOOSE, rows)
    changed = [at // MINUTE_US for (at, _), one in zip(rows, found, strict=True) if one.changed]
    assert changed == [*range(1, 11), 61, 62, 63, 64]
    assert found[10].held is Held.CHANGES


@settings(max_examples=60, deadline=None)
@given(any_rules(), streams())
def test_no_change_is_told_below_the_confidence_or_within_the_dwell(
    rules: SteadyRules, rows: Any
) -> None:
    found = told(rules, rows)
    changed = [(at, odds, one) for (at, odds), one in zip(rows, found, strict=True) if one.changed]
    assert all(odds[one.regime] >= rules.min_confidence for _, odds, one in changed)
    gaps = [later[0] - one[0] for one, later in itertools.pairwise(changed)]
    assert all(timedelta(microseconds=gap) >= rules.min_dwell for gap in gaps)


@settings(max_examples=60, deadline=None)
@given(any_rules(), streams(), st.data())
def test_a_restart_in_the_middle_changes_nothing(
    rules: SteadyRules, rows: Any, data: st.DataObject
) -> None:
    cut = data.draw(st.integers(0, len(rows)))
    first = Steadier(rules)
    before = [first.update(*row) for row in rows[:cut]]
    again = Steadier(rules).restore(json.loads(json.dumps(first.snapshot())))
    after = [again.update(*row) for row in rows[cut:]]
    whole = Steadier(rules)
    assert before + after == [whole.update(*row) for row in rows]
    assert again.snapshot() == whole.snapshot()


def test_a_regime_that_hardly_leads_does_not_displace_the_present_one() -> None:
    rules = SteadyRules(min_confidence=0.4, margin=0.1, min_dwell=timedelta(0))
    found = told(rules, [(1, [0.9, 0.1]), (2, [0.45, 0.5]), (3, [0.3, 0.5])])
    assert [(one.regime, one.held) for one in found] == [(0, None), (0, Held.MARGIN), (1, None)]


def test_a_row_is_read_once() -> None:
    steadier = Steadier(LOOSE)
    steadier.update(5, [1.0, 0.0])
    with pytest.raises(InvalidInput, match="a row after 5; found one of 5"):
        steadier.update(5, [0.0, 1.0])


@pytest.mark.parametrize(
    "damage", [{"format": "x"}, {"regime": "0"}, {"changes_us": [0.5]}, {"confidence": "high"}]
)
def test_what_is_no_snapshot_is_refused(damage: dict[str, Any]) -> None:
    steadier = Steadier(LOOSE)
    steadier.update(5, [1.0, 0.0])
    with pytest.raises(ArtifactCorrupt):
        Steadier(LOOSE).restore({**steadier.snapshot(), **damage})


@pytest.mark.parametrize(
    "odd",
    [
        {"min_confidence": 0.0},
        {"margin": 1.0},
        {"max_changes": 0},
        {"min_dwell": timedelta(seconds=-1)},
    ],
)
def test_rules_that_bound_nothing_are_refused(odd: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput):
        SteadyRules(**odd)
