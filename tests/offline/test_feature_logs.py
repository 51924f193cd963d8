"""Logs of what a feature service answered: written through Feast, read back as they were."""

from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from clickhouse_connect.driver.client import Client
from feast import FeatureService, FeatureStore, FeatureView, Field
from feast.feature_logging import FeatureServiceLoggingSource, LoggingConfig
from feast.infra.offline_stores.file_source import FileLoggingDestination
from feast.types import Array, Float64

from atlas.errors import InvalidInput
from atlas.offline import ClickHouseLoggingDestination

NOON = datetime(2021, 1, 1, 12, tzinfo=UTC)
DESTINATION = ClickHouseLoggingDestination(table="served")


@pytest.fixture
def service(store: FeatureStore, prices: FeatureView, clickhouse: Client) -> FeatureService:
    """A service over `prices` with an array feature, whose answers are logged."""
    clickhouse.command("ALTER TABLE prices ADD COLUMN path Array(Float64)")
    prices.features.append(Field(name="path", dtype=Array(Float64)))
    made = FeatureService(
        name="desk",
        features=[prices[["close", "path"]]],
        logging_config=LoggingConfig(destination=DESTINATION),
    )
    store.apply([prices, made])
    return made


def logged(store: FeatureStore, service: FeatureService, *ids: str) -> pa.Table:
    schema = FeatureServiceLoggingSource(service, store.project).get_schema(store.registry)
    rows = [
        {
            "symbol": "BTC",
            "prices__close": None if position else 1.5,
            "prices__close__timestamp": NOON.replace(tzinfo=None),
            "prices__close__status": 2,
            "prices__path": None if position else [1.0, 2.0],
            "prices__path__timestamp": NOON.replace(tzinfo=None),
            "prices__path__status": 2,
            "__log_timestamp": NOON + timedelta(microseconds=position),
            "__log_date": date(2021, 1, 1),
            "__request_id": each,
        }
        for position, each in enumerate(ids)
    ]
    return pa.Table.from_pylist(rows, schema=schema)


def read_back(store: FeatureStore, service: FeatureService) -> list[dict[str, Any]]:
    job = store._get_provider().retrieve_feature_service_logs(
        service, NOON, NOON + timedelta(seconds=1), store.config, store.registry
    )
    rows: list[dict[str, Any]] = job.to_arrow().sort_by("__request_id").to_pylist()
    return rows


@pytest.mark.parametrize("as_files", [False, True])
def test_logs_come_back_as_they_were(
    store: FeatureStore, service: FeatureService, tmp_path: Path, as_files: bool
) -> None:
    logs = logged(store, service, "a", "b")
    given: pa.Table | Path = logs
    if as_files:
        given = tmp_path / "logs"
        pq.write_to_dataset(logs.slice(0, 1), root_path=given)
        pq.write_to_dataset(logs.slice(1), root_path=given)
    store.write_logged_features(given, service)
    found = [
        {name: value for name, value in row.items() if name in logs.column_names}
        for row in read_back(store, service)
    ]
    expected = [
        {
            name: value.replace(tzinfo=UTC) if isinstance(value, datetime) else value
            for name, value in row.items()
        }
        for row in logs.to_pylist()
    ]
    assert found == expected


def test_logs_are_appended_and_a_repeated_block_is_not(
    store: FeatureStore, service: FeatureService
) -> None:
    for ids in (["a", "b"], ["c"], ["a", "b"]):
        store.write_logged_features(logged(store, service, *ids), service)
    assert [row["__request_id"] for row in read_back(store, service)] == ["a", "b", "c"]


def test_a_feature_that_joins_the_service_later_becomes_a_column(
    store: FeatureStore, service: FeatureService, prices: FeatureView
) -> None:
    store.write_logged_features(logged(store, service, "a"), service)
    wider = FeatureService(
        name="desk",
        features=[prices[["close", "path", "volume"]]],
        logging_config=LoggingConfig(destination=DESTINATION),
    )
    store.apply([wider])
    store.write_logged_features(logged(store, wider, "b"), wider)
    assert [row["prices__volume"] for row in read_back(store, wider)] == [None, None]


def test_the_registry_keeps_the_destination(store: FeatureStore, service: FeatureService) -> None:
    kept = store.get_feature_service("desk").logging_config
    assert kept is not None
    assert kept.destination == DESTINATION
    assert kept.destination.to_data_source() == DESTINATION.to_data_source()


def test_logs_go_nowhere_else_than_to_clickhouse(
    store: FeatureStore, service: FeatureService
) -> None:
    service.logging_config = LoggingConfig(destination=FileLoggingDestination(path="logs"))
    with pytest.raises(InvalidInput, match="found FileLoggingDestination"):
        store.write_logged_features(logged(store, service, "a"), service)


def test_logs_without_a_column_of_the_service_are_refused(
    store: FeatureStore, service: FeatureService
) -> None:
    with pytest.raises(InvalidInput, match="prices__path not found"):
        store.write_logged_features(
            logged(store, service, "a").drop_columns(["prices__path"]), service
        )
