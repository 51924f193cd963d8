"""The board that the runners of a stack share: who stands where, and whether to stop."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from atlas.clock import WallClock
from atlas.runtime.component import Component
from atlas.runtime.state import ComponentState, State, write_states
from atlas.telemetry import get_logger

__all__ = ["Board"]

log = get_logger(__name__)


class Board:
    """Holds each component's state; every change is written to the state file and told."""

    def __init__(
        self,
        home: Path,
        components: Iterable[Component],
        on_change: Callable[[ComponentState], None] | None,
    ) -> None:
        self._home = home
        self._on_change = on_change
        self._clock = WallClock()
        now = self._clock.now()
        self._states = {
            each.name: ComponentState(
                each.name, State.WAITING, now, port=each.port.number if each.port else None
            )
            for each in components
        }
        self._untold: list[ComponentState] = list(self._states.values())
        self._quiet = False
        self._gone: set[str] = set()
        self._changed = threading.Condition()
        self._telling = threading.Lock()
        self._stopping = False
        self._hurried = False

    def states(self) -> tuple[ComponentState, ...]:
        """Return where every component stands, in the order of the stack."""
        with self._changed:
            return tuple(self._states.values())

    def state_of(self, name: str) -> ComponentState:
        """Return where one component stands."""
        with self._changed:
            return self._states[name]

    def update(self, name: str, state: State, **changes: Any) -> None:
        """Move a component; `since` moves only when the state does."""
        with self._changed:
            before = self._states[name]
            since = before.since if before.state is state else self._clock.now()
            after = replace(before, state=state, since=since, **changes)
            if after == before:
                return
            self._states[name] = after
            self._untold.append(after)
            self._quiet = False
            self._changed.notify_all()
        self.tell()

    def tell(self) -> None:
        """Write the state file and call the listener, in the order of the changes."""
        with self._telling:
            with self._changed:
                untold, self._untold = self._untold, []
                states = tuple(self._states.values())
            if not untold:
                return
            try:
                write_states(self._home, states)
            except OSError as error:
                # A full disk must not end the supervision; `atlas status` asks the components too.
                log.error("state_file_not_written", reason=str(error))
            for state in untold:
                self._tell_listener(state)
            with self._changed:
                self._quiet = not self._untold
                self._changed.notify_all()

    def _tell_listener(self, state: ComponentState) -> None:
        if self._on_change is None:
            return
        try:
            self._on_change(state)
        except Exception:
            # A display that fails must not leave a component without its runner.
            log.exception("listener_failed", component=state.name)

    def wait(self, until: Callable[[], bool], timeout_s: float | None = None) -> bool:
        """Sleep until the predicate holds; it is asked again after each change."""
        with self._changed:
            return self._changed.wait_for(until, timeout_s)

    def sleep(self, seconds: float) -> bool:
        """Sleep unless the stack stops; return whether it goes on."""
        return not self.wait(lambda: self._stopping, seconds)

    def poke(self) -> None:
        """Wake whoever waits: something outside the board has changed."""
        with self._changed:
            self._changed.notify_all()

    @property
    def stopping(self) -> bool:
        """Whether the stack is being stopped."""
        return self._stopping

    @property
    def hurried(self) -> bool:
        """Whether it is to stop at once, without waiting for anybody."""
        return self._hurried

    def stop(self, *, hurry: bool = False) -> None:
        """Ask every runner to stop its component."""
        with self._changed:
            self._stopping = True
            self._hurried = self._hurried or hurry
            self._changed.notify_all()

    def leave(self, name: str) -> None:
        """Note that a component's runner is done, so that what it needs may stop."""
        with self._changed:
            self._gone.add(name)
            self._changed.notify_all()

    def wait_until_gone(self, names: Iterable[str]) -> None:
        """Sleep until the runners of all these components are done, or somebody hurries."""
        wanted = set(names)
        self.wait(lambda: self._hurried or wanted <= self._gone)

    def settle(self, names: Iterable[str], timeout_s: float | None) -> bool:
        """Sleep until each named component is healthy or will never be, and that has been told."""
        wanted = tuple(names)

        def settled() -> bool:
            return self._quiet and all(self._states[name].settled for name in wanted)

        return self.wait(settled, timeout_s)
