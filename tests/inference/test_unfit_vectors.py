"""Which vectors are scored, and what is said of the others."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from serving_desk import HASH, PLAN

from atlas.inference.row_feed import Row
from atlas.inference.vectors import Unusable, choose, judge
from atlas.online import Status, Vectors

N = len(PLAN.features)
STATUSES = st.lists(st.sampled_from(list(Status)), min_size=N, max_size=N)


def vector(**statuses):
    status = [Status.PRESENT] * N
    for name, value in statuses.items():
        status[int(name.removeprefix("at_"))] = value
    return np.array([status], dtype=np.uint8)


def values(status):
    return np.where(status == Status.PRESENT, 1.0, np.nan).astype(np.float32)


@pytest.mark.parametrize(
    ("statuses", "reason"),
    [
        ({}, None),
        ({"at_0": Status.NULL, "at_1": Status.NULL, "at_2": Status.NULL}, None),
        (
            dict.fromkeys(("at_0", "at_1", "at_2", "at_3"), Status.NULL),
            Unusable.NOT_WARM,
        ),
        ({f"at_{i}": Status.NULL for i in range(N)}, Unusable.NOT_WARM),
        ({f"at_{i}": Status.STALE for i in range(N)}, Unusable.STALE),
        ({"at_5": Status.MISSING}, Unusable.MISSING),
        ({"at_0": Status.STALE, "at_5": Status.MISSING}, Unusable.MISSING),
    ],
)
def test_a_vector_is_fit_unless_a_reason_says_not(statuses, reason):
    status = vector(**statuses)
    assert judge(values(status), status) == [reason]


@pytest.mark.parametrize("odd", [np.inf, -np.inf, np.nan])
def test_a_number_that_no_model_takes_is_not_scored(odd):
    row = np.full((1, N), 1.0, dtype=np.float32)
    row[0, 3] = odd
    assert judge(row, vector()) == [Unusable.NOT_FINITE]


@given(st.lists(STATUSES, max_size=8))
def test_vectors_judged_together_are_judged_as_alone(statuses):
    status = np.array(statuses, dtype=np.uint8).reshape(-1, N)
    alone = [judge(values(row[None]), row[None])[0] for row in status]
    assert judge(values(status), status) == alone


def stored(event_us, value=7.0):
    return Vectors(
        np.full((1, N), value), np.zeros((1, N), np.uint8), np.array([event_us], np.int64)
    )


def carried(event_us, value=3.0, *, hash=HASH):
    return Row("A", event_us, hash, np.full(N, value).tobytes())


def chosen(row, vectors, *, now_us=1_000, plan=PLAN):
    return choose([row], vectors, {"A": 0}, plan, now_us=now_us)


def test_the_store_is_believed_about_the_row_that_it_holds():
    assert chosen(carried(500), stored(500)).values.tolist() == [[7.0] * N]


def test_a_row_that_the_store_has_replaced_comes_from_its_notification():
    assert chosen(carried(400), stored(500)).values.tolist() == [[3.0] * N]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (Row("A", 400), Unusable.SUPERSEDED),
        (Row("A", 600), Unusable.MISSING),
        (carried(400, hash="of other features"), Unusable.SUPERSEDED),
        (Row("A", 400, HASH, b"too short"), Unusable.SUPERSEDED),
        (carried(400, np.nan), Unusable.NOT_WARM),
        (carried(400, np.inf), Unusable.NOT_FINITE),
        (Row("B", 500), Unusable.UNREADABLE),
    ],
)
def test_a_row_that_cannot_be_had_is_counted_and_not_guessed(row, reason):
    found = chosen(row, stored(500))
    assert (found.rows, dict(found.unusable)) == ((), {reason: 1})


def test_a_carried_row_is_fresh_to_the_last_microsecond_of_its_time_to_live():
    judged = [
        dict(chosen(carried(400), stored(500), now_us=400 + PLAN.ttl_us + late).unusable)
        for late in (0, 1)
    ]
    assert judged == [{}, {Unusable.STALE: 1}]


@settings(max_examples=25)
@given(st.lists(st.tuples(st.integers(1, 5), st.booleans()), max_size=12))
def test_every_row_is_scored_or_counted(told):
    rows = [carried(event) if carries else Row("A", event) for event, carries in told]
    found = choose(rows, stored(3), {"A": 0}, PLAN, now_us=10)
    expected = [row for row in rows if row.values is not None or row.event_us == 3]
    assert list(found.rows) == expected
    assert found.unusable.total() == len(rows) - len(expected)
    assert found.values.shape == (len(expected), N)
