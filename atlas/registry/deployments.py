"""The deployment log: who moved which version of which model where, when and why.

It is the truth about what is served; routes in Redis and aliases elsewhere follow it. Every action
makes one generation of its model, numbered from 1 without gaps.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from itertools import groupby
from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    Integer,
    Row,
    String,
    Table,
    Text,
    UniqueConstraint,
    insert,
    select,
)
from sqlalchemy.exc import IntegrityError

from atlas.clock import Clock, WallClock, from_micros, to_micros
from atlas.errors import DeploymentRefused, InvalidInput, StaleGeneration
from atlas.registry.database import SCHEMA, Database
from atlas.registry.stages import Action, ModelState, Move, VersionState, plan_moves
from atlas.serving import ALL, Manifest, Stage, Traffic

__all__ = ["DeploymentLog", "Entry"]

_TABLE = Table(
    "deployments",
    SCHEMA,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),
    Column("model", Text, nullable=False),
    Column("generation", BigInteger, nullable=False),
    Column("position", Integer, nullable=False),
    Column("action", String(16), nullable=False),
    Column("version", BigInteger, nullable=False),
    Column("from_stage", String(16)),
    Column("to_stage", String(16), nullable=False),
    Column("who", Text, nullable=False),
    Column("why", Text, nullable=False),
    Column("at_us", BigInteger, nullable=False),
    Column("report", Text, nullable=False),
    Column("blob", String(64), nullable=False),
    Column("manifest", Text, nullable=False),
    # Two writers of the same generation meet here, and one loses.
    UniqueConstraint("model", "generation", "position"),
)


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the log: one version's move."""

    model: str
    generation: int
    action: Action
    version: int
    from_stage: Stage | None
    to_stage: Stage
    who: str
    why: str
    at: datetime
    report: str
    manifest: Manifest

    @property
    def blob(self) -> str:
        """SHA-256 of the model's bytes."""
        return self.manifest.blob


class DeploymentLog:
    """The append-only log of every model's moves; any number of processes may write to it.

    Parameters
    ----------
    url : str
        SQLAlchemy's address of the database; its tables are made at first use.
    clock : Clock
        Stamps the entries: the wall, also while a market is replayed.
    """

    def __init__(self, url: str, *, clock: Clock | None = None) -> None:
        self._database = Database(url)
        self._clock = clock or WallClock()

    def models(self) -> tuple[str, ...]:
        """Return the names of all models that were ever registered, sorted."""
        with self._database.transaction() as connection:
            names = connection.scalars(select(_TABLE.c.model).distinct())
            return tuple(sorted(names))

    def state(self, model: str) -> ModelState:
        """Return where the versions of a model stand; generation 0 when it was never registered."""
        state = ModelState(model)
        entries = self.history(model)
        for _, generation in groupby(entries, key=lambda entry: entry.generation):
            state = _fold(state, tuple(generation))
        return state

    def history(self, model: str | None = None) -> tuple[Entry, ...]:
        """Return the entries of a model, or of all, oldest first."""
        query = select(_TABLE).order_by(_TABLE.c.id)
        if model is not None:
            query = query.where(_TABLE.c.model == model)
        with self._database.transaction() as connection:
            return tuple(_entry(row) for row in connection.execute(query))

    def register(
        self, manifest: Manifest, *, passed: bool, report: str, who: str, why: str
    ) -> ModelState:
        """Enter a new version with the verdict of its gates: gated, or rejected for ever.

        Entering the same version with the same bytes and verdict again changes nothing.

        Parameters
        ----------
        manifest : Manifest
            Its stage and generation are set here.
        report : str
            Where the gate report is kept.

        Raises
        ------
        DeploymentRefused
            If the version is there already with another blob or verdict.
        StoreUnavailable
            If the database does not answer.
        """
        while True:
            state = self.state(manifest.model)
            known = state.versions.get(manifest.version)
            if known is not None:
                _check_same(known, manifest, passed)
                return state
            verdict = Stage.GATED if passed else Stage.REJECTED
            moves = (
                Move(manifest.version, None, Stage.REGISTERED),
                Move(manifest.version, Stage.REGISTERED, verdict),
            )
            subject = VersionState(manifest.version, Stage.REGISTERED, passed, manifest, report)
            try:
                return self._append(
                    state, Action.REGISTER, moves, {manifest.version: subject}, who, why
                )
            except StaleGeneration:
                continue  # a new version depends on nothing that another writer may have moved

    def move(
        self,
        model: str,
        action: Action,
        version: int,
        *,
        who: str,
        why: str,
        expected: int | None = None,
        traffic: Traffic = ALL,
    ) -> ModelState:
        """Do something to a registered version; return where the model stands then.

        Parameters
        ----------
        expected : int or None
            The generation on which the decision rests; None takes the present one.
        traffic : Traffic
            What a canary trades; every other action forgets what was its before.

        Raises
        ------
        StaleGeneration
            If the model is at another generation: somebody else moved first.
        DeploymentRefused
            If the version may not go there from where it stands.
        """
        state = self.state(model)
        if expected is not None and state.generation != expected:
            raise _stale(model, expected, state.generation)
        moves = plan_moves(state, action, version)
        subject = state.versions[version]
        given = replace(subject.manifest, **asdict(traffic))
        versions = {**state.versions, version: replace(subject, manifest=given)}
        return self._append(state, action, moves, versions, who, why)

    def _append(
        self,
        state: ModelState,
        action: Action,
        moves: Sequence[Move],
        versions: Mapping[int, VersionState],
        who: str,
        why: str,
    ) -> ModelState:
        if not who.strip():
            raise InvalidInput("Expected the name of whoever moves a deployment; found none.")
        generation = state.generation + 1
        after: dict[Move, VersionState] = {}
        rows = []
        for position, move in enumerate(moves):
            subject = versions[move.version]
            manifest = replace(subject.manifest, stage=move.to_stage, generation=generation)
            after[move] = replace(subject, stage=move.to_stage, manifest=manifest)
            rows.append(
                {
                    "model": state.model,
                    "generation": generation,
                    "position": position,
                    "action": str(action),
                    "version": move.version,
                    "from_stage": str(move.from_stage) if move.from_stage else None,
                    "to_stage": str(move.to_stage),
                    "who": who,
                    "why": why,
                    "at_us": to_micros(self._clock.now()),
                    "report": subject.report,
                    "blob": manifest.blob,
                    "manifest": json.dumps(manifest.as_dict(), allow_nan=False),
                }
            )
        try:
            with self._database.transaction() as connection:
                connection.execute(insert(_TABLE), rows)
        except IntegrityError as error:
            raise _stale(state.model, state.generation, generation) from error
        return state.after(action, after)


def _fold(state: ModelState, generation: Sequence[Entry]) -> ModelState:
    after = {
        Move(entry.version, entry.from_stage, entry.to_stage): VersionState(
            entry.version,
            entry.to_stage,
            _passed(state, generation, entry.version),
            entry.manifest,
            entry.report,
        )
        for entry in generation
    }
    return state.after(generation[0].action, after)


def _passed(state: ModelState, generation: Sequence[Entry], version: int) -> bool:
    """Whether a version passed its gates: its registration said so, and nothing says it later."""
    if version in state.versions:
        return state.versions[version].passed
    return any(e.to_stage is Stage.GATED for e in generation if e.version == version)


def _entry(row: Row[Any]) -> Entry:
    return Entry(
        model=row.model,
        generation=row.generation,
        action=Action(row.action),
        version=row.version,
        from_stage=Stage(row.from_stage) if row.from_stage else None,
        to_stage=Stage(row.to_stage),
        who=row.who,
        why=row.why,
        at=from_micros(row.at_us),
        report=row.report,
        manifest=Manifest.of(json.loads(row.manifest)),
    )


def _check_same(known: VersionState, manifest: Manifest, passed: bool) -> None:
    if (known.manifest.blob, known.passed) != (manifest.blob, passed):
        raise DeploymentRefused(
            f"Expected {manifest.model}/{manifest.version} to be new; it is registered with blob "
            f"{known.manifest.blob[:12]}… (passed: {known.passed}), found blob "
            f"{manifest.blob[:12]}… (passed: {passed}). Give the model a new version."
        )


def _stale(model: str, expected: int, found: int) -> StaleGeneration:
    return StaleGeneration(
        f"Expected {model} at generation {expected}; found {found}: somebody else moved first. "
        "Look at `atlas deployments` and decide again."
    )
