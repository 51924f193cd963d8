"""The log of halts and releases: who stopped or permitted trading, when and why.

Its newest entry says whether the desk may trade; an empty log says no, so a fresh installation is
halted until a person releases it.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import BigInteger, Column, Row, String, Table, Text, insert, select
from sqlalchemy.exc import IntegrityError

from atlas.clock import Clock, WallClock, from_micros, to_micros
from atlas.errors import InvalidInput, StaleGeneration
from atlas.registry.database import SCHEMA, Database

__all__ = ["SYSTEM", "HaltEntry", "HaltKind", "HaltLog"]

SYSTEM = "system:"
"""How the name of whoever is not a person begins, such as `system:health`."""

_TABLE = Table(
    "halts",
    SCHEMA,
    Column("sequence", BigInteger, primary_key=True, autoincrement=False),
    Column("kind", String(16), nullable=False),
    Column("who", Text, nullable=False),
    Column("why", Text, nullable=False),
    Column("at_us", BigInteger, nullable=False),
)


class HaltKind(StrEnum):
    """What an entry says."""

    HALT = "halt"
    RELEASE = "release"


@dataclass(frozen=True, slots=True)
class HaltEntry:
    """One line of the log."""

    sequence: int
    """Numbered from 1 without gaps."""
    kind: HaltKind
    who: str
    why: str
    at: datetime


class HaltLog:
    """The append-only log of halts and releases; any number of processes may write to it."""

    def __init__(self, url: str, *, clock: Clock | None = None) -> None:
        self._database = Database(url)
        self._clock = clock or WallClock()

    def history(self) -> tuple[HaltEntry, ...]:
        """Return all entries, oldest first."""
        with self._database.transaction() as connection:
            rows = connection.execute(select(_TABLE).order_by(_TABLE.c.sequence))
            return tuple(_entry(row) for row in rows)

    def last(self) -> HaltEntry | None:
        """Return the newest entry, which rules; None when nobody ever released the desk."""
        with self._database.transaction() as connection:
            row = connection.execute(
                select(_TABLE).order_by(_TABLE.c.sequence.desc()).limit(1)
            ).first()
            return _entry(row) if row else None

    def halt(self, who: str, why: str) -> HaltEntry:
        """Enter a halt; whatever others enter at the same time, it is entered."""
        while True:
            last = self.last()
            try:
                return self._append(last.sequence if last else 0, HaltKind.HALT, who, why)
            except StaleGeneration:
                continue

    def release(self, who: str, why: str, *, expected: int) -> HaltEntry:
        """Enter a person's release.

        Parameters
        ----------
        who : str
            The person. A name that begins with `system:` is refused: only a person releases.
        expected : int
            Sequence number of the newest entry that the person has seen; 0 for an empty log.

        Raises
        ------
        StaleGeneration
            If there is a newer entry: a halt that the person has not seen is not lifted.
        """
        if who.strip().lower().startswith(SYSTEM):
            raise InvalidInput(f"Expected a person to release the desk; found {who!r}.")
        return self._append(expected, HaltKind.RELEASE, who, why)

    def _append(self, after: int, kind: HaltKind, who: str, why: str) -> HaltEntry:
        if not who.strip() or not why.strip():
            raise InvalidInput(f"Expected a name and a reason for a {kind}; one is empty.")
        last = self.last()
        found = last.sequence if last else 0
        if found != after:
            raise _stale(after, found)
        entry = HaltEntry(after + 1, kind, who, why, self._clock.now())
        row = {
            "sequence": entry.sequence,
            "kind": str(kind),
            "who": who,
            "why": why,
            "at_us": to_micros(entry.at),
        }
        try:
            with self._database.transaction() as connection:
                connection.execute(insert(_TABLE), [row])
        except IntegrityError as error:
            raise _stale(after, entry.sequence) from error
        return entry


def _entry(row: Row[Any]) -> HaltEntry:
    return HaltEntry(row.sequence, HaltKind(row.kind), row.who, row.why, from_micros(row.at_us))


def _stale(expected: int, found: int) -> StaleGeneration:
    return StaleGeneration(
        f"Expected the log of halts to end at entry {expected}; found entry {found}. Look at what "
        "happened since and decide again."
    )
