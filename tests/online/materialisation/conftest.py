"""Feast projects on the real ClickHouse and the real Redis, with Atlas's engine or Feast's own."""

from collections.abc import Callable
from pathlib import Path

import pytest
from clickhouse_connect.driver.client import Client
from feast import FeatureStore, RepoConfig
from redis import Redis

# A run that dies lets the next one in after so long.
LEASE_S = 1.0


@pytest.fixture
def desk(
    clickhouse: Client, clickhouse_port: int, redis: Redis, redis_port: int, tmp_path: Path
) -> Callable[..., FeatureStore]:
    """Make a project; `feasts_own` gives it Feast's local engine and Feast's Redis store."""

    def make(
        name: str = "desk", *, feasts_own: bool = False, registry: str = "sql", **engine: object
    ) -> FeatureStore:
        path = tmp_path / f"{name}-{feasts_own}.db"
        ours = {"batch_engine": {"type": "atlas.online.ComputeEngine", "lease_s": LEASE_S} | engine}
        return FeatureStore(
            config=RepoConfig(
                project=name,
                provider="local",
                registry={
                    "registry_type": registry,
                    "path": f"sqlite:///{path}" if registry == "sql" else str(path),
                },
                offline_store={
                    "type": "atlas.offline.ClickHouseOfflineStore",
                    "host": "127.0.0.1",
                    "port": clickhouse_port,
                    "database": clickhouse.database,
                },
                online_store={
                    "type": "redis" if feasts_own else "atlas.online.RedisOnlineStore",
                    "connection_string": f"127.0.0.1:{redis_port}",
                },
                entity_key_serialization_version=3,
                data_quality_monitoring={"auto_baseline": False},
                materialization={"pull_latest_features": True},
                **({} if feasts_own else ours),
            )
        )

    return make
