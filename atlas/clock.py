"""What time it is for the project: the wall's, or a replayed market's.

Every judgement of age (TTL, staleness, "in the future") asks a `Clock`; nothing else reads the
wall. Where the state of a replay is kept is `atlas.bus.RedisClock`'s business.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Protocol

__all__ = ["Clock", "ManualClock", "ReplayState", "WallClock", "from_micros", "to_micros"]

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Clock(Protocol):
    """Tells the project's time."""

    def now(self) -> datetime:
        """Return the present moment, in UTC."""
        ...


class WallClock:
    """The time on the wall."""

    def now(self) -> datetime:
        """Return the present moment, in UTC."""
        return datetime.now(UTC)


class ManualClock:
    """A clock that moves when told to."""

    def __init__(self, now: datetime) -> None:
        self._now = now

    def now(self) -> datetime:
        """Return the moment that was set last."""
        return self._now

    def advance(self, by: timedelta) -> None:
        """Move forward."""
        self._now += by


@dataclass(frozen=True, slots=True)
class ReplayState:
    """Where a replayed market stands: a moment tied to the wall, a speed and a ceiling.

    The ceiling is the close of the next bar that the feed will play: market time never runs past
    what has been played, so a slow machine makes a replay longer, not stale.
    """

    market_us: int
    wall_us: int
    speed: float
    ceiling_us: int

    def at(self, wall_us: int) -> int:
        """Return the market's time in microseconds when the wall shows `wall_us`."""
        elapsed = max(0, wall_us - self.wall_us)
        return min(self.market_us + int(elapsed * self.speed), self.ceiling_us)


def to_micros(moment: datetime) -> int:
    """Return microseconds since 1970 of an aware moment, exactly."""
    return (moment - EPOCH) // timedelta(microseconds=1)


def from_micros(micros: int) -> datetime:
    """Return the UTC moment that lies so many microseconds after 1970."""
    return EPOCH + timedelta(microseconds=micros)


def wall_micros() -> int:
    """Return the wall's time in microseconds since 1970."""
    return time.time_ns() // 1_000
