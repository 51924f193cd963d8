from __future__ import annotations

import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from clickhouse_connect.driver.client import Client
from feast import Entity, FeatureStore, FeatureView, Field, RepoConfig, ValueType
from feast.types import Float64

from atlas.clickhouse import connect
from atlas.offline import ClickHouseSource


@pytest.fixture(scope="session")
def clickhouse_port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    path = tmp_path_factory.mktemp("clickhouse")
    server = subprocess.Popen(
        [sys.executable, "-m", "atlas.clickhouse", "--path", str(path), "--port", str(port)]
    )
    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/ping", timeout=2):
                    break
            except (urllib.error.URLError, ConnectionError, TimeoutError):
                assert server.poll() is None, "the server ended instead of starting"
                assert time.monotonic() < deadline, "the server did not start in 60 s"
                time.sleep(0.05)
        yield port
    finally:
        server.terminate()
        server.wait(timeout=30)


@pytest.fixture(scope="session")
def _client(clickhouse_port: int) -> Iterator[Client]:
    client = connect(port=clickhouse_port)
    yield client
    client.close()


@pytest.fixture
def client(_client: Client) -> Iterator[Client]:
    """A client of a database that is empty before each test, and whose leftovers are seen."""
    _client.command("CREATE DATABASE IF NOT EXISTS desk")
    _client.database = "desk"
    yield _client
    _client.command("DROP DATABASE IF EXISTS desk SYNC")


@pytest.fixture
def repo_config(clickhouse_port: int, tmp_path: Path) -> RepoConfig:
    return RepoConfig(
        project="desk",
        provider="local",
        registry={"registry_type": "sql", "path": f"sqlite:///{tmp_path / 'registry.db'}"},
        offline_store={
            "type": "atlas.offline.ClickHouseOfflineStore",
            "host": "127.0.0.1",
            "port": clickhouse_port,
            "database": "desk",
        },
        online_store={"type": "sqlite", "path": str(tmp_path / "online.db")},
        entity_key_serialization_version=3,
        data_quality_monitoring={"auto_baseline": False},
    )


@pytest.fixture
def store(client: Client, repo_config: RepoConfig) -> FeatureStore:
    return FeatureStore(config=repo_config)


symbol = Entity(name="symbol", join_keys=["symbol"], value_type=ValueType.STRING)


@pytest.fixture
def prices(client: Client, store: FeatureStore) -> FeatureView:
    """A view `prices` of two symbols, with a correction that was known five minutes late."""
    client.command(
        "CREATE TABLE prices (symbol LowCardinality(String), event_timestamp "
        "DateTime64(6, 'UTC'), known_at DateTime64(6, 'UTC'), close Float64, "
        "volume Nullable(Float64)) ENGINE = MergeTree ORDER BY (symbol, event_timestamp, known_at)"
    )
    client.command(
        "INSERT INTO prices VALUES "
        "('BTC', '2021-01-01 00:00:00', '2021-01-01 00:00:00', 1, NULL),"
        "('BTC', '2021-01-01 00:00:00', '2021-01-01 00:05:00', 2, 20),"
        "('ETH', '2021-01-01 00:01:00', '2021-01-01 00:01:00', 3, 30)"
    )
    view = FeatureView(
        name="prices",
        entities=[symbol],
        schema=[Field(name="close", dtype=Float64), Field(name="volume", dtype=Float64)],
        source=ClickHouseSource(
            table="prices",
            timestamp_field="event_timestamp",
            created_timestamp_column="known_at",
        ),
        ttl=timedelta(minutes=10),
    )
    store.apply([symbol, view])
    return view
