"""MLflow's aliases follow the deployment log; whoever moves one by hand is told of, and undone."""

import json
import os
import subprocess
import sys
import time
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from local_processes import end, free_port, wait_for
from redis import Redis
from registered_manifests import build_manifest

from atlas.bus import AliasEdit, is_permitted, read_alias_edits
from atlas.clock import ManualClock
from atlas.deployment import Desk
from atlas.deployment.aliases import AliasFollower, aliases_of
from atlas.errors import InvalidInput, StoreUnavailable
from atlas.registry import DeploymentLog, HaltLog, Latch, ModelState, VersionState
from atlas.registry.mlflow_registry import MlflowRegistry
from atlas.serving import Stage

NOW = datetime(2026, 5, 4, 3, 2, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def mlflow_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder, port = tmp_path_factory.mktemp("mlflow"), free_port()
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--workers", "1"]
    places = ["--backend-store-uri", f"sqlite:///{folder}/mlflow.db", "--port", str(port)]
    quiet = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    log = folder / "log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            [*command, *places], stdout=out, stderr=out, cwd=folder, env={**os.environ, **quiet}
        )
    url = f"http://127.0.0.1:{port}"
    try:
        wait_for(lambda: urllib.request.urlopen(f"{url}/health").close(), process, log, 120)
        yield url
    finally:
        end(process)


def say(url: str, path: str, **fields: str) -> None:
    request = urllib.request.Request(
        f"{url}/api/2.0/mlflow/{path}",
        data=json.dumps(fields).encode(),
        headers={"Content-Type": "application/json"},
    )
    urllib.request.urlopen(request).close()


@pytest.fixture
def model(mlflow_url: str) -> str:
    """A model of three versions that MLflow knows."""
    name = f"model_{uuid.uuid4().hex[:8]}"
    say(mlflow_url, "registered-models/create", name=name)
    for _ in range(3):
        say(mlflow_url, "model-versions/create", name=name, source="s3://bucket/model")
    return name


@pytest.fixture
def registry(mlflow_url: str) -> MlflowRegistry:
    return MlflowRegistry(mlflow_url)


@pytest.fixture
def own(url: str, redis: Redis, model: str) -> Desk:
    """A desk with the versions 1 to 3 of that model, and one that MLflow does not know."""
    desk = Desk(DeploymentLog(url), redis, who="ada")
    for version in (1, 2, 3, 7):
        desk.register(build_manifest(version, model), passed=True, report="")
    desk.register(build_manifest(1, "elsewhere"), passed=True, report="")
    return desk


@pytest.fixture
def follower(own: Desk, registry: MlflowRegistry, redis: Redis) -> AliasFollower:
    return AliasFollower(own.log, registry, redis, clock=ManualClock(NOW))


def test_aliases_follow_every_move(
    own: Desk, model: str, follower: AliasFollower, registry: MlflowRegistry
) -> None:
    seen = []
    for move in (
        lambda: own.stage_shadow(model, 1),
        lambda: own.promote(model, 1),
        lambda: own.stage_shadow(model, 2),
        lambda: own.promote(model, 2),
        lambda: own.rollback(model),
        lambda: own.retire(model, 1),
    ):
        move()
        assert follower.look() == ()
        seen.append(registry.aliases(model))
    assert seen == [
        {"shadow": 1},
        {"live": 1},
        {"live": 1, "shadow": 2},
        {"live": 2},
        {"live": 1},
        {},
    ]


def test_what_somebody_moved_is_told_and_put_back(
    own: Desk, model: str, follower: AliasFollower, registry: MlflowRegistry, redis: Redis
) -> None:
    own.stage_shadow(model, 1)
    own.promote(model, 1)
    follower.look()
    registry.point(model, "live", 3)
    registry.point(model, "shadow", 2)
    registry.point(model, "favourite", 2)

    edits = follower.look()

    assert edits == (
        AliasEdit(model, "live", 3, 1, NOW),
        AliasEdit(model, "shadow", 2, None, NOW),
    )
    assert registry.aliases(model) == {"live": 1, "favourite": 2}
    assert set(read_alias_edits(redis)) == set(edits)
    assert follower.look() == ()
    registry.remove(model, "live")
    assert [str(edit) for edit in follower.look()] == [
        f"alias live of {model} was removed in MLflow; put back to 1 at 2026-05-04 03:02:01 UTC"
    ]


def test_a_lost_memory_takes_what_it_finds_for_old(
    own: Desk, model: str, follower: AliasFollower, registry: MlflowRegistry, redis: Redis
) -> None:
    own.stage_shadow(model, 1)
    registry.point(model, "shadow", 3)
    assert follower.look() == ()
    assert registry.aliases(model) == {"shadow": 1}
    redis.flushall()
    registry.point(model, "shadow", 3)
    assert follower.look() == ()
    assert registry.aliases(model) == {"shadow": 1}


def test_versions_and_models_that_mlflow_does_not_know_are_passed_over(
    own: Desk, model: str, follower: AliasFollower, registry: MlflowRegistry
) -> None:
    own.stage_shadow("elsewhere", 1)
    own.stage_shadow(model, 7)
    assert follower.look() == ()
    assert registry.aliases(model) == {}
    assert registry.aliases("elsewhere") is None
    with pytest.raises(InvalidInput, match="refused"):
        registry.point(model, "live", 7)


def test_mlflow_away_is_told_and_stops_neither_redis_nor_the_desk(
    own: Desk, model: str, redis: Redis, url: str
) -> None:
    away = MlflowRegistry("http://ada:geheim@127.0.0.1:1")
    with pytest.raises(StoreUnavailable, match=r"MLflow at http://127\.0\.0\.1:1; found: .*refu"):
        AliasFollower(own.log, away, redis).look()
    AliasFollower(own.log, away, redis).look_patiently()
    Latch(HaltLog(url), redis).release("ada", "open", expected=0)
    assert is_permitted(redis)


def test_the_process_puts_aliases_back_and_status_says_so(
    own: Desk,
    model: str,
    registry: MlflowRegistry,
    mlflow_url: str,
    url: str,
    redis_port: int,
    tmp_path: Path,
    redis: Redis,
) -> None:
    own.stage_shadow(model, 1)
    variables = {
        "ATLAS_HOME": str(tmp_path / "home"),
        "ATLAS_DATABASE_URL": url,
        "ATLAS_REDIS_PORT": str(redis_port),
        "MLFLOW_TRACKING_URI": mlflow_url,
    }
    environment = {**os.environ, **variables}
    command = [sys.executable, "-m", "atlas.runtime.reconciler"]
    process = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
    try:
        eventually(lambda: registry.aliases(model) == {"shadow": 1})
        registry.point(model, "shadow", 2)
        eventually(lambda: registry.aliases(model) == {"shadow": 1})
        eventually(lambda: read_alias_edits(redis))
    finally:
        end(process)
    said = subprocess.run(
        [sys.executable, "-m", "atlas.cli", "status"], env=environment, capture_output=True
    )
    assert f"alias shadow of {model} was moved to version 2 in MLflow" in said.stdout.decode()


def eventually(holds: Callable[[], object]) -> None:
    deadline = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.1)


@given(stages=st.dictionaries(st.integers(1, 9), st.sampled_from(sorted(Stage)), max_size=6))
def test_an_alias_is_a_version_at_that_stage(stages: dict[int, Stage]) -> None:
    versions = {n: VersionState(n, s, True, build_manifest(n), "") for n, s in stages.items()}
    found = aliases_of(ModelState("m", versions=versions))
    assert set(found) == {str(s) for s in stages.values()} & {"live", "canary", "shadow"}
    assert all(stages[version] == alias for alias, version in found.items())
