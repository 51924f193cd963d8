"""The words between a strategy and its driver: what is wanted, what was seen, how it ended.

A strategy is a generator. It yields where it wants the candidate to stand, receives what was
observed there, and returns how it ended. It neither waits nor writes; a `Driver` does. So a test of
one is a list of observations.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

from atlas.matured import Matured
from atlas.serving import ALL, Stage, Traffic

__all__ = ["Conclusion", "Intent", "Observation", "Outcome", "Strategy"]


class Outcome(StrEnum):
    """How a deployment ended."""

    PROMOTED = "promoted"
    HELD = "held"
    """It stays the shadow."""
    ROLLED_BACK = "rolled_back"


@dataclass(frozen=True, slots=True)
class Conclusion:
    """How a deployment ended and why, in one sentence."""

    outcome: Outcome
    why: str


@dataclass(frozen=True, slots=True)
class Intent:
    """Where a strategy wants a version to stand."""

    version: int
    stage: Stage
    traffic: Traffic = ALL
    """What it trades there, as a canary."""


@dataclass(frozen=True, slots=True)
class Observation:
    """What was seen of a candidate where it stands."""

    rows: int = 0
    """Signals that it gave at this stage; as a canary or live, since it was put there."""
    predicted: int = 0
    """Rows that it scored since the workers loaded it."""
    errors: int = 0
    """Rows that it failed on, or was too slow for, since then."""
    latency_p99_us: float = 0.0
    """The slowest worker's, from reading a row to the reply of the publication."""
    agreement: float | None = None
    """Share of rows where it takes the live version's side; None where there is none to compare."""
    share: float | None = None
    """Share of the model's traded signals that were its own; None before the first of anybody."""
    matured: Matured | None = None
    """What it earned at this stage, on paper; None where nobody keeps the books."""
    fleet: tuple[str, ...] = ()
    """Workers that are alive."""
    workers: int = 0
    """Workers that serve it at this stage."""
    waiting: int = 0
    """Workers that are alive and have not yet acted on the route."""
    refusals: tuple[str, ...] = ()
    """Why workers refused it."""
    waited: timedelta = timedelta(0)
    """Since it was put where it stands."""

    @property
    def trades(self) -> int:
        """Trades of its own that have matured at this stage."""
        return self.matured.trades if self.matured else 0


Strategy = Generator[Intent, Observation, Conclusion]
