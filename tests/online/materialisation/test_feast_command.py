"""The plain `feast` command with Atlas's engine, each in a process of its own."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from clickhouse_connect.driver.client import Client
from online_rows import T0, ledger, moments, put, quotes
from redis import Redis

from atlas.online.materialisation.claim import Claim

FEAST = Path(sys.executable).parent / "feast"
DEFINITIONS = """
import sys
sys.path.insert(0, {tests!r})
from online_rows import bid_ask
symbol, quotes = bid_ask()
"""
SETTINGS = """
project: desk
provider: local
entity_key_serialization_version: 3
registry:
  registry_type: sql
  path: sqlite:///{registry}
  sqlalchemy_config_kwargs: {{connect_args: {{timeout: 30}}}}
offline_store:
  type: atlas.offline.ClickHouseOfflineStore
  host: 127.0.0.1
  port: {clickhouse}
  database: {database}
online_store: {{type: atlas.online.RedisOnlineStore, connection_string: "127.0.0.1:{redis}"}}
batch_engine: {{type: atlas.online.ComputeEngine, wait_s: {wait_s}}}
data_quality_monitoring: {{auto_baseline: false}}
"""


@pytest.fixture
def repository(
    clickhouse: Client, clickhouse_port: int, redis_port: int, tmp_path: Path
) -> Callable[[float], Path]:
    """Write a feature repository whose runs wait so long."""

    def make(wait_s: float) -> Path:
        folder = tmp_path / f"waits-{wait_s}"
        folder.mkdir()
        (folder / "definitions.py").write_text(DEFINITIONS.format(tests=str(Path(__file__).parent)))
        (folder / "feature_store.yaml").write_text(
            SETTINGS.format(
                registry=tmp_path / "registry.db",
                clickhouse=clickhouse_port,
                database=clickhouse.database,
                redis=redis_port,
                wait_s=wait_s,
            )
        )
        return folder

    return make


def feast(folder: Path, *arguments: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [str(FEAST), "-c", str(folder), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.slow
def test_of_two_commands_at_once_one_works_and_the_other_waits_or_says_why_not(
    repository: Callable[[float], Path], clickhouse: Client, redis: Redis
) -> None:
    quotes(clickhouse)
    put(clickhouse, [("A", T0, T0, 1.0), ("B", T0, T0, 2.0)])
    patient, impatient = repository(60), repository(0)
    apply = feast(patient, "apply")
    told = apply.communicate(timeout=120)
    assert apply.returncode == 0, told
    until = T0.strftime("%Y-%m-%dT%H:%M:%S")
    with Claim(redis, "desk", "quotes", lease_s=60, wait_s=0):
        refused = feast(impatient, "materialize-incremental", until)
        both = [feast(patient, "materialize-incremental", until) for _ in range(2)]
        _, err = refused.communicate(timeout=120)
    ends = [process.communicate(timeout=120) for process in both]
    assert [process.returncode for process in both] == [0, 0], ends
    assert sorted("0 rows landed" in out for out, _ in ends) == [False, True]
    last = err.strip().splitlines()[-1]
    assert (refused.returncode, "Traceback" in err) == (1, False)
    assert last.startswith("Error: ViewBusy: Expected to be the only run that brings view quotes")
    assert moments(redis) == {"A": (1.0, 2.0), "B": (2.0, 3.0)}
    assert len(ledger(redis, "quotes")["intervals"]) == 1
