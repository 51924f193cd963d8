"""The log of experiments: who began which, every look with all its figures, and how it ended.

Append-only. The entries of a model are numbered without gaps, so of two who act at once one is told
that somebody else moved first.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    Integer,
    Row,
    String,
    Table,
    Text,
    UniqueConstraint,
    func,
    insert,
    select,
)
from sqlalchemy.exc import IntegrityError

from atlas.clock import Clock, WallClock, from_micros, to_micros
from atlas.deployment.experiments.verdict import Finding, Plan, Verdict
from atlas.errors import DeploymentRefused, InvalidInput, StaleGeneration
from atlas.registry.database import SCHEMA, Database

__all__ = ["Experiment", "ExperimentEntry", "ExperimentLog", "Step"]

_TABLE = Table(
    "experiments",
    SCHEMA,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),
    # Of the entry that began it; an experiment's name is the id of its first entry.
    Column("experiment", BigInteger),
    Column("model", Text, nullable=False),
    Column("sequence", BigInteger, nullable=False),
    Column("step", String(16), nullable=False),
    Column("finding", String(16), nullable=False),
    Column("who", Text, nullable=False),
    Column("why", Text, nullable=False),
    Column("at_us", BigInteger, nullable=False),
    Column("details", Text, nullable=False),
    UniqueConstraint("model", "sequence"),
)


class Step(StrEnum):
    """What an entry tells."""

    STARTED = "started"
    LOOKED = "looked"
    DECIDED = "decided"
    """What was found is to be carried out; whoever looks next does so if this was cut off."""
    ENDED = "ended"


@dataclass(frozen=True, slots=True)
class ExperimentEntry:
    """One line of the log."""

    experiment: int
    model: str
    sequence: int
    step: Step
    finding: Finding
    who: str
    why: str
    at: datetime
    details: dict[str, Any]
    """The plan of a start; the figures of a look and of what follows it."""


@dataclass(frozen=True, slots=True)
class Experiment:
    """Where one experiment stands: what its entries say when read from the first."""

    id: int
    model: str
    champion: int
    challenger: int
    plan: Plan
    since_us: int
    """From when on profits count, by the project's clock."""
    began: ExperimentEntry
    last: ExperimentEntry

    @property
    def ended(self) -> bool:
        """Whether it is over, and what it found carried out."""
        return self.last.step is Step.ENDED


class ExperimentLog:
    """The append-only log; any number of processes may write to it.

    Parameters
    ----------
    url : str
        SQLAlchemy's address of the database.
    clock : Clock
        Stamps the entries: the wall, also while a market is replayed.
    """

    def __init__(self, url: str, *, clock: Clock | None = None) -> None:
        self._database = Database(url)
        self._clock = clock or WallClock()

    def start(
        self,
        model: str,
        *,
        champion: int,
        challenger: int,
        plan: Plan,
        since_us: int,
        who: str,
        why: str,
    ) -> Experiment:
        """Begin an experiment; a model has one at a time.

        Raises
        ------
        DeploymentRefused
            If one is running.
        StaleGeneration
            If somebody else began one at the same time.
        """
        details = {
            "champion": champion,
            "challenger": challenger,
            "since_us": since_us,
            "plan": plan.as_dict(),
        }
        sequence = self.free_after(model)
        return _fold(
            (self._append(None, model, sequence, Step.STARTED, _UNDECIDED, who, why, details),)
        )

    def free_after(self, model: str) -> int:
        """Return the number of the model's newest entry, 0 for none.

        Raises
        ------
        DeploymentRefused
            If an experiment of the model is running.
        """
        entries = self._entries(model=model)
        if not entries:
            return 0
        last = entries[-1]
        if last.step is not Step.ENDED:
            raise DeploymentRefused(
                f"Expected no experiment of {model} to be running; experiment {last.experiment} "
                f"is. Wait for its end, or stop it: atlas experiments stop {last.experiment}."
            )
        return last.sequence

    def enter(
        self, experiment: Experiment, step: Step, verdict: Verdict, *, who: str, why: str = ""
    ) -> Experiment:
        """Add what was seen or done; `why` replaces the verdict's own sentence.

        Raises
        ------
        StaleGeneration
            If somebody else has added an entry since the experiment was read.
        """
        entry = self._append(
            experiment.id,
            experiment.model,
            experiment.last.sequence,
            step,
            verdict.finding,
            who,
            why or verdict.why,
            {"figures": verdict.figures.as_dict()},
        )
        return replace(experiment, last=entry)

    def get(self, number: int) -> Experiment:
        """Return one experiment.

        Raises
        ------
        InvalidInput
            If there is none of that number.
        """
        entries = self.history(number)
        if not entries:
            raise InvalidInput(
                f"Expected the number of an experiment; found {number}. "
                "They are listed by: atlas experiments list."
            )
        return _fold(entries)

    def all(self, model: str | None = None) -> tuple[Experiment, ...]:
        """Return the experiments of a model, or of all, oldest first."""
        of: dict[int, list[ExperimentEntry]] = {}
        for entry in self._entries(model=model):
            of.setdefault(entry.experiment, []).append(entry)
        return tuple(_fold(tuple(entries)) for entries in of.values())

    def history(self, number: int) -> tuple[ExperimentEntry, ...]:
        """Return every entry of an experiment, oldest first."""
        return self._entries(number=number)

    def _entries(
        self, *, model: str | None = None, number: int | None = None
    ) -> tuple[ExperimentEntry, ...]:
        at = _TABLE.c
        query = select(_TABLE).order_by(at.id)
        if model is not None:
            query = query.where(at.model == model)
        if number is not None:
            # Only a first entry has no experiment to belong to.
            query = query.where(func.coalesce(at.experiment, at.id) == number)
        with self._database.transaction() as connection:
            return tuple(map(_entry, connection.execute(query)))

    def _append(
        self,
        experiment: int | None,
        model: str,
        after: int,
        step: Step,
        finding: Finding,
        who: str,
        why: str,
        details: dict[str, Any],
    ) -> ExperimentEntry:
        if not who.strip():
            raise InvalidInput("Expected the name of whoever runs an experiment; found none.")
        row = {
            "experiment": experiment,
            "model": model,
            "sequence": after + 1,
            "step": str(step),
            "finding": str(finding),
            "who": who,
            "why": why,
            "at_us": to_micros(self._clock.now()),
            "details": json.dumps(details, allow_nan=False),
        }
        try:
            with self._database.transaction() as connection:
                connection.execute(insert(_TABLE), [row])
                return _written(connection, model, after + 1)
        except IntegrityError as error:
            raise StaleGeneration(
                f"Expected the log of experiments of {model} to end with entry {after}; somebody "
                "else wrote first. Look at `atlas experiments list` and decide again."
            ) from error


_UNDECIDED = Finding.UNDECIDED


def _written(connection: Connection, model: str, sequence: int) -> ExperimentEntry:
    at = _TABLE.c
    query = select(_TABLE).where(at.model == model, at.sequence == sequence)
    return _entry(connection.execute(query).one())


def _entry(row: Row[Any]) -> ExperimentEntry:
    return ExperimentEntry(
        experiment=row.experiment or row.id,
        model=row.model,
        sequence=row.sequence,
        step=Step(row.step),
        finding=Finding(row.finding),
        who=row.who,
        why=row.why,
        at=from_micros(row.at_us),
        details=json.loads(row.details),
    )


def _fold(entries: tuple[ExperimentEntry, ...]) -> Experiment:
    began = entries[0]
    return Experiment(
        id=began.experiment,
        model=began.model,
        champion=began.details["champion"],
        challenger=began.details["challenger"],
        plan=Plan.of(began.details["plan"]),
        since_us=began.details["since_us"],
        began=began,
        last=entries[-1],
    )
