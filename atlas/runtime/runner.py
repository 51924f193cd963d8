"""The life of one component: wait for its needs, start, verify, watch, restart, stop."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from atlas.runtime.board import Board
from atlas.runtime.component import Component
from atlas.runtime.guardian import MARK, Guardian
from atlas.runtime.process import Process
from atlas.runtime.state import State
from atlas.telemetry import get_logger

__all__ = ["Patience", "Runner"]

log = get_logger(__name__)

_FIRST_LOOK_S = 0.02
_LONGEST_LOOK_S = 0.25
_PROBATION_S = 1.0


@dataclass(frozen=True, slots=True)
class Patience:
    """How long the stack waits, how often it tries."""

    start_timeout: timedelta = timedelta(seconds=30)
    """A component that is not healthy by then is ended and tried again, and so is one that
    stopped answering for so long."""
    attempts: int = 3
    backoff: timedelta = timedelta(milliseconds=500)
    """Pause before the second try; it doubles with each further one."""
    longest_backoff: timedelta = timedelta(seconds=30)
    watch_interval: timedelta = timedelta(seconds=2)
    steady_after: timedelta = timedelta(seconds=60)
    """A component that ran so long before it crashed is restarted as if for the first time."""

    def pause_s(self, failures: int) -> float:
        """Return the pause after so many failures in a row, in seconds."""
        pause: timedelta = self.backoff * 2 ** min(failures - 1, 30)
        return min(pause, self.longest_backoff).total_seconds()


class Runner:
    """Keeps one component running, from the time its needs are healthy until the stack stops."""

    def __init__(
        self,
        component: Component,
        *,
        dependants: Collection[str],
        board: Board,
        guardian: Guardian,
        patience: Patience,
        environment: Mapping[str, str],
        home: Path,
    ) -> None:
        self._component = component
        self._name = component.name
        self._dependants = dependants
        self._board = board
        self._guardian = guardian
        self._patience = patience
        self._timeout = component.start_timeout or patience.start_timeout
        self._mark = f"{home}::{component.name}::"
        self._environment = {**environment, **component.environment, MARK: self._mark}
        self._log = home / "logs" / f"{component.name}.log"
        self._process: Process | None = None

    def run(self) -> None:
        """Live until the stack stops; then, when no dependant is left, end the component."""
        try:
            self._live()
        except Exception as error:
            # The thread's end would otherwise leave a component that nobody watches.
            log.exception("runner_failed", component=self._name)
            self._clear()
            self._fail(f"the supervisor failed: {error!r}")
        try:
            self._board.wait(lambda: self._board.stopping)
            self._board.wait_until_gone(self._dependants)
            self._clear(grace=self._component.stop_timeout)
            if self._board.state_of(self._name).state is not State.FAILED:
                self._move(State.STOPPED, pid=None)
        finally:
            self._board.leave(self._name)

    def _live(self) -> None:
        crashes = 0
        self._let_others_start()
        while self._start():
            healthy_at = time.monotonic()
            if self._component.once:
                self._clear()  # its number may soon be another program's
                return
            reason = self._watch()
            if reason is None:
                return
            steady = time.monotonic() - healthy_at > self._patience.steady_after.total_seconds()
            crashes = 1 if steady else crashes + 1
            restarts = self._board.state_of(self._name).restarts + 1
            self._move(State.RESTARTING, pid=None, restarts=restarts, reason=reason)
            self._clear()
            if not self._board.sleep(self._patience.pause_s(crashes)):
                return

    def _start(self) -> bool:
        """Try until the component is healthy; return whether it is."""
        reason: str | None = None
        for attempt in range(1, self._patience.attempts + 1):
            if attempt > 1 and not self._board.sleep(self._patience.pause_s(attempt - 1)):
                return False
            if not self._await_needs():
                return False
            reason = self._try(attempt)
            if reason is None or self._board.stopping:
                return reason is None
            self._move(self._rising, pid=None, reason=reason)
            self._clear()
        self._fail(f"{reason} ({self._patience.attempts} tries; see {self._log})")
        return False

    def _let_others_start(self) -> None:
        others = self._component.after
        self._board.wait(
            lambda: (
                self._board.stopping or all(self._board.state_of(name).settled for name in others)
            ),
            # One that fails slowly, try after try, must not hold up the rest for all of them.
            self._patience.start_timeout.total_seconds(),
        )

    def _await_needs(self) -> bool:
        needs = self._component.needs

        def decided() -> bool:
            states = [self._board.state_of(need) for need in needs]
            healthy = all(state.state is State.HEALTHY for state in states)
            return self._board.stopping or healthy or any(state.lost for state in states)

        self._board.wait(decided)
        if self._board.stopping:
            return False
        lost = [need for need in needs if self._board.state_of(need).lost]
        if lost:
            self._move(State.WAITING, reason=f"not started: it needs {' and '.join(lost)}")
        return not lost

    def _try(self, attempt: int) -> str | None:
        """Start the program once; return why it did not become healthy, or None."""
        began = time.monotonic()
        try:
            if self._component.folder is not None:
                self._component.folder.mkdir(parents=True, exist_ok=True)
            process = self._process = Process(
                self._component.command,
                environment=self._environment,
                mark=self._mark,
                log=self._log,
                on_exit=self._board.poke,
            )
        except OSError as error:
            return f"{self._component.command[0]} cannot be started: {error}"
        self._guardian.protect(process.pid)
        self._move(self._rising, pid=process.pid, attempt=attempt)
        pause_s = _FIRST_LOOK_S
        problem: str | None = None
        while time.monotonic() - began < self._timeout.total_seconds():
            ended = process.ended
            if ended and not (self._component.once and process.code == 0):
                return process.describe_end()
            if ended or not self._component.once:
                problem = self._ask(process)
                if self._component.probe is None and not ended:
                    age_s = time.monotonic() - began
                    problem = None if age_s > _PROBATION_S else "it has only just started"
                # A stranger may have answered for a program that could not get its port.
                if problem is None and process.ended == ended:
                    took_s = time.monotonic() - began
                    self._move(
                        State.HEALTHY,
                        pid=None if ended else process.pid,
                        took_s=round(took_s, 3),
                    )
                    return None
            if self._board.wait(lambda: self._board.stopping, pause_s):
                return "the stack was stopped"
            pause_s = min(pause_s * 1.5, _LONGEST_LOOK_S)
        waited = f"not healthy within {self._timeout.total_seconds():g} s"
        return f"{waited}: {problem or process.last_words() or 'it said nothing'}"

    def _watch(self) -> str | None:
        """Look after the healthy component; return why it must be restarted, None at the end."""
        process = self._process
        assert process is not None
        answered = time.monotonic()
        interval_s = self._patience.watch_interval.total_seconds()
        while not self._board.wait(lambda: self._board.stopping or process.ended, interval_s):
            problem = self._ask(process)
            if process.ended or self._board.stopping:
                continue
            if problem is None:
                answered = time.monotonic()
                self._move(State.HEALTHY)
                continue
            silent_s = time.monotonic() - answered
            if silent_s > self._timeout.total_seconds():
                return f"unhealthy for {silent_s:.0f} s: {problem}"
            self._move(State.UNHEALTHY, reason=problem)
        return None if self._board.stopping else process.describe_end()

    def _ask(self, process: Process) -> str | None:
        probe = self._component.probe
        return None if probe is None else probe(process.pid)

    def _clear(self, grace: timedelta = timedelta(seconds=2)) -> None:
        """End what is left of a try: a grandchild may hold the port."""
        process, self._process = self._process, None
        if process is None:
            return
        if process.ended:
            process.clear()
        else:
            process.end(grace.total_seconds(), hurried=lambda: self._board.hurried)
        self._guardian.release(process.pid)

    @property
    def _rising(self) -> State:
        was_healthy = self._board.state_of(self._name).restarts > 0
        return State.RESTARTING if was_healthy else State.STARTING

    def _fail(self, reason: str) -> None:
        self._move(State.FAILED, pid=None, reason=reason)

    def _move(self, state: State, **changes: object) -> None:
        self._board.update(self._name, state, **changes)
