"""Interval mode: rows that nobody told of become signals too, each once."""

import time
from collections.abc import Iterator
from datetime import timedelta

import pytest
from serving_desk import Desk, Face, eventually, last_minute, running, trained, unused_port

from atlas.bus import revoke
from atlas.config import Settings
from atlas.serving import Stage

SYMBOLS = ("A", "B")
TWENTIETH = timedelta(milliseconds=50)


@pytest.fixture
def looking(desk: Desk, settings: Settings) -> Iterator[Face]:
    """A worker that looks for rows twenty times a second."""
    with running(settings.model_copy(update={"worker_interval": TWENTIETH})) as face:
        desk.permit()
        desk.route(1, desk.manifest(1, Stage.LIVE, symbols=SYMBOLS))
        eventually(face.leads)
        yield face


def settled(face: Face) -> None:
    """Wait until several rounds have passed."""
    reached = face.metric("predictions_total")
    for _ in range(10):
        assert face.metric("predictions_total") == reached
        time.sleep(0.05)


def test_a_row_that_nobody_told_of_is_said_once(desk: Desk, looking: Face) -> None:
    event_us, rows = last_minute(), desk.rows(4)
    for i in range(2):
        desk.feed(SYMBOLS, event_us + i, rows[2 * i : 2 * i + 2], notify=False)
        eventually(lambda n=2 * i + 2: desk.n_signals() == n)
        settled(looking)
    found = sorted((s.event_us, s.symbol, s.score) for s in desk.signals())
    assert found == [
        (event_us + i, symbol, trained(1).score(rows[2 * i + at]))
        for i in range(2)
        for at, symbol in enumerate(SYMBOLS)
    ]
    eventually(lambda: len(desk.recorded()) == 4)


def test_rows_that_are_told_of_too_are_said_and_recorded_once(desk: Desk, looking: Face) -> None:
    event_us = last_minute()
    for i in range(5):
        desk.feed(SYMBOLS, event_us + i, desk.rows(2, seed=i))
    eventually(lambda: desk.unfinished() == 0)
    settled(looking)
    said = [(s.symbol, s.event_us) for s in desk.signals()]
    assert len(said) == len(set(said))
    assert len(desk.recorded()) == len(said) == 10


def test_a_row_that_met_a_halt_is_not_asked_of_again(desk: Desk, looking: Face) -> None:
    revoke(desk.redis)
    event_us = last_minute()
    desk.feed(SYMBOLS, event_us, desk.rows(2), notify=False)
    eventually(lambda: len(desk.recorded()) == 2)
    settled(looking)
    assert [record["published"] for record in desk.recorded()] == [False, False]
    assert desk.n_signals() == 0


def test_symbols_that_the_model_was_not_trained_on_are_not_looked_for(
    desk: Desk, looking: Face
) -> None:
    desk.feed(["A", "OTHER"], last_minute(), desk.rows(2), notify=False)
    eventually(lambda: desk.n_signals() == 1)
    settled(looking)
    assert [s.symbol for s in desk.signals()] == ["A"]


def test_two_workers_tell_of_a_row_once(desk: Desk, looking: Face, settings: Settings) -> None:
    other = settings.model_copy(update={"worker_port": unused_port(), "worker_interval": TWENTIETH})
    with running(other) as second:
        eventually(lambda: second.leads() and looking.leads())
        for i in range(5):
            desk.feed(SYMBOLS, last_minute() + i, desk.rows(2, seed=i), notify=False)
            eventually(lambda n=2 * i + 2: desk.n_signals() == n)
        settled(second)
        assert len(desk.recorded()) == 10
