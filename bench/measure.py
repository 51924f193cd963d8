"""How a piece of work is timed: the median of repeated runs, ours and the baseline by turns."""

from __future__ import annotations

import socket
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

__all__ = ["Measured", "by_turns", "free_port"]


@dataclass(frozen=True)
class Measured:
    """Medians of one piece of work."""

    work: str
    ours_s: float
    baseline_s: float | None
    baseline: str
    aim: str

    @property
    def ratio(self) -> float | None:
        """Our time over the baseline's."""
        return None if self.baseline_s is None else self.ours_s / self.baseline_s

    def as_dict(self) -> dict[str, Any]:
        """Return JSON-able fields."""
        return {**asdict(self), "ratio": self.ratio}


def by_turns(
    ours: Callable[[], object], baseline: Callable[[], object] | None, *, times: int
) -> tuple[float, float | None]:
    """Return the medians in seconds; taking turns, both meet the same noise of the machine."""
    seconds: tuple[list[float], list[float]] = ([], [])
    for work in (ours, baseline):
        if work is not None:
            work()
    for _ in range(times):
        for work, taken in zip((ours, baseline), seconds, strict=True):
            if work is not None:
                began = time.perf_counter()
                work()
                taken.append(time.perf_counter() - began)
    mine, theirs = seconds
    return statistics.median(mine), statistics.median(theirs) if theirs else None


def free_port() -> int:
    """Return a port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
