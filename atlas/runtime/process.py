"""A child process of the stack: its session, its log, its end."""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from atlas.clock import WallClock
from atlas.runtime.guardian import end_processes

__all__ = ["Process"]

_ROTATE_BYTES = 10 << 20
# Signals that a shell may have had ignored for us, as it does for what it starts in background.
_RESET = (
    signal.SIGINT,
    signal.SIGTERM,
    signal.SIGHUP,
    signal.SIGQUIT,
    signal.SIGPIPE,
    signal.SIGUSR1,
    signal.SIGUSR2,
    signal.SIGCHLD,
)


class Process:
    """One program in a session of its own, its output appended to a log file.

    Parameters
    ----------
    mark : str
        Value of the environment variable by which the guardian finds the program's descendants.
    on_exit : callable
        Called once, from another thread, when the program has ended.

    Raises
    ------
    OSError
        If the program cannot be executed.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        environment: Mapping[str, str],
        mark: str,
        log: Path,
        on_exit: Callable[[], None],
    ) -> None:
        self._mark = mark
        self._log = log
        self._on_exit = on_exit
        self._ended = threading.Event()
        self.code: int | None = None
        """Exit status, or the negative number of the signal that ended it; None while it runs."""
        _rotate(log)
        with log.open("a") as header:
            header.write(f"--- {WallClock().now().isoformat()} {shlex.join(command)}\n")
            header.flush()
            self._log_start = header.tell()
        # Unlike fork from a process with threads, posix_spawn may reset signals safely.
        self.pid = os.posix_spawnp(
            command[0],
            list(command),
            environment,
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_OPEN, 1, str(log), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644),
                (os.POSIX_SPAWN_DUP2, 1, 2),
            ],
            setsid=True,
            setsigmask=(),
            setsigdef=_RESET,
        )
        threading.Thread(target=self._reap, name=f"reap-{self.pid}", daemon=True).start()

    @property
    def ended(self) -> bool:
        """Whether the program has ended."""
        return self._ended.is_set()

    def end(self, grace_s: float, *, hurried: Callable[[], bool]) -> None:
        """Ask the program to end, wait for it, then end what is left of its descendants."""
        if not self.ended:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGTERM)
        deadline = time.monotonic() + grace_s
        while time.monotonic() < deadline and not hurried() and not self._ended.wait(0.05):
            pass
        self.clear(grace_s=1.0 if self.ended and not hurried() else 0.0)

    def clear(self, *, grace_s: float = 0.0) -> None:
        """End whatever is left of the program and its descendants."""
        end_processes({self.pid}, self._mark, grace_s=grace_s)
        self._ended.wait(5)

    def last_words(self) -> str:
        """Return the last line that the program logged since it was started."""
        with self._log.open("rb") as log:
            size = log.seek(0, os.SEEK_END)
            log.seek(max(self._log_start, size - 4096))
            lines = log.read().decode(errors="replace").strip().splitlines()
        return lines[-1].strip()[:300] if lines else ""

    def describe_end(self) -> str:
        """Return in words how the program ended."""
        code = self.code or 0
        how = f"ended with code {code}" if code >= 0 else f"was ended by {_signal_name(-code)}"
        words = self.last_words()
        return f"{how}: {words}" if words and code >= 0 else how

    def _reap(self) -> None:
        try:
            _, status = os.waitpid(self.pid, 0)
            self.code = os.waitstatus_to_exitcode(status)
        except ChildProcessError:
            self.code = 0  # SIGCHLD is ignored in this process, so that nobody learns the status
        self._ended.set()
        self._on_exit()


def _rotate(log: Path) -> None:
    log.parent.mkdir(parents=True, exist_ok=True)
    if log.exists() and log.stat().st_size > _ROTATE_BYTES:
        log.replace(log.with_suffix(".log.1"))


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
