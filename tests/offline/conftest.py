"""A Feast store on the real ClickHouse, and a small view with a late correction."""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pandas as pd
import pytest
from clickhouse_connect.driver.client import Client
from feast import Entity, FeatureStore, FeatureView, Field, RepoConfig, ValueType
from feast.types import Float64

from atlas.offline import ClickHouseSource

SYMBOL = Entity(name="symbol", join_keys=["symbol"], value_type=ValueType.STRING)


@pytest.fixture
def repo_config(clickhouse_port: int, database: str, tmp_path: Path) -> RepoConfig:
    """The config of an empty Feast project on this test's database."""
    return RepoConfig(
        project="desk",
        provider="local",
        registry={"registry_type": "file", "path": str(tmp_path / "registry.pb")},
        offline_store={
            "type": "atlas.offline.ClickHouseOfflineStore",
            "host": "127.0.0.1",
            "port": clickhouse_port,
            "database": database,
        },
        online_store={"type": "sqlite", "path": str(tmp_path / "online.db")},
        entity_key_serialization_version=3,
        data_quality_monitoring={"auto_baseline": False},
    )


@pytest.fixture
def store(clickhouse: Client, repo_config: RepoConfig) -> FeatureStore:
    """A Feast store with nothing in it."""
    return FeatureStore(config=repo_config)


@pytest.fixture
def prices(clickhouse: Client, store: FeatureStore) -> FeatureView:
    """The view `prices`: BTC at midnight, corrected five minutes later, and ETH at one past."""
    clickhouse.command(
        "CREATE TABLE prices (symbol LowCardinality(String), event_timestamp "
        "DateTime64(6, 'UTC'), known_at DateTime64(6, 'UTC'), close Float64, "
        "volume Nullable(Float64)) ENGINE = MergeTree ORDER BY (symbol, event_timestamp, known_at)"
    )
    clickhouse.command(
        "INSERT INTO prices VALUES "
        "('BTC', '2021-01-01 00:00:00', '2021-01-01 00:00:00', 1, NULL),"
        "('BTC', '2021-01-01 00:00:00', '2021-01-01 00:05:00', 2, 20),"
        "('ETH', '2021-01-01 00:01:00', '2021-01-01 00:01:00', 3, 30)"
    )
    view = FeatureView(
        name="prices",
        entities=[SYMBOL],
        schema=[Field(name="close", dtype=Float64), Field(name="volume", dtype=Float64)],
        source=ClickHouseSource(
            table="prices", timestamp_field="event_timestamp", created_timestamp_column="known_at"
        ),
        ttl=timedelta(minutes=10),
    )
    store.apply([SYMBOL, view])
    return view


@pytest.fixture
def asked() -> Callable[..., pd.DataFrame]:
    """Make entity rows from pairs of a symbol and a time on the first of January 2021."""

    def frame(*rows: tuple[str | None, str | None]) -> pd.DataFrame:
        times = [None if time is None else f"2021-01-01 {time}" for _, time in rows]
        return pd.DataFrame(
            {
                "symbol": [symbol for symbol, _ in rows],
                "event_timestamp": pd.to_datetime(times, utc=True, format="ISO8601"),
            }
        )

    return frame
