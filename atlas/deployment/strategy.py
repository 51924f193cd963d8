"""How a candidate walks from shadow to live: strategies that only decide, as generators.

A strategy yields where it wants the candidate to stand, receives what was observed there, and
returns how it ended. It neither waits nor writes; a `Driver` does. So a test is a list of
observations.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

from atlas.serving import Stage

__all__ = [
    "Conclusion",
    "Intent",
    "Observation",
    "Outcome",
    "Strategy",
    "shadow_then_switch",
]


class Outcome(StrEnum):
    """How a deployment ended."""

    PROMOTED = "promoted"
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


@dataclass(frozen=True, slots=True)
class Observation:
    """What was seen of a candidate where it stands."""

    rows: int = 0
    """Rows that it predicted as a shadow."""
    errors: int = 0
    """Predictions that raised."""
    latency_p99_us: float = 0.0
    """The slowest worker's, from reading a row to the reply of the publication."""
    agreement: float | None = None
    """Share of rows where it takes the live version's side; None where there is none to compare."""
    workers: int = 0
    """Workers that serve it at this stage."""
    waiting: int = 0
    """Workers that are alive and have not yet acted on the route."""
    refusals: tuple[str, ...] = ()
    """Why workers refused it."""
    waited: timedelta = timedelta(0)
    """Since it was put where it stands."""


Strategy = Generator[Intent, Observation, Conclusion]


def shadow_then_switch(
    candidate: int,
    *,
    min_rows: int = 100,
    max_error_share: float = 0.01,
    max_latency_p99: timedelta = timedelta(milliseconds=100),
    min_agreement: float | None = None,
    patience: timedelta = timedelta(minutes=30),
    switch_patience: timedelta = timedelta(seconds=30),
) -> Strategy:
    """Watch the candidate beside the live version, then switch all traffic to it at once.

    Parameters
    ----------
    candidate : int
        Version that passed its gates.
    min_rows : int
        Rows that it must predict as a shadow.
    max_error_share : float
        Share of its predictions that may fail.
    min_agreement : float or None
        Least share of rows on which it takes the live version's side; None asks for none.
    patience : timedelta
        How long it may take to predict `min_rows` rows.
    switch_patience : timedelta
        How long the workers may take to serve it live.
    """
    seen = yield Intent(candidate, Stage.SHADOW)
    while True:
        if breach := _breach(seen, max_error_share, max_latency_p99):
            return Conclusion(Outcome.ROLLED_BACK, breach)
        if seen.rows >= min_rows:
            break
        if seen.waited >= patience:
            return Conclusion(Outcome.ROLLED_BACK, _too_slow(seen, min_rows))
        seen = yield Intent(candidate, Stage.SHADOW)
    disagrees = (
        min_agreement is not None and seen.agreement is not None and seen.agreement < min_agreement
    )
    if disagrees:
        return Conclusion(
            Outcome.ROLLED_BACK,
            f"It takes the live version's side on {seen.agreement:.1%} of the rows; expected at "
            f"least {min_agreement:.1%}.",
        )
    rows = seen.rows
    seen = yield Intent(candidate, Stage.LIVE)
    while not seen.refusals and (seen.waiting or not seen.workers):
        if seen.waited >= switch_patience:
            return Conclusion(
                Outcome.ROLLED_BACK,
                f"After {seen.waited.total_seconds():.0f} s {seen.workers} workers serve it and "
                f"{seen.waiting} have not answered.",
            )
        seen = yield Intent(candidate, Stage.LIVE)
    if breach := _breach(seen, max_error_share, max_latency_p99):
        return Conclusion(Outcome.ROLLED_BACK, breach)
    return Conclusion(
        Outcome.PROMOTED,
        f"{rows} rows as a shadow, {seen.errors} errors; {seen.workers} workers serve it.",
    )


def _breach(seen: Observation, max_error_share: float, max_latency_p99: timedelta) -> str | None:
    if seen.refusals:
        return f"Refused by {len(seen.refusals)} workers: {seen.refusals[0]}"
    tried = seen.rows + seen.errors
    if tried and not seen.errors / tried <= max_error_share:
        return f"{seen.errors} of {tried} predictions failed; at most {max_error_share:.1%} may."
    latency = seen.latency_p99_us / 1e3
    bound = max_latency_p99.total_seconds() * 1e3
    if not latency <= bound:  # NaN fails
        return f"Its latency is {latency:.1f} ms at the 99th percentile; at most {bound:.1f} ms."
    return None


def _too_slow(seen: Observation, min_rows: int) -> str:
    if not seen.workers:
        return "No worker serves it. Start one with `make up` or `atlas worker`."
    return (
        f"It predicted {seen.rows} rows in {seen.waited.total_seconds():.0f} s; expected "
        f"{min_rows}. Check that features arrive, or ask for fewer rows."
    )
