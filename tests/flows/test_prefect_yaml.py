"""prefect.yaml: every key is one that Prefect knows, every entry point exists, schedules run."""

import importlib
import os
import subprocess
import sys
import time
import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from local_processes import end, free_port

from atlas.config import load_settings
from atlas.runtime import POOL, environment

KEYS = {
    "name",
    "entrypoint",
    "description",
    "tags",
    "parameters",
    "work_pool",
    "concurrency_limit",
    "schedules",
    "triggers",
}


@pytest.fixture(scope="module")
def deployments() -> list[dict[str, Any]]:
    """What prefect.yaml deploys."""
    return yaml.safe_load(Path("prefect.yaml").read_text())["deployments"]


def test_every_entry_point_is_a_flow_with_those_parameters(deployments: list[Any]) -> None:
    for deployment in deployments:
        path, name = deployment["entrypoint"].split(":")
        flow = getattr(importlib.import_module(path.removesuffix(".py").replace("/", ".")), name)
        assert set(deployment.get("parameters", {})) <= set(flow.parameters.properties), path


def test_no_key_is_misspelt_since_prefect_would_drop_it_silently(deployments: list[Any]) -> None:
    assert {key for deployment in deployments for key in deployment} <= KEYS
    assert {deployment["work_pool"]["name"] for deployment in deployments} == {POOL}


def test_what_recurs_is_scheduled(deployments: list[Any]) -> None:
    crons = {
        d["name"]: [(s["cron"], s.get("active", True)) for s in d["schedules"]]
        for d in deployments
        if "schedules" in d
    }
    assert crons == {
        "materialise": [("7 * * * *", True)],
        "experiments": [("17 * * * *", True)],
        "regimes": [("5 0 * * 1", False)],
        "retrain-daily": [("30 1 * * *", False)],
        "retrain": [("0 1 * * 0", True)],
        "retrain-monthly": [("0 2 1 * *", False)],
    }


@pytest.mark.slow
def test_schedules_and_events_really_start_runs(tmp_path: Path) -> None:
    settings = load_settings({}, home=tmp_path, prefect_port=free_port())
    variables = {
        **os.environ,
        **environment(settings),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_API_DATABASE_CONNECTION_URL": f"sqlite+aiosqlite:///{tmp_path / 'prefect.db'}",
    }
    address = f"http://127.0.0.1:{settings.prefect_port}/api"
    port = str(settings.prefect_port)
    with (tmp_path / "server.log").open("wb") as log:
        server = subprocess.Popen(
            [*(sys.executable, "-m", "prefect", "server", "start"), "--port", port],
            env=variables,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        _until(lambda: httpx.get(f"{address}/health").json() is True, 120)
        subprocess.run(
            [sys.executable, "-m", "atlas.runtime.deployments"], env=variables, check=True
        )
        wanted = {"flow_runs": {"state": {"type": {"any_": ["SCHEDULED"]}}}}
        _until(lambda: len(httpx.post(f"{address}/flow_runs/filter", json=wanted).json()) >= 2, 90)
        httpx.post(f"{address}/events", json=[_drifted()]).raise_for_status()
        asked = {"deployments": {"name": {"any_": ["retrain-on-event"]}}}
        _until(lambda: httpx.post(f"{address}/flow_runs/filter", json=asked).json(), 90)
        (run,) = httpx.post(f"{address}/flow_runs/filter", json=asked).json()
        assert run["parameters"]["view"] == "ohlcv_5m"
        assert run["parameters"]["reason"] == "atlas.drift.detected: rsi_14 moved"
    finally:
        end(server)


def _drifted() -> dict[str, Any]:
    """What the monitor tells Prefect of when features drift."""
    return {
        "id": str(uuid.uuid4()),
        "occurred": datetime.now(UTC).isoformat(),
        "event": "atlas.drift.detected",
        "resource": {"prefect.resource.id": "atlas.model.direction_ohlcv_5m"},
        "payload": {"view": "ohlcv_5m", "why": "rsi_14 moved"},
    }


def _until(holds: Any, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while True:
        try:
            if holds():
                return
        except httpx.HTTPError:
            pass
        assert time.monotonic() < deadline
        time.sleep(0.5)
