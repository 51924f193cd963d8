"""No process of a stack outlives its supervisor, however that ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from atlas.errors import StackBusy
from atlas.runtime import State
from atlas.runtime.guardian import MARK, Guardian, end_processes, living
from atlas.runtime.state import FolderLock

# Its child starts a grandchild, and one that leaves for a session of its own.
SUPERVISED = """
import pathlib, sys, time
from atlas.runtime import Component, Supervisor
home = pathlib.Path(sys.argv[1])
family = '''
import pathlib, subprocess, sys, time
sleep = [sys.executable, "-S", "-c", "import time; time.sleep(120)"]
subprocess.Popen(sleep)
subprocess.Popen(sleep, start_new_session=True)
pathlib.Path(sys.argv[1]).touch()
time.sleep(120)
'''
def child(name):
    ready = home.parent / f"{name}.ready"
    return Component(
        name=name,
        command=(sys.executable, "-S", "-c", family, str(ready)),
        probe=lambda pid: None if ready.exists() else "not ready",
    )
with Supervisor([child("a"), child("b")], home=home) as stack:
    stack.settle(timeout_s=30)
    print("settled", flush=True)
    time.sleep(120)
"""


@pytest.fixture
def supervised(workshop) -> Iterator[subprocess.Popen[str]]:
    """Start a supervisor of its own process, with six processes under it."""
    script = workshop.folder / "supervised.py"
    script.write_text(SUPERVISED)
    with subprocess.Popen(
        [sys.executable, str(script), str(workshop.home)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "settled\n"
        yield process
        process.kill()
    end_processes((), f"{workshop.home.resolve()}::", grace_s=0)


def guardians(home: Path) -> list[psutil.Process]:
    """Return the guardians of the stacks over a folder."""
    mark = f"{home.resolve()}::"
    return [p for p in psutil.process_iter(["cmdline"]) if mark in (p.info["cmdline"] or ())]


def test_everything_ends_when_the_supervisor_is_killed(workshop, supervised, until):
    assert len(workshop.processes()) == 6
    supervised.kill()
    assert until(lambda: workshop.processes() == [])
    assert until(lambda: guardians(workshop.home) == [])


def test_a_killed_guardian_is_replaced_and_its_successor_guards(workshop, supervised, until):
    (first,) = guardians(workshop.home)
    first.kill()
    assert until(lambda: [g for g in guardians(workshop.home) if g != first])
    supervised.kill()
    assert until(lambda: workshop.processes() == [])


def test_the_next_stack_ends_what_is_left_when_supervisor_and_guardian_were_killed(
    workshop, supervised
):
    os.kill(supervised.pid, signal.SIGSTOP)  # so that it cannot replace the guardian
    for guardian in guardians(workshop.home):
        guardian.kill()
    supervised.kill()
    supervised.wait()
    left = set(workshop.processes())
    assert len(left) == 6
    workshop.start(workshop.service("redis"))
    assert left & set(workshop.processes()) == set()


def test_the_folder_is_busy_until_the_guardian_has_ended_the_last_process(workshop, supervised):
    (guardian,) = guardians(workshop.home)
    guardian.suspend()
    supervised.kill()
    supervised.wait()
    with pytest.raises(StackBusy, match=f"{supervised.pid} was killed and is still being ended"):
        FolderLock(workshop.home).acquire(patience_s=0.2)
    guardian.resume()
    stack = workshop.start(workshop.service("redis"))
    assert stack.states()[0].state is State.HEALTHY


def test_a_stack_does_not_end_its_neighbours(workshop, supervised, tmp_path_factory):
    neighbour = tmp_path_factory.mktemp("neighbour")
    with Guardian(f"{neighbour}::", log=neighbour / "guardian.log"):
        pass
    assert len(workshop.processes()) == 6


def test_a_guardian_ends_groups_it_was_told_of_and_none_that_it_was_told_to_forget(tmp_path):
    sleep = [sys.executable, "-S", "-c", "import time; time.sleep(60)"]
    with (
        subprocess.Popen(sleep, start_new_session=True) as told,
        subprocess.Popen(sleep, start_new_session=True) as forgotten,
    ):
        with Guardian(f"{tmp_path}::", log=tmp_path / "guardian.log") as guardian:
            guardian.protect(told.pid)
            guardian.protect(forgotten.pid)
            guardian.release(forgotten.pid)
        assert told.wait(5) == -signal.SIGTERM
        assert forgotten.poll() is None
        forgotten.kill()


def test_a_marked_process_that_ignores_sigterm_is_killed(tmp_path):
    deaf = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
        "print('deaf', flush=True); time.sleep(60)"
    )
    mark = f"{tmp_path}::deaf::"
    with subprocess.Popen(
        [sys.executable, "-S", "-c", deaf],
        env={**os.environ, MARK: mark},
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert [each.pid for each in living((), mark)] == [process.pid]
        end_processes((), mark, grace_s=0.2)
        assert process.wait(5) == -signal.SIGKILL
