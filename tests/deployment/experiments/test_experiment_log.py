"""The log of experiments keeps every entry, and lets one of two writers through."""

from __future__ import annotations

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.exc import IntegrityError

from atlas.deployment.experiments import (
    Experiment,
    ExperimentLog,
    Figures,
    Finding,
    Mode,
    Step,
    Verdict,
    design,
)
from atlas.errors import DeploymentRefused, InvalidInput, StaleGeneration

PLAN = design(Mode.SPLIT, variance=4e-6, share=0.25)
SEEN = Verdict(Finding.UNDECIDED, "too soon", Figures(3, difference=0.1 + 0.2))


@pytest.fixture
def log(database_url: str) -> ExperimentLog:
    return ExperimentLog(database_url)


def start(log: ExperimentLog, model: str = "m", challenger: int = 2) -> Experiment:
    return log.start(
        model, champion=1, challenger=challenger, plan=PLAN, since_us=7, who="ada", why="try"
    )


def test_an_experiment_read_again_is_what_was_written(log: ExperimentLog) -> None:
    begun = start(log)
    looked = log.enter(begun, Step.LOOKED, SEEN, who="bob")
    found = log.get(begun.id)
    assert found == looked
    assert (found.plan, found.champion, found.challenger, found.since_us) == (PLAN, 1, 2, 7)
    assert [(e.sequence, e.step, e.who, e.why) for e in log.history(begun.id)] == [
        (1, Step.STARTED, "ada", "try"),
        (2, Step.LOOKED, "bob", "too soon"),
    ]
    assert Figures(**found.last.details["figures"]) == SEEN.figures


def test_the_next_experiment_of_a_model_begins_when_the_last_has_ended(log: ExperimentLog) -> None:
    first, other = start(log), start(log, "other")
    with pytest.raises(DeploymentRefused, match=f"experiment {first.id} is"):
        start(log, challenger=3)
    ended = log.enter(first, Step.ENDED, SEEN, who="ada")
    second = start(log, challenger=3)
    assert [e.id for e in log.all("m")] == [first.id, second.id]
    assert [(e.id, e.ended) for e in log.all()] == [
        (first.id, True),
        (other.id, False),
        (second.id, False),
    ]
    with pytest.raises(StaleGeneration):
        log.enter(ended, Step.LOOKED, SEEN, who="bob")


def test_a_number_that_is_none_is_told(log: ExperimentLog) -> None:
    with pytest.raises(InvalidInput, match="found 77"):
        log.get(77)


@pytest.mark.parametrize(
    "change", ["UPDATE experiments SET who = 'eve'", "DELETE FROM experiments"]
)
def test_no_entry_is_changed_or_deleted(log: ExperimentLog, database_url: str, change: str) -> None:
    start(log)
    engine = create_engine(database_url)
    with pytest.raises(IntegrityError, match="append-only"), engine.begin() as connection:
        connection.execute(text(change))
    engine.dispose()
