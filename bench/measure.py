"""How a piece of work is timed: the median of repeated runs, ours and the baseline by turns."""

from __future__ import annotations

import os
import socket
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

import psutil

__all__ = ["Measured", "Memory", "by_turns", "free_port", "memory_growth", "timed"]


@dataclass(frozen=True)
class Measured:
    """Medians of one piece of work."""

    work: str
    ours_s: float
    baseline_s: float | None
    baseline: str
    aim: str
    notes: dict[str, float] = field(default_factory=dict)
    """What else was seen, such as the memory of either, in MB."""

    @property
    def ratio(self) -> float | None:
        """Our time over the baseline's."""
        return None if self.baseline_s is None else self.ours_s / self.baseline_s

    def as_dict(self) -> dict[str, Any]:
        """Return JSON-able fields."""
        return {**asdict(self), "ratio": self.ratio}


def timed(work: Callable[[], object]) -> float:
    """Return the seconds that one run takes."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


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
                taken.append(timed(work))
    mine, theirs = seconds
    return statistics.median(mine), statistics.median(theirs) if theirs else None


@dataclass
class Memory:
    """The most that a process held above what it held at first, in MB."""

    growth_mb: float = 0.0


@contextmanager
def memory_growth(process_id: int | None = None) -> Iterator[Memory]:
    """Watch a process, by default this one, while the block runs."""
    process = psutil.Process(process_id or os.getpid())
    first = process.memory_info().rss
    seen = Memory()
    done = threading.Event()

    def watch() -> None:
        while not done.wait(0.005):
            seen.growth_mb = max(seen.growth_mb, (process.memory_info().rss - first) / 1e6)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield seen
    finally:
        done.set()
        watcher.join()


def free_port() -> int:
    """Return a port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
