"""Where trials are walked: in this process, or in several of this machine."""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from datetime import timedelta
from types import TracebackType
from typing import Self

from atlas.errors import AtlasError, TrainingTimeout
from atlas.training.walk import Proposal, Trial, Walker

__all__ = ["InProcess", "Processes"]

# Of a worker process; set once as it starts.
_walker: Walker | None = None


class InProcess:
    """Walks one trial after another, here."""

    def __init__(self, walker: Walker) -> None:
        self._walker = walker

    def __call__(self, proposals: Sequence[Proposal]) -> list[Trial]:
        """Return one trial a proposal, in their order."""
        return [self._walker.walk(proposal) for proposal in proposals]


class Processes:
    """Walks the trials of a batch side by side, each in a process of its own.

    They are started afresh (`spawn`), since a fork would copy the locks of running threads. A
    script that uses this must guard its entry with `if __name__ == "__main__"`.

    Parameters
    ----------
    n_processes : int
        At most one a core is of use: an engine learns on one thread.
    timeout : timedelta or None
        Whatever is under way so long after the pool was entered is ended.
    """

    def __init__(
        self, walker: Walker, *, n_processes: int, timeout: timedelta | None = None
    ) -> None:
        self._pool = ProcessPoolExecutor(
            n_processes,
            mp_context=multiprocessing.get_context("spawn"),
            initializer=_begin,
            initargs=(walker, os.getpid()),
        )
        self._timeout = timeout
        self._late, self._done = threading.Event(), threading.Event()

    def __enter__(self) -> Self:
        if self._timeout is not None:
            threading.Thread(target=self._end_late, args=(self._timeout,), daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._done.set()
        if kind is not None:
            self._kill()
        self._pool.shutdown(cancel_futures=True)

    def __call__(self, proposals: Sequence[Proposal]) -> list[Trial]:
        """Return one trial a proposal, in their order.

        Raises
        ------
        TrainingTimeout
            If the time is up.
        AtlasError
            If a process was killed, such as for want of memory.
        """
        try:
            if self._late.is_set():
                raise BrokenProcessPool
            futures: list[Future[Trial]] = [self._pool.submit(_walk, p) for p in proposals]
            wait(futures, return_when=FIRST_EXCEPTION)
            return [future.result() for future in futures]
        except BrokenProcessPool as error:
            if self._late.is_set():
                raise TrainingTimeout(
                    f"Expected the training to end within {self._timeout}; it did not. Narrow the "
                    "search, or raise TRAINING_JOB_TIMEOUT_HOURS. Finished trials are kept: the "
                    "same training goes on from them."
                ) from error
            raise AtlasError(
                "Expected the processes of the search to end by themselves; one was killed, such "
                "as for want of memory. Run fewer with ATLAS_TRAINING_PROCESSES."
            ) from error

    def _end_late(self, timeout: timedelta) -> None:
        if self._done.wait(timeout.total_seconds()):
            return
        self._late.set()
        # Again and again: a process may be about to start.
        while not self._done.wait(0.2):
            self._kill()

    def _kill(self) -> None:
        # The pool has no public way to end what is under way (Python 3.14 has kill_workers).
        for process in list((self._pool._processes or {}).values()):
            process.kill()


def _begin(walker: Walker, parent: int) -> None:
    global _walker
    _walker = walker
    # Ctrl-C reaches the whole group; the parent decides what becomes of it.
    import signal

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: int) -> None:
    """End this process as soon as its parent is gone, however that ended."""
    import time

    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)


def _walk(proposal: Proposal) -> Trial:
    assert _walker is not None
    return _walker.walk(proposal)
