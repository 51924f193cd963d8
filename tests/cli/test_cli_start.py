"""The command line starts at once, says one sentence when it fails, and runs the stack."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
import redis

from atlas.cli import COMMANDS
from atlas.runtime import ComponentState, HttpProbe, State, read_states
from atlas.runtime.guardian import end_processes, living

ATLAS = (sys.executable, "-m", "atlas.cli")
HEAVY = {
    "prefect",
    "feast",
    "mlflow",
    "pandas",
    "polars",
    "pyarrow",
    "clickhouse_connect",
    "numpy",
    "redis",
    "sqlalchemy",
}


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[dict[str, str]]:
    """Return the environment of a desk of its own: a state folder and free ports."""
    trials = [socket.create_server(("127.0.0.1", 0)) for _ in range(5)]
    names = ("CLICKHOUSE", "REDIS", "PREFECT", "MLFLOW", "WORKER")
    ports = {
        f"ATLAS_{name}_PORT": str(trial.getsockname()[1])
        for name, trial in zip(names, trials, strict=True)
    }
    for trial in trials:
        trial.close()
    home = tmp_path / "home"
    yield {**os.environ, **ports, "ATLAS_HOME": str(home), "COLUMNS": "200"}
    mark = f"{home.resolve()}::"
    left = living((), mark)
    end_processes((), mark, grace_s=0)
    assert left == []


@pytest.fixture
def redis_up(desk: dict[str, str]) -> Iterator[subprocess.Popen[str]]:
    """Run `atlas up --only redis` until the test ends."""
    with subprocess.Popen(
        [*ATLAS, "up", "--only", "redis"], env=desk, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("Ctrl-C"):
                break
        yield process
        process.terminate()
        process.wait(30)


def atlas(desk: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*ATLAS, *arguments], env=desk, capture_output=True, text=True, timeout=60, check=False
    )


def status(desk: dict[str, str]) -> tuple[int, dict[str, Any]]:
    said = atlas(desk, "status", "--json")
    return said.returncode, json.loads(said.stdout)


def component(desk: dict[str, str], name: str) -> dict[str, Any]:
    _, found = status(desk)
    return next(each for each in found["components"] if each["name"] == name)


def written(desk: dict[str, str], name: str) -> ComponentState:
    return read_states(Path(desk["ATLAS_HOME"]))[name]


def until(predicate: Callable[[], bool], timeout_s: float = 20) -> bool:
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if predicate():
            return True
        time.sleep(0.05)
    return predicate()


def test_importing_the_command_line_brings_no_heavy_library():
    code = f"import sys, atlas.cli; print(sorted({HEAVY!r} & sys.modules.keys()))"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout == "[]\n"


def test_help_and_up_bring_no_heavy_library():
    code = (
        "import sys, typer.testing, atlas.cli, atlas.cli.up\n"
        "result = typer.testing.CliRunner().invoke(atlas.cli.app, ['--help'])\n"
        "assert result.exit_code == 0, result.output\n"
        f"print(sorted({HEAVY!r} & sys.modules.keys()))"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout == "[]\n"


def test_help_lists_the_commands_and_documents_the_exit_codes(desk):
    said = atlas(desk, "--help").stdout
    assert all(f" {name} " in said for name in ("up", "status"))
    assert "Exit codes: 0 done; 1 done, and the answer is no" in said


def test_help_of_a_command_is_that_of_its_function(desk):
    said = atlas(desk, "up", "--help")
    assert said.returncode == 0
    assert "--only" in said.stdout


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_has_its_function(name: str):
    from importlib import import_module

    module, function, line = COMMANDS[name]
    assert callable(getattr(import_module(module), function))
    assert line.endswith(".")


def test_an_unknown_command_is_refused(desk):
    said = atlas(desk, "upp")
    assert said.returncode == 2
    assert "No such command 'upp'" in said.stderr


def test_an_error_of_atlas_is_one_sentence_and_exit_code_2(desk):
    said = atlas({**desk, "ATLAS_REDDIS_PORT": "1"}, "status")
    assert said.returncode == 2
    assert said.stderr.startswith("InvalidSettings: Unknown setting ATLAS_REDDIS_PORT.")
    assert said.stderr.count("\n") == 1


def test_an_unknown_component_is_refused_by_name(desk):
    said = atlas(desk, "up", "--only", "radis")
    assert (said.returncode, said.stdout) == (2, "")
    assert "There is no component named radis. Known are clickhouse, live, mlflow" in said.stderr


def test_a_taken_port_is_one_sentence_with_its_setting(desk):
    with socket.create_server(("127.0.0.1", int(desk["ATLAS_REDIS_PORT"]))):
        said = atlas(desk, "up", "--only", "redis")
    assert (said.returncode, said.stdout) == (2, "")
    assert said.stderr.startswith(
        f"PortTaken: redis needs port {desk['ATLAS_REDIS_PORT']} (ATLAS_REDIS_PORT), which is taken"
    )


def test_status_without_a_stack_says_stopped_and_exits_with_1(desk):
    code, found = status(desk)
    assert code == 1
    assert {each["state"] for each in found["components"]} == {"stopped"}
    assert (found["supervisor"], found["trading"]["permitted"]) == (None, None)


def test_status_of_a_healthy_stack_exits_with_0(desk, redis_up):
    code, found = status(desk)
    (store,) = found["components"]
    assert code == 0
    assert (store["state"], store["port"]) == ("healthy", int(desk["ATLAS_REDIS_PORT"]))
    assert psutil.Process(store["pid"]).name() == "redis-server"
    assert found["supervisor"] == redis_up.pid


def test_status_tells_whether_trading_is_permitted(desk, redis_up):
    with redis.Redis(port=int(desk["ATLAS_REDIS_PORT"])) as client:
        halted = atlas(desk, "status").stdout
        client.set("atlas:permit", "{}")
        permitted = atlas(desk, "status").stdout
    assert ("Trading: halted" in halted, "Trading: permitted" in permitted) == (True, True)


def test_status_tells_the_truth_before_and_after_a_component_is_killed(desk, redis_up):
    first = written(desk, "redis")
    supervisor = psutil.Process(redis_up.pid)
    supervisor.suspend()  # so that nobody starts it again
    assert until(lambda: supervisor.status() == psutil.STATUS_STOPPED)
    os.kill(first.pid, signal.SIGKILL)
    dead = component(desk, "redis")
    supervisor.resume()
    assert until(lambda: written(desk, "redis").restarts == 1)
    assert until(lambda: written(desk, "redis").state is State.HEALTHY)
    again = component(desk, "redis")
    assert (dead["state"], dead["reason"]) == ("unhealthy", "its process is gone")
    assert (again["state"], again["restarts"], again["pid"] != first.pid) == ("healthy", 1, True)


def test_a_second_stack_over_the_folder_is_refused_with_the_first_ones_pid(desk, redis_up):
    said = atlas(desk, "up", "--only", "redis")
    assert said.returncode == 2
    assert f"the stack of process {redis_up.pid} is running there" in said.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_stops_everything_and_exits_with_0(desk, redis_up, number: signal.Signals):
    redis_up.send_signal(number)
    rest = redis_up.stdout.read()
    assert redis_up.wait(30) == 0
    assert "Stopping; once more ends it at once." in rest.splitlines()
    assert living((), f"{Path(desk['ATLAS_HOME']).resolve()}::") == []


def test_a_failed_component_is_shown_with_its_reason_and_exits_with_1(desk):
    blocked = Path(desk["ATLAS_HOME"])
    blocked.mkdir(parents=True)
    (blocked / "redis").write_text("a file where the folder should be")
    said = atlas(desk, "up", "--only", "redis")
    assert said.returncode == 1
    assert "redis  failed" in said.stdout
    assert "File exists" in said.stdout


def test_a_killed_up_leaves_no_process_and_status_says_so(desk, redis_up):
    redis_up.kill()
    assert until(lambda: living((), f"{Path(desk['ATLAS_HOME']).resolve()}::") == [])
    assert component(desk, "redis")["state"] == "stopped"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Return a folder with one flow and its deployment."""
    (tmp_path / "flows").mkdir()
    (tmp_path / "flows" / "hello.py").write_text(
        "from prefect import flow\n\n\n@flow\ndef hello():\n    pass\n"
    )
    (tmp_path / "prefect.yaml").write_text(
        "name: test\npull: null\ndeployments:\n- name: hello\n"
        "  entrypoint: flows/hello.py:hello\n  work_pool: {name: atlas-process}\n"
    )
    return tmp_path


@contextmanager
def stack_up(desk: dict[str, str], folder: Path, *names: str) -> Iterator[None]:
    """Run `atlas up` in a folder until each named component is healthy or will never be."""
    options = [option for name in names for option in ("--only", name)]
    with subprocess.Popen(
        [*ATLAS, "up", *options], env=desk, cwd=folder, stdout=subprocess.DEVNULL
    ) as process:
        home = Path(desk["ATLAS_HOME"])

        def settled() -> bool:
            known = read_states(home, writer=process.pid)
            return all(name in known and known[name].settled for name in names)

        try:
            assert until(settled, 240)
            yield
        finally:
            process.terminate()
            process.wait(60)


@pytest.mark.slow
def test_prefect_and_mlflow_come_up_with_pool_deployment_and_worker(desk, project):
    port = int(desk["ATLAS_PREFECT_PORT"])
    deployed = HttpProbe("127.0.0.1", port, "/api/deployments/name/hello/hello", "hello")
    with stack_up(desk, project, "prefect-worker", "mlflow"):
        code, found = status(desk)
        missing = deployed(None)
    assert (code, missing) == (0, None)
    assert {each["state"] for each in found["components"]} == {"healthy"}


@pytest.mark.slow
def test_what_is_deployed_already_is_not_deployed_again(desk, project):
    with stack_up(desk, project, "prefect-deployments"):
        pass
    with stack_up(desk, project, "prefect-deployments"):
        log = Path(desk["ATLAS_HOME"], "logs", "prefect-deployments.log").read_text()
    assert log.splitlines()[-1] == "prefect.yaml and the code are those that are deployed."


@pytest.mark.slow
def test_without_prefect_yaml_only_the_deployments_fail_and_say_so(desk, tmp_path):
    with stack_up(desk, tmp_path, "prefect-worker", "redis"):
        found = {name: written(desk, name) for name in ("redis", "prefect-deployments")}
    assert found["redis"].state is State.HEALTHY
    assert "Expected prefect.yaml in" in (found["prefect-deployments"].reason or "")
