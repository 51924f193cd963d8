"""Small real programs that the supervisor's tests start, and the folder that they share."""

from __future__ import annotations

import socket
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import psutil
import pytest

from atlas.runtime import Component, ComponentState, Patience, Supervisor
from atlas.runtime.guardian import living

QUICK = Patience(
    start_timeout=timedelta(seconds=10),
    backoff=timedelta(milliseconds=50),
    watch_interval=timedelta(milliseconds=50),
)

SERVICE = """
import os, pathlib, signal, sys, time
name, folder = sys.argv[1], pathlib.Path(sys.argv[2])
def note(what):
    with (folder / "journal").open("a") as journal:
        journal.write(f"{name} {what}\\n")
def end(*_):
    note("ended")
    sys.exit(0)
signal.signal(signal.SIGTERM, end)
note("started")
(folder / f"{name}.ready").write_text(str(os.getpid()))
while True:
    time.sleep(60)
"""


@dataclass(frozen=True)
class FileProbe:
    """Healthy while a file holds the pid of the program."""

    path: Path

    def __call__(self, pid: int | None) -> str | None:
        if not self.path.exists():
            return f"{self.path.name} is not there"
        return None if self.path.read_text() == str(pid) else f"{self.path.name} is another's"


@dataclass(frozen=True)
class Workshop:
    """Makes components and stacks over the folder of one test."""

    folder: Path
    stacks: list[Supervisor]

    @property
    def home(self) -> Path:
        return self.folder / "home"

    def service(self, name: str, *needs: str, **fields: Any) -> Component:
        """Make a program that notes its start and its end in the journal."""
        return self.program(name, SERVICE, *needs, probe=self.ready(name), **fields)

    def ready(self, name: str) -> FileProbe:
        """Make the probe of a program that writes its pid to a file when it is ready."""
        return FileProbe(self.folder / f"{name}.ready")

    def program(self, name: str, source: str, *needs: str, **fields: Any) -> Component:
        """Make a program of this source; its arguments are its name and the folder."""
        script = self.folder / f"{name}.py"
        script.write_text(source)
        command = (sys.executable, "-S", str(script), name, str(self.folder))
        return Component(name=name, command=command, needs=needs, **fields)

    def patience(self, **changes: Any) -> Patience:
        """Return the patience of this folder's stacks, changed."""
        return replace(QUICK, **changes)

    def stack(self, *components: Component, **options: Any) -> Supervisor:
        """Return a stack over this folder; the test's end stops it."""
        stack = Supervisor(components, home=self.home, **{"patience": QUICK, **options})
        self.stacks.append(stack)
        return stack

    def start(self, *components: Component, **options: Any) -> Supervisor:
        """Start a stack and wait until every start has ended."""
        stack = self.stack(*components, **options).start()
        assert stack.settle(timeout_s=20)
        return stack

    def journal(self) -> list[str]:
        """Return what the programs noted, in order."""
        return (self.folder / "journal").read_text().splitlines()

    def processes(self) -> list[psutil.Process]:
        """Return what is alive of the stacks over this folder."""
        return living((), f"{self.home.resolve()}::")


@pytest.fixture
def workshop(tmp_path: Path) -> Iterator[Workshop]:
    made = Workshop(tmp_path, [])
    yield made
    for stack in made.stacks:
        stack.stop()
    assert made.processes() == []


@pytest.fixture
def free_port() -> Callable[[], int]:
    def find() -> int:
        with socket.socket() as trial:
            trial.bind(("127.0.0.1", 0))
            return int(trial.getsockname()[1])

    return find


@pytest.fixture
def state_of() -> Callable[[Supervisor, str], ComponentState]:
    def find(stack: Supervisor, name: str) -> ComponentState:
        return next(state for state in stack.states() if state.name == name)

    return find


@pytest.fixture
def until() -> Callable[..., bool]:
    """Return a function that waits until a predicate holds, and tells whether it came to hold."""
    import time

    def wait(predicate: Callable[[], bool], timeout_s: float = 10.0) -> bool:
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            if predicate():
                return True
            time.sleep(0.01)
        return predicate()

    return wait
