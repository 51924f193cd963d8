"""The rows that the store's measurements share: made inside ClickHouse, the same on every run."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from clickhouse_connect.driver.client import Client
from feast import Entity, FeatureStore, FeatureView, Field, RepoConfig, ValueType
from feast.data_source import DataSource
from feast.types import Float64, String

from atlas.config import Settings

__all__ = ["START", "entity_rows", "feature_names", "feature_store", "make_table", "view_of"]

START = datetime(2024, 1, 1, tzinfo=UTC)
_SYMBOL = Entity(name="symbol", join_keys=["symbol"], value_type=ValueType.STRING)


def feature_names(n: int) -> list[str]:
    """Return the names of a table's features."""
    return [f"feature_{i}" for i in range(n)]


def make_table(client: Client, table: str, *, symbols: int, rows: int, features: int) -> None:
    """Fill a table with `rows` rows a minute apart for each symbol."""
    names = feature_names(features)
    columns = ", ".join(f"{name} Float64" for name in names)
    client.command(
        f"CREATE TABLE {table} (symbol LowCardinality(String), event_timestamp "
        f"DateTime64(6, 'UTC'), known_at DateTime64(6, 'UTC'), {columns}) "
        "ENGINE = MergeTree ORDER BY (symbol, event_timestamp, known_at)"
    )
    values = ", ".join(f"cityHash64(number, {i}) / 1e19" for i in range(features))
    client.command(
        f"INSERT INTO {table} SELECT concat('S', toString(intDiv(number, {rows}))), "
        f"toDateTime64('{START:%Y-%m-%d %H:%M:%S}', 6, 'UTC') + toIntervalMinute(number % {rows} "
        f"+ 1) AS t, t, {values} FROM numbers({symbols * rows}) SETTINGS max_execution_time = 600"
    )


def entity_rows(n: int, *, symbols: int, rows: int) -> pd.DataFrame:
    """Return rows that ask for random symbols at random moments of the table's span."""
    rng = np.random.default_rng(0)
    offsets = rng.integers(0, rows * 60_000_000, n)
    return pd.DataFrame(
        {
            "symbol": np.char.add("S", rng.integers(0, symbols, n).astype(str)).astype(object),
            "event_timestamp": pd.to_datetime(
                int(START.timestamp()) * 1_000_000 + offsets, unit="us", utc=True
            ),
        }
    )


def view_of(name: str, source: DataSource, *, features: int, ttl: timedelta) -> FeatureView:
    """Return the view of a table."""
    return FeatureView(
        name=name,
        entities=[_SYMBOL],
        schema=[
            Field(name="symbol", dtype=String),
            *(Field(name=feature, dtype=Float64) for feature in feature_names(features)),
        ],
        source=source,
        ttl=ttl,
    )


def feature_store(
    folder: Path, settings: Settings, views: list[FeatureView], **config: Any
) -> FeatureStore:
    """Return a Feast store of its own on these engines; `config` names the stores' types."""
    clickhouse = {
        "host": settings.host,
        "port": settings.clickhouse_port,
        "database": settings.clickhouse_database,
        "user": "default",
        "password": "",
    }
    folder.mkdir(parents=True, exist_ok=True)
    store = FeatureStore(
        config=RepoConfig(
            project=config.pop("project", "bench"),
            provider="local",
            registry={"registry_type": "file", "path": str(folder / "registry.pb")},
            offline_store={
                "type": config.pop("offline", "atlas.offline.ClickHouseOfflineStore"),
                **clickhouse,
            },
            online_store={
                "type": config.pop("online", "atlas.online.RedisOnlineStore"),
                "connection_string": f"{settings.host}:{settings.redis_port}",
            },
            entity_key_serialization_version=3,
            data_quality_monitoring={"auto_baseline": False},
            **config,
        )
    )
    store.apply([_SYMBOL, *views])
    return store
