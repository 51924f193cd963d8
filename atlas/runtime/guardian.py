"""Ends every process of a stack once its supervisor is gone, even one killed with SIGKILL.

The guardian is a small process in a session of its own. It reads a pipe whose other end only the
supervisor holds; `+4711` and `-4711` tell it which process groups to end, and the end of the pipe
tells it that the supervisor is gone. The stack's processes also carry a mark in their environment,
by which those are found that left their group.

This file is run as a script, without the rest of Atlas.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import IO, Self

import psutil

__all__ = ["MARK", "Guardian", "end_processes", "living"]

# Not an `ATLAS_` name: those are settings, and an unknown one is refused.
MARK = "STACK_OF_ATLAS"
"""Environment variable of every process of a stack: its state folder, two colons, a component."""

_GRACE_S = 5.0
_LAST_S = 5.0
_POLL_S = 0.02


def living(groups: Collection[int], mark: str) -> list[psutil.Process]:
    """Return the processes that are in one of the groups or whose mark begins with `mark`."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.pid == os.getpid():
                continue
            if _is_meant(process, groups, mark) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def end_processes(groups: Collection[int], mark: str, *, grace_s: float = _GRACE_S) -> None:
    """Ask the processes to end, and kill what is left after the grace period."""
    asked: set[psutil.Process] = set()
    patience_ends = time.monotonic() + grace_s
    while left := set(living(groups, mark)):
        if time.monotonic() < patience_ends:
            _signal(left - asked, signal.SIGTERM)
            asked |= left
        else:
            _signal(left, signal.SIGKILL)
        if time.monotonic() > patience_ends + _LAST_S:
            return  # a process that SIGKILL does not end hangs in the kernel
        time.sleep(_POLL_S)


class Guardian:
    """The supervisor's side: starts the guardian, tells it of process groups, keeps it alive."""

    def __init__(self, mark: str, *, log: Path, keep_open: Collection[int] = ()) -> None:
        self._mark = mark
        self._log = log
        self._keep_open = tuple(keep_open)
        self._groups: set[int] = set()
        self._closing = False
        self._lock = threading.Lock()
        self._process = self._start()
        threading.Thread(target=self._keep_alive, name="guardian", daemon=True).start()

    @property
    def pid(self) -> int:
        """The process that guards at present."""
        return self._process.pid

    def protect(self, group: int) -> None:
        """End this process group when the supervisor is gone."""
        with self._lock:
            self._groups.add(group)
            self._tell(f"+{group}")

    def release(self, group: int) -> None:
        """Forget a process group that has ended."""
        with self._lock:
            self._groups.discard(group)
            self._tell(f"-{group}")

    def close(self) -> None:
        """Let the guardian end whatever is left of the stack, and go."""
        with self._lock:
            self._closing = True
            with contextlib.suppress(OSError):
                self._pipe.close()
        self._process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _start(self) -> subprocess.Popen[bytes]:
        environment = {name: value for name, value in os.environ.items() if name != MARK}
        with self._log.open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-I", str(Path(__file__).resolve()), self._mark],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                env=environment,
                pass_fds=self._keep_open,
                start_new_session=True,
            )

    def _keep_alive(self) -> None:
        while True:
            began = time.monotonic()
            self._process.wait()
            if time.monotonic() - began < 1 and not self._closing:
                time.sleep(1)  # one that cannot start must not be started in a hot loop
            with self._lock:
                if self._closing:
                    return
                with contextlib.suppress(OSError):
                    self._pipe.close()
                try:
                    self._process = self._start()
                except OSError:
                    continue  # no process or no memory to be had; tried again in a second
                for group in self._groups:
                    self._tell(f"+{group}")

    def _tell(self, line: str) -> None:
        # A guardian that was killed is replaced, and its successor is told of every group.
        with contextlib.suppress(OSError):
            self._pipe.write(f"{line}\n".encode())
            self._pipe.flush()

    @property
    def _pipe(self) -> IO[bytes]:
        assert self._process.stdin is not None
        return self._process.stdin


def _is_meant(process: psutil.Process, groups: Collection[int], mark: str) -> bool:
    if os.getpgid(process.pid) in groups:
        return True
    return str(process.environ().get(MARK, "")).startswith(mark)


def _signal(processes: Iterable[psutil.Process], number: signal.Signals) -> None:
    for process in processes:
        with contextlib.suppress(psutil.Error):
            process.send_signal(number)


def _guard(mark: str) -> None:
    # Whoever wants the stack to end asks the supervisor; the guardian outlives it.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    groups: set[int] = set()
    for line in sys.stdin.buffer:
        group = int(line)
        if group > 0:
            groups.add(group)
        else:
            groups.discard(-group)
    end_processes(groups, mark)


if __name__ == "__main__":
    _guard(sys.argv[1])
