"""Runs a stack of components: each as soon as its needs are healthy, stopped in reverse."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from atlas.runtime.board import Board
from atlas.runtime.component import Component, levels
from atlas.runtime.guardian import Guardian, end_processes
from atlas.runtime.ports import check_ports
from atlas.runtime.runner import Patience, Runner
from atlas.runtime.state import ComponentState, FolderLock

__all__ = ["Supervisor"]


class Supervisor:
    """Starts components, verifies their health, restarts what ends, stops all in reverse.

    Leaving the `with` block stops the stack; if this process dies before, the guardian ends it.

    Parameters
    ----------
    components : iterable of Component
        The stack; the order of starting follows from what each needs.
    home : Path
        State folder; one stack at a time runs over it.
    host : str
        Address that the components listen on.
    environment : mapping
        Variables that every component gets on top of those of this process.
    on_change : callable
        Called with the new state at each change, in order, from one thread at a time. It must
        neither wait for the supervisor nor stop it.

    Raises
    ------
    InvalidInput
        If a component's needs are unknown, or circular.
    """

    def __init__(
        self,
        components: Iterable[Component],
        *,
        home: Path,
        host: str = "127.0.0.1",
        environment: Mapping[str, str] | None = None,
        patience: Patience | None = None,
        on_change: Callable[[ComponentState], None] | None = None,
    ) -> None:
        listed = tuple(components)
        self.levels = levels(listed)
        """Names of the components by start level."""
        self._components = {component.name: component for component in listed}
        self._home = home.resolve()
        self._mark = f"{self._home}::"
        self._host = host
        self._environment = {**os.environ, **(environment or {})}
        self._patience = patience or Patience()
        self._board = Board(self._home, self._components.values(), on_change)
        self._lock = FolderLock(self._home)
        self._guardian: Guardian | None = None
        self._threads: list[threading.Thread] = []

    def start(self) -> Self:
        """Begin to start everything and return at once; `settle` waits for the outcome.

        Raises
        ------
        StackBusy
            If another stack runs over this state folder.
        PortTaken
            If a component's port is not free.
        """
        self._lock.acquire()
        try:
            # Left behind only if the supervisor and its guardian were both killed.
            end_processes((), self._mark)
            check_ports(self._components.values(), self._host)
            logs = self._home / "logs"
            logs.mkdir(exist_ok=True)
            self._guardian = Guardian(
                self._mark, log=logs / "guardian.log", keep_open=[self._lock.descriptor]
            )
        except BaseException:
            self._lock.release()
            raise
        self._board.tell()
        for component in self._components.values():
            runner = Runner(
                component,
                dependants=self._dependants(component.name),
                board=self._board,
                guardian=self._guardian,
                patience=self._patience,
                environment=self._environment,
                home=self._home,
            )
            thread = threading.Thread(target=runner.run, name=component.name, daemon=True)
            self._threads.append(thread)
            thread.start()
        return self

    def settle(self, *names: str, timeout_s: float | None = None) -> bool:
        """Wait until the named components (else all) are healthy or have failed; say whether so."""
        return self._board.settle(names or self._components, timeout_s)

    @property
    def components(self) -> tuple[Component, ...]:
        """The stack, in the order given."""
        return tuple(self._components.values())

    def states(self) -> tuple[ComponentState, ...]:
        """Return where every component stands."""
        return self._board.states()

    def stop(self) -> None:
        """Stop every component, dependants first, and leave no process behind."""
        self._board.stop()
        for thread in self._threads:
            thread.join()
        if self._guardian is not None:
            end_processes((), self._mark)  # what left the group of its component
            self._guardian.close()
            self._guardian = None
        self._lock.release()

    def hurry(self) -> None:
        """Make a stop under way kill whatever is left, at once and in no order."""
        self._board.stop(hurry=True)

    def _dependants(self, name: str) -> frozenset[str]:
        return frozenset(c.name for c in self._components.values() if name in c.needs)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()
