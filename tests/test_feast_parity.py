"""The whole path on real engines: what plain Feast reads is what the worker was given."""

import asyncio
import json
import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from clickhouse_connect.driver.client import Client
from redis import Redis
from redis.asyncio import Redis as AsyncRedis

from atlas.bus import RedisClock
from atlas.clickhouse import insert_once
from atlas.clock import to_micros
from atlas.features import feature_set
from atlas.ingest import MarketRecipe, simulate
from atlas.materialise import compute_history
from atlas.online import OnlineReader, Status, Vectors
from atlas.streaming import ReplayPlan, play, write_plan

RECIPE = MarketRecipe(symbols=("SIM_A", "SIM_B"), days=2, seed=5)
SPLIT = RECIPE.start + timedelta(days=1, hours=20)
END = SPLIT + timedelta(minutes=10)

# Feast takes seconds to import and leaves its marks on a process, so it gets one of its own.
FEAST = """
import json, sys
from feast import FeatureStore
store = FeatureStore("feature_repo")
rows = [{"symbol": s} for s in sys.argv[1:]]
service = store.get_feature_service("direction_ohlcv_1m")
print(json.dumps(store.get_online_features(features=service, entity_rows=rows).to_dict()))
"""


@pytest.fixture
def installation(
    tmp_path: Path, redis_port: int, clickhouse_port: int, database: str
) -> dict[str, str]:
    """The environment of a terminal beside this installation."""
    return {
        **os.environ,
        "ATLAS_HOME": str(tmp_path),
        "ATLAS_REDIS_PORT": str(redis_port),
        "ATLAS_CLICKHOUSE_PORT": str(clickhouse_port),
        "ATLAS_CLICKHOUSE_DATABASE": database,
    }


def run(environment: dict[str, str], *command: str) -> str:
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def test_plain_feast_reads_the_numbers_that_the_worker_reads(
    redis: Redis, redis_port: int, clickhouse: Client, installation: dict[str, str]
) -> None:
    features = feature_set("ohlcv_1m")
    insert_once(clickhouse, "bars_1m", simulate(RECIPE).to_arrow())
    compute_history(clickhouse, features, until=SPLIT)
    split, end = to_micros(SPLIT), to_micros(END)
    write_plan(redis, ReplayPlan("1m", (features.view,), RECIPE.symbols, split, end, 1e6, split))
    play(redis, clickhouse)

    async def read() -> Vectors:
        client = AsyncRedis(port=redis_port)
        try:
            reader = OnlineReader(client, features.plan)
            return await reader.read([*RECIPE.symbols, "SIM_X"], now=RedisClock(redis).now())
        finally:
            await client.aclose()

    vectors = asyncio.run(read())
    feast = str(Path(sys.executable).parent / "feast")
    run(installation, sys.executable, "-m", "atlas.runtime.tables")
    run(installation, feast, "-c", "feature_repo", "apply")
    answer = pl.DataFrame(
        json.loads(run(installation, sys.executable, "-W", "ignore", "-c", FEAST, *RECIPE.symbols))
    )
    theirs = answer.select(features.features).to_numpy().astype(np.float64)
    assert np.array_equal(theirs, vectors.values[:2], equal_nan=True)
    assert (vectors.status[2] == Status.MISSING).all()
    assert vectors.event_ts.tolist() == [end, end, 0]
