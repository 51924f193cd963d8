"""What is known of a running stack, the file that tells others, and the lock of its folder."""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path

import psutil

from atlas.errors import StackBusy

__all__ = ["ComponentState", "FolderLock", "State", "read_states", "write_states"]


class State(StrEnum):
    """Where a component stands."""

    WAITING = "waiting"
    """For what it needs; for good when that has failed."""
    STARTING = "starting"
    HEALTHY = "healthy"
    UNHEALTHY = "unhealthy"
    """It runs and does not answer."""
    RESTARTING = "restarting"
    """It ended by itself, or was ended because it no longer answered, and is started again."""
    FAILED = "failed"
    """It could not be started; nothing more is tried."""
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class ComponentState:
    """What the supervisor knows of one component."""

    name: str
    state: State
    since: datetime
    """When it came to stand there."""
    pid: int | None = None
    port: int | None = None
    took_s: float | None = None
    """From its start to the first healthy answer."""
    attempt: int = 0
    restarts: int = 0
    reason: str | None = None
    """Why it is not healthy; of a healthy one, what its last problem was."""

    @property
    def lost(self) -> bool:
        """Whether it will not be healthy again: it failed, or waits for what did."""
        waits_in_vain = self.state is State.WAITING and self.reason is not None
        return waits_in_vain or self.state is State.FAILED

    @property
    def settled(self) -> bool:
        """Whether its start has ended, one way or the other."""
        return self.lost or self.state in (State.HEALTHY, State.STOPPED)


def write_states(home: Path, states: Sequence[ComponentState]) -> None:
    """Replace the state file in one step, so that a reader sees the old or the new one."""
    text = json.dumps(
        {
            "pid": os.getpid(),
            "components": [{**asdict(s), "since": s.since.isoformat()} for s in states],
        },
        indent=1,
    )
    path = _state_path(home)
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(".tmp")
    draft.write_text(text)
    draft.replace(path)


def read_states(home: Path, *, writer: int | None = None) -> dict[str, ComponentState]:
    """Return what a supervisor wrote last, by name; it may have been killed since.

    Parameters
    ----------
    writer : int or None
        Process whose states are wanted; nothing is returned if another one wrote the file.
    """
    try:
        fields = json.loads(_state_path(home).read_text())
    except FileNotFoundError:
        return {}
    if writer is not None and fields["pid"] != writer:
        return {}
    states = (
        ComponentState(
            **{
                **each,
                "state": State(each["state"]),
                "since": datetime.fromisoformat(each["since"]).astimezone(UTC),
            }
        )
        for each in fields["components"]
    )
    return {state.name: state for state in states}


class FolderLock:
    """The right to run a stack over a state folder; the system frees it when its holders are gone.

    The guardian holds it too, so that a successor waits until the last process of a killed stack
    has ended.
    """

    def __init__(self, home: Path) -> None:
        self._path = home / "stack.lock"
        self._descriptor: int | None = None

    @property
    def descriptor(self) -> int:
        """The open file that carries the lock, to be handed to the guardian."""
        assert self._descriptor is not None, "the lock is not held"
        return self._descriptor

    def acquire(self, *, patience_s: float = 15.0) -> None:
        """Take the lock; wait a while for the guardian of a stack that was killed.

        Raises
        ------
        StackBusy
            If another stack runs over this folder.
        """
        self._path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o644)
        deadline = time.monotonic() + patience_s
        while not _try_lock(descriptor, fcntl.LOCK_EX):
            holder = os.pread(descriptor, 32, 0).decode(errors="replace").strip()
            alive = holder.isdigit() and _is_alive(int(holder))
            # A reader that looks for a holder has the lock for an instant, and leaves no pid.
            if alive or time.monotonic() > deadline:
                os.close(descriptor)
                what = "is running" if alive else "was killed and is still being ended"
                raise StackBusy(
                    f"Expected the state folder {self._path.parent} to be free; the stack of "
                    f"process {holder or 'unknown'} {what} there. Stop it with Ctrl-C or SIGTERM, "
                    "or set ATLAS_HOME to another folder."
                )
            time.sleep(0.05)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        self._descriptor = descriptor

    def release(self) -> None:
        """Give the folder back."""
        if self._descriptor is not None:
            os.ftruncate(self._descriptor, 0)
            os.close(self._descriptor)
            self._descriptor = None

    def holder(self) -> int | None:
        """Return the process whose stack runs over this folder, or None."""
        try:
            descriptor = os.open(self._path, os.O_RDONLY)
        except FileNotFoundError:
            return None
        try:
            if _try_lock(descriptor, fcntl.LOCK_SH):
                return None
            text = os.pread(descriptor, 32, 0).decode(errors="replace").strip()
            pid = int(text) if text.isdigit() else None
            return pid if pid is not None and _is_alive(pid) else None
        finally:
            os.close(descriptor)


def _try_lock(descriptor: int, kind: int) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_alive(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def _state_path(home: Path) -> Path:
    return home / "run" / "stack.json"
