"""`atlas train` for every engine, from stored bars to a judged version, on real engines."""

import json
import os
import subprocess
import sys
from datetime import timedelta
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from clickhouse_connect.driver.client import Client
from redis import Redis

from atlas.clickhouse import insert_once
from atlas.features import feature_set
from atlas.ingest import MarketRecipe, simulate
from atlas.materialise import compute_history

RECIPE = MarketRecipe(symbols=("SIM_A", "SIM_B"), days=14, seed=5)
MODEL = "direction_ohlcv_1m"
ATLAS = (sys.executable, "-m", "atlas.cli")
needs_torch = pytest.mark.skipif(
    find_spec("torch") is None, reason="Training it needs torch: make setup EXTRAS=deep."
)


@pytest.fixture
def desk(
    tmp_path: Path,
    redis: Redis,
    redis_port: int,
    clickhouse: Client,
    clickhouse_port: int,
    database: str,
) -> dict[str, str]:
    """The environment of a terminal beside an installation that has features of two weeks."""
    insert_once(clickhouse, "bars_1m", simulate(RECIPE).to_arrow())
    compute_history(
        clickhouse, feature_set("ohlcv_1m"), until=RECIPE.start + timedelta(days=RECIPE.days)
    )
    environment = {
        **os.environ,
        "ATLAS_HOME": str(tmp_path),
        "ATLAS_REDIS_PORT": str(redis_port),
        "ATLAS_CLICKHOUSE_PORT": str(clickhouse_port),
        "ATLAS_CLICKHOUSE_DATABASE": database,
        "MIN_TRAINING_DATA_POINTS": "300",
        "PYTHONPATH": str(Path(__file__).parents[1] / "training"),
    }
    run(environment, sys.executable, "-m", "atlas.runtime.tables")
    feast = str(Path(sys.executable).with_name("feast"))
    run(environment, feast, "-c", "feature_repo", "apply")
    return environment


def run(environment: dict[str, str], *arguments: str, exits: int = 0) -> str:
    """Run a command, and return what it printed."""
    done = subprocess.run(
        arguments,
        env=environment,
        capture_output=True,
        text=True,
        timeout=1_500,
        check=False,
    )
    assert done.returncode == exits, f"{done.stdout[-1000:]}\n{done.stderr[-3000:]}"
    return done.stdout + done.stderr


def manifest(environment: dict[str, str], version: int) -> dict[str, Any]:
    """What is filed of a version."""
    path = Path(environment["ATLAS_HOME"]) / "models" / MODEL / str(version) / "manifest.json"
    fields: dict[str, Any] = json.loads(path.read_text())
    return fields


def test_a_version_is_trained_twice_alike_and_judged(desk: dict[str, str]) -> None:
    train = (*ATLAS, "train", "--trials", "2", "--engine", "momentum_engine:Momentum")
    run(desk, *train)
    told = run(desk, *train)
    assert f"{MODEL}/2: momentum_engine:Momentum, 2 trials" in told
    first, second = manifest(desk, 1), manifest(desk, 2)
    same = ("blob", "data_hash", "evidence_hash", "parameters", "audit", "feature_hash")
    assert [second[name] for name in same] == [first[name] for name in same]
    assert first["audit"]["leaked"] == []
    assert first["window"] == 4
    told = run(desk, *ATLAS, "gate", MODEL, exits=1)
    assert f"{MODEL}/2: " in told
    assert [each["outcome"] for each in manifest(desk, 2)["judgements"]] != ["PASS"]
    told = run(desk, *ATLAS, "train", "--engine", "random_forest", exits=2)
    assert "Expected an engine among xgboost" in told


@pytest.mark.slow
@needs_torch
@pytest.mark.timeout(3_600)
def test_every_engine_is_trained_and_judged(desk: dict[str, str]) -> None:
    engines = ("xgboost", "jump", "lstm", "transformer", "ensemble")
    for version, engine in enumerate(engines, 1):
        run(
            desk,
            *(*ATLAS, "train", "--engine", engine),
            *("--profile", "verify", "--trials", "2"),
        )
        run(desk, *ATLAS, "gate", f"{MODEL}/{version}", exits=1)
        filed = manifest(desk, version)
        assert (filed["engine"], filed["profile"]) == (engine, "verify")
        assert len(filed["report"]["verdicts"]) == 7
