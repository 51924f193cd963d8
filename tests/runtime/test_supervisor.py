"""The supervisor starts, verifies, isolates, restarts and stops real programs."""

from __future__ import annotations

import dataclasses
import itertools
import os
import signal
import socket
import subprocess
import sys
import time
from datetime import timedelta

import psutil
import pytest

from atlas.errors import PortTaken, StackBusy
from atlas.runtime import ComponentState, Port, State, TcpProbe, read_states
from atlas.runtime.guardian import MARK

FAILS = "import sys; print('the disk is full'); sys.exit(3)"
HANGS = "import time; time.sleep(60)"


def test_each_component_starts_after_its_needs_and_ends_before_them(workshop):
    stack = workshop.start(
        workshop.service("worker", "features"),
        workshop.service("features", "redis"),
        workshop.service("redis"),
    )
    stack.stop()
    assert workshop.journal() == [
        "redis started",
        "features started",
        "worker started",
        "worker ended",
        "features ended",
        "redis ended",
    ]


def test_components_of_one_level_start_side_by_side(workshop):
    slow = "import time; time.sleep(0.8)"
    began = time.monotonic()
    workshop.start(*(workshop.program(name, slow, once=True) for name in ("a", "b", "c", "d")))
    assert time.monotonic() - began < 4 * 0.8


def test_a_component_starts_as_soon_as_its_own_needs_are_healthy(workshop, state_of):
    stack = workshop.stack(
        workshop.program("slow", "import time; time.sleep(30)", once=True),
        workshop.service("quick"),
        workshop.service("dependant", "quick"),
    ).start()
    assert stack.settle("dependant", timeout_s=9)
    assert state_of(stack, "slow").state is State.STARTING


def test_a_component_is_healthy_only_when_its_probe_says_so(workshop, state_of):
    late = (
        "import os, pathlib, sys, time; time.sleep(0.5)\n"
        "pathlib.Path(sys.argv[2], 'late.ready').write_text(str(os.getpid())); time.sleep(60)"
    )
    stack = workshop.start(workshop.program("late", late, probe=workshop.ready("late")))
    assert 0.5 < state_of(stack, "late").took_s < 5


def test_a_failing_start_is_tried_three_times_with_doubling_pauses(workshop, state_of):
    noting = (
        "import pathlib, sys, time\n"
        "pathlib.Path(sys.argv[2], 'times').open('a').write(f'{time.monotonic()}\\n'); sys.exit(3)"
    )
    patience = workshop.patience(backoff=timedelta(milliseconds=400))
    stack = workshop.start(workshop.program("broken", noting), patience=patience)
    times = [float(line) for line in (workshop.folder / "times").read_text().splitlines()]
    first, second = (later - former for former, later in itertools.pairwise(times))
    assert (len(times), first >= 0.4, second >= 0.8) == (3, True, True)
    assert state_of(stack, "broken").state is State.FAILED


def test_a_start_that_succeeds_at_the_second_try_is_healthy(workshop, state_of):
    second = (
        "import pathlib, sys, time\n"
        "mark = pathlib.Path(sys.argv[2], 'tried')\n"
        "if not mark.exists(): mark.touch(); sys.exit(1)\n"
    )
    stack = workshop.start(workshop.program("moody", second, once=True))
    assert (state_of(stack, "moody").state, state_of(stack, "moody").attempt) == (State.HEALTHY, 2)


def test_a_failure_is_told_with_the_exit_code_and_the_last_line_of_the_log(workshop, state_of):
    stack = workshop.start(workshop.program("broken", FAILS))
    log = workshop.home.resolve() / "logs" / "broken.log"
    assert state_of(stack, "broken").reason == (
        f"ended with code 3: the disk is full (3 tries; see {log})"
    )


def test_a_program_that_does_not_exist_fails_with_a_reason(workshop, state_of):
    missing = dataclasses.replace(workshop.service("missing"), command=("/nowhere/program",))
    stack = workshop.start(missing)
    assert "cannot be started: [Errno 2] No such file" in state_of(stack, "missing").reason


def test_a_start_that_takes_too_long_is_ended_and_told(workshop, state_of):
    patience = workshop.patience(start_timeout=timedelta(seconds=0.5), attempts=2)
    never = workshop.program("never", HANGS, probe=workshop.ready("never"))
    stack = workshop.start(never, patience=patience)
    assert state_of(stack, "never").reason.startswith(
        "not healthy within 0.5 s: never.ready is not there (2 tries"
    )
    assert workshop.processes() == []


def test_a_failed_component_keeps_its_dependants_down_and_nobody_else(workshop):
    stack = workshop.start(
        workshop.program("prefect", FAILS),
        workshop.service("deployments", "prefect"),
        workshop.service("flows", "deployments"),
        workshop.service("redis"),
        workshop.service("worker", "redis"),
    )
    assert [(s.name, s.state) for s in stack.states()] == [
        ("prefect", State.FAILED),
        ("deployments", State.WAITING),
        ("flows", State.WAITING),
        ("redis", State.HEALTHY),
        ("worker", State.HEALTHY),
    ]
    assert [s.reason for s in stack.states()][1:3] == [
        "not started: it needs prefect",
        "not started: it needs deployments",
    ]


def test_a_killed_component_is_started_again_and_its_dependants_run_on(workshop, state_of, until):
    stack = workshop.start(workshop.service("redis"), workshop.service("worker", "redis"))
    before = {state.name: state.pid for state in stack.states()}
    os.kill(before["redis"], signal.SIGKILL)
    assert until(lambda: state_of(stack, "redis").restarts == 1)
    assert until(lambda: state_of(stack, "redis").state is State.HEALTHY)
    assert state_of(stack, "redis").pid != before["redis"]
    assert state_of(stack, "worker").pid == before["worker"]


def test_a_restart_tells_what_ended_the_component(workshop, until):
    told: list[ComponentState] = []
    stack = workshop.start(workshop.service("redis"), on_change=told.append)
    os.kill(stack.states()[0].pid, signal.SIGKILL)
    assert until(lambda: len(told) > 3 and told[-1].state is State.HEALTHY)
    restarting = next(state for state in told if state.state is State.RESTARTING)
    assert (restarting.reason, restarting.pid) == ("was ended by SIGKILL", None)


def test_a_component_that_crashes_again_and_again_pauses_longer_each_time(workshop, until):
    crashing = (
        "import os, pathlib, sys, time\n"
        "folder = pathlib.Path(sys.argv[2])\n"
        "folder.joinpath('times').open('a').write(f'{time.monotonic()}\\n')\n"
        "folder.joinpath('crashing.ready').write_text(str(os.getpid()))\n"
        "time.sleep(0.5); sys.exit(1)"
    )
    patience = workshop.patience(backoff=timedelta(milliseconds=200))
    component = workshop.program("crashing", crashing, probe=workshop.ready("crashing"))
    stack = workshop.stack(component, patience=patience).start()
    times = workshop.folder / "times"
    assert until(lambda: times.exists() and len(times.read_text().splitlines()) >= 4)
    stack.stop()
    stamps = [float(line) for line in times.read_text().splitlines()][:4]
    pauses = [later - former for former, later in itertools.pairwise(stamps)]
    least = (0.5 + 0.2, 0.5 + 0.4, 0.5 + 0.8)
    assert [pause >= bound for pause, bound in zip(pauses, least, strict=True)] == [True] * 3


def test_a_restart_that_fails_three_times_is_a_failure_with_its_reason(workshop, state_of, until):
    once_only = (
        "import pathlib, sys, time\n"
        "mark = pathlib.Path(sys.argv[2], 'ran')\n"
        "if mark.exists(): sys.exit('the disk is full')\n"
        "mark.touch(); time.sleep(60)"
    )
    stack = workshop.start(workshop.program("store", once_only))
    os.kill(stack.states()[0].pid, signal.SIGKILL)
    assert until(lambda: state_of(stack, "store").state is State.FAILED)
    assert "the disk is full (3 tries" in state_of(stack, "store").reason


def test_a_component_that_stops_answering_is_told_and_then_restarted(workshop, until):
    told: list[ComponentState] = []
    patience = workshop.patience(start_timeout=timedelta(seconds=1))
    stack = workshop.start(workshop.service("hung"), patience=patience, on_change=told.append)
    first = stack.states()[0].pid
    (workshop.folder / "hung.ready").unlink()
    os.kill(first, signal.SIGSTOP)
    assert until(lambda: stack.states()[0].state is State.HEALTHY and stack.states()[0].restarts)
    assert [s.state for s in told if s.reason is not None][:2] == [
        State.UNHEALTHY,
        State.RESTARTING,
    ]
    assert stack.states()[0].pid != first


def test_a_component_that_answers_again_in_time_is_not_restarted(workshop, until):
    stack = workshop.start(workshop.service("busy"))
    (workshop.folder / "busy.ready").unlink()
    assert until(lambda: stack.states()[0].state is State.UNHEALTHY)
    (workshop.folder / "busy.ready").write_text(str(stack.states()[0].pid))
    assert until(lambda: stack.states()[0].state is State.HEALTHY)
    assert stack.states()[0].restarts == 0


def test_a_grandchild_that_holds_the_port_of_a_killed_component_is_ended(
    workshop, free_port, until
):
    port = free_port()
    # As MLflow does: the program itself only waits for a child that has the port.
    holder = (
        "import socket, subprocess, sys\n"
        "serve = 'import socket, time; "
        f's = socket.create_server(("127.0.0.1", {port})); time.sleep(60)\'\n'
        "sys.exit(subprocess.run([sys.executable, '-c', serve]).returncode)"
    )
    server = workshop.program("server", holder, probe=TcpProbe("127.0.0.1", port))
    stack = workshop.start(server)
    os.kill(stack.states()[0].pid, signal.SIGKILL)
    assert until(lambda: stack.states()[0].state is State.HEALTHY and stack.states()[0].restarts)


def test_a_component_that_ignores_the_wish_to_end_is_killed(workshop):
    deaf = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(60)"
    stack = workshop.start(workshop.program("deaf", deaf, stop_timeout=timedelta(seconds=0.3)))
    stack.stop()
    assert workshop.processes() == []


def test_hurrying_ends_a_stop_that_waits(workshop):
    deaf = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(60)"
    stack = workshop.start(workshop.program("deaf", deaf, stop_timeout=timedelta(seconds=60)))
    stack.hurry()
    began = time.monotonic()
    stack.stop()
    assert time.monotonic() - began < 5
    assert workshop.processes() == []


def test_a_stop_in_the_middle_of_a_start_ends_what_has_started(workshop, state_of):
    never = workshop.program("never", HANGS, probe=workshop.ready("never"))
    stack = workshop.stack(workshop.service("redis"), never).start()
    assert stack.settle("redis", timeout_s=10)
    stack.stop()
    assert [s.state for s in stack.states()] == [State.STOPPED, State.STOPPED]


def test_the_state_file_follows_every_change(workshop, until):
    stack = workshop.start(workshop.service("redis"), workshop.program("broken", FAILS))
    assert read_states(workshop.home) == {state.name: state for state in stack.states()}
    stack.stop()
    assert [s.state for s in read_states(workshop.home).values()] == [State.STOPPED, State.FAILED]


def test_changes_are_told_in_order(workshop):
    told: list[ComponentState] = []
    stack = workshop.start(workshop.service("redis"), on_change=told.append)
    stack.stop()
    assert [state.state for state in told] == [
        State.WAITING,
        State.STARTING,
        State.HEALTHY,
        State.STOPPED,
    ]


def test_a_listener_that_fails_does_not_stop_the_stack(workshop):
    def fail(state: ComponentState) -> None:
        raise RuntimeError("the terminal is gone")

    stack = workshop.start(
        workshop.service("redis"), workshop.service("worker", "redis"), on_change=fail
    )
    assert [state.state for state in stack.states()] == [State.HEALTHY, State.HEALTHY]


def test_a_probe_that_fails_is_a_failure_and_the_stack_still_stops(workshop, state_of):
    def broken(pid: int | None) -> str | None:
        raise RuntimeError("a bug")

    stack = workshop.start(
        workshop.service("redis"), dataclasses.replace(workshop.service("worker"), probe=broken)
    )
    assert state_of(stack, "worker").reason == "the supervisor failed: RuntimeError('a bug')"
    stack.stop()


def test_a_taken_port_is_refused_before_anything_starts(workshop):
    with socket.create_server(("127.0.0.1", 0)) as stranger:
        port = stranger.getsockname()[1]
        redis = workshop.service("redis", port=Port(port, "ATLAS_REDIS_PORT"))
        with pytest.raises(PortTaken) as refused:
            workshop.stack(workshop.service("first"), redis).start()
    assert str(refused.value) == (
        f"redis needs port {port} (ATLAS_REDIS_PORT), which is taken by "
        f"{psutil.Process().name()} (pid {os.getpid()}); end that program "
        "or set ATLAS_REDIS_PORT to a free port."
    )
    assert not (workshop.folder / "journal").exists()


def test_one_port_for_two_components_is_refused_with_both_settings(workshop, free_port):
    port = free_port()
    with pytest.raises(PortTaken, match="set ATLAS_A_PORT and ATLAS_B_PORT to different ports"):
        workshop.stack(
            workshop.service("a", port=Port(port, "ATLAS_A_PORT")),
            workshop.service("b", port=Port(port, "ATLAS_B_PORT")),
        ).start()


def test_a_refused_start_leaves_the_folder_free(workshop, free_port):
    port = free_port()
    with socket.create_server(("127.0.0.1", port)), pytest.raises(PortTaken):
        workshop.stack(workshop.service("a", port=Port(port, "ATLAS_A_PORT"))).start()
    stack = workshop.start(workshop.service("a", port=Port(port, "ATLAS_A_PORT")))
    assert stack.states()[0].state is State.HEALTHY


def test_a_second_stack_over_the_same_folder_is_refused_with_the_first_ones_pid(workshop):
    workshop.start(workshop.service("redis"))
    began = time.monotonic()
    with pytest.raises(StackBusy, match=f"the stack of process {os.getpid()} is running there"):
        workshop.stack(workshop.service("other")).start()
    assert time.monotonic() - began < 5


def test_a_stack_can_be_started_again_over_the_same_folder(workshop):
    workshop.start(workshop.service("redis")).stop()
    workshop.start(workshop.service("redis")).stop()
    assert workshop.journal() == ["redis started", "redis ended"] * 2


def test_what_a_component_prints_is_appended_to_its_log(workshop):
    said = "import sys; print('to the world'); print('alas', file=sys.stderr)"
    for _ in range(2):
        workshop.start(workshop.program("speaker", said, once=True)).stop()
    lines = (workshop.home / "logs" / "speaker.log").read_text().splitlines()
    assert [line for line in lines if not line.startswith("---")] == ["to the world", "alas"] * 2


def test_a_log_that_has_grown_large_is_put_aside_at_the_start(workshop):
    logs = workshop.home / "logs"
    logs.mkdir(parents=True)
    (logs / "speaker.log").write_text("x" * ((10 << 20) + 1))
    workshop.start(workshop.program("speaker", "print('new')", once=True)).stop()
    assert (logs / "speaker.log.1").stat().st_size == (10 << 20) + 1
    assert (logs / "speaker.log").read_text().endswith("new\n")


def test_a_component_gets_its_variables_and_no_input(workshop):
    source = (
        "import os, sys; print(os.environ['COLOUR'], os.environ['SIZE'], repr(sys.stdin.read()))"
    )
    program = workshop.program("speaker", source, once=True, environment={"SIZE": "own"})
    workshop.start(program, environment={"COLOUR": "shared", "SIZE": "shared"}).stop()
    assert "shared own ''\n" in (workshop.home / "logs" / "speaker.log").read_text()


def test_a_component_after_another_starts_when_that_one_has_settled(workshop):
    workshop.start(
        workshop.service("prefect", after=("live", "broken")),
        workshop.program("broken", FAILS),
        workshop.service("live", "redis"),
        workshop.service("redis"),
    )
    assert workshop.journal() == ["redis started", "live started", "prefect started"]


def test_a_component_after_a_slow_one_does_not_wait_for_ever(workshop):
    never = workshop.program("never", HANGS, probe=workshop.ready("never"))
    patience = workshop.patience(start_timeout=timedelta(seconds=1), attempts=20)
    stack = workshop.stack(workshop.service("prefect", after=("never",)), never, patience=patience)
    assert stack.start().settle("prefect", timeout_s=5)


def test_components_answer_ctrl_c_although_the_stack_was_started_in_background(workshop):
    """A shell without job control starts `program &` with SIGINT ignored, and children inherit."""
    script = workshop.folder / "background.py"
    script.write_text(BACKGROUND)
    outcome = subprocess.run(
        ["bash", "-c", f"{sys.executable} {script} {workshop.home} & wait $!"],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert outcome.stdout.split() == ["True", "default"]


BACKGROUND = """
import pathlib, signal, sys
from atlas.runtime import Component, Supervisor
ignored = signal.getsignal(signal.SIGINT) is signal.SIG_IGN
ask = (
    "import signal; h = signal.getsignal(signal.SIGINT); "
    "print('ignored' if h is signal.SIG_IGN else 'default')"
)
home = pathlib.Path(sys.argv[1])
child = Component(name="child", command=(sys.executable, "-c", ask), once=True)
with Supervisor([child], home=home) as stack:
    stack.settle(timeout_s=20)
print(ignored, (home / "logs" / "child.log").read_text().split()[-1])
"""


def test_the_mark_is_no_setting_so_that_children_may_read_the_settings():
    assert not MARK.startswith("ATLAS_")
