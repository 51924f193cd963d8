"""How much the embedded server takes on: memory, statements at once, statements waiting."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["Limits", "machine_memory_bytes"]

_CGROUP_LIMITS = (
    Path("/sys/fs/cgroup/memory.max"),
    Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
)


def machine_memory_bytes() -> int:
    """Return the memory that this process may use: the machine's, or its container's if less."""
    found = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for path in _CGROUP_LIMITS:
        # Absent on this kind of machine, or "max".
        with suppress(OSError, ValueError):
            found.append(int(path.read_text()))
    return min(found)


@dataclass(frozen=True, slots=True)
class Limits:
    """What the server refuses to exceed.

    Attributes
    ----------
    server_memory_bytes, query_memory_bytes : int
        All statements together, and any one of them; beyond it a statement fails with
        MEMORY_LIMIT_EXCEEDED (241) and the others go on. By default a quarter of the machine's,
        and half of that.
    max_running, max_waiting : int
        Statements at once, and statements that wait for one of those places; the next one gets
        TOO_MANY_SIMULTANEOUS_QUERIES (202).
    max_wait_seconds : float
        How long a statement waits before it gets the same answer.
    max_idle_seconds : float
        How long a client may neither send the next rows nor take the next piece of a result: its
        statement holds a place meanwhile.
    max_sessions : int
        Sessions that hold settings or temporary tables of their own.
    max_statement_bytes : int
        Size of a statement, of the rows of `input()`, and of external data, which are kept whole.
    """

    server_memory_bytes: int = field(default_factory=lambda: machine_memory_bytes() // 4)
    query_memory_bytes: int = 0
    max_running: int = field(default_factory=lambda: max(8, 4 * (os.cpu_count() or 1)))
    max_waiting: int = 128
    max_wait_seconds: float = 60.0
    max_idle_seconds: float = 300.0
    max_sessions: int = 256
    max_statement_bytes: int = 64 << 20

    def __post_init__(self) -> None:
        if not self.query_memory_bytes:
            object.__setattr__(self, "query_memory_bytes", self.server_memory_bytes // 2)
