"""Saved datasets: answers that stay in ClickHouse and are read back as they were."""

from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest
from clickhouse_connect.driver.client import Client
from feast import FeatureStore, FeatureView, Field
from feast.errors import SavedDatasetLocationAlreadyExists
from feast.infra.offline_stores.file_source import SavedDatasetFileStorage
from feast.on_demand_feature_view import on_demand_feature_view
from feast.saved_dataset import SavedDatasetStorage
from feast.types import Float64

from atlas.errors import InvalidInput
from atlas.offline import SavedDatasetClickHouseStorage

Asked = Callable[..., pd.DataFrame]
MONDAY = SavedDatasetClickHouseStorage("monday")
pytestmark = pytest.mark.filterwarnings("ignore:.*experimental feature:RuntimeWarning")


@pytest.fixture
def rich(store: FeatureStore, prices: FeatureView, clickhouse: Client) -> FeatureView:
    """`prices` with an array, a decimal and a map, which have no values where rows are missing."""
    clickhouse.command(
        "ALTER TABLE prices ADD COLUMN path Array(Float64) DEFAULT [close], "
        "ADD COLUMN exact Decimal(38, 18) DEFAULT '0.1', "
        "ADD COLUMN counts Map(String, UInt64) DEFAULT map('a', 18446744073709551615)"
    )
    view = FeatureView(
        name="rich", entities=store.list_entities(), source=prices.batch_source, ttl=prices.ttl
    )
    store.apply([view])
    return view


def saved(store: FeatureStore, job: Any, **how: Any) -> pa.Table:
    storage = SavedDatasetClickHouseStorage("monday")
    store.create_saved_dataset(job, "monday", storage, **how)
    table: pa.Table = store.get_saved_dataset("monday").to_arrow()
    return table


def test_a_dataset_is_read_back_with_its_values_and_types(
    store: FeatureStore, rich: FeatureView, asked: Asked
) -> None:
    refs = [f"rich:{name}" for name in ("close", "volume", "path", "exact", "counts")]
    entities = asked(("BTC", "00:02:00"), ("DOGE", "00:02:00"), ("ETH", "00:02:00"))
    job = store.get_historical_features(entities, refs)
    answer = job.to_arrow()
    back = saved(store, job).select(answer.column_names).sort_by("symbol")
    assert back.to_pylist() == answer.to_pylist()
    assert back.to_pylist()[1] == {
        **answer.to_pylist()[1],
        **dict.fromkeys(("close", "volume", "path", "exact", "counts")),
    }
    assert [field.type.id for field in back.schema] == [field.type.id for field in answer.schema]
    assert back["exact"].to_pylist()[0] == Decimal("0.1")


def test_the_time_column_may_have_any_name(
    store: FeatureStore, prices: FeatureView, asked: Asked
) -> None:
    entities = asked(("ETH", "00:02:00")).rename(columns={"event_timestamp": "decided at"})
    back = saved(store, store.get_historical_features(entities, ["prices:close"]))
    assert back.to_pylist() == [
        {"symbol": "ETH", "close": 3.0, "decided at": datetime(2021, 1, 1, 0, 2, tzinfo=UTC)}
    ]


def test_on_demand_features_are_saved_with_the_others(
    store: FeatureStore, prices: FeatureView, asked: Asked
) -> None:
    @on_demand_feature_view(sources=[prices], schema=[Field(name="twice", dtype=Float64)])
    def doubled(rows: pd.DataFrame) -> pd.DataFrame:
        return pd.DataFrame({"twice": rows["close"] * 2})

    store.apply([doubled])
    job = store.get_historical_features(
        asked(("ETH", "00:02:00")), ["prices:close", "doubled:twice"]
    )
    assert saved(store, job)["twice"].to_pylist() == [6.0]


def test_a_table_is_overwritten_only_when_told(
    store: FeatureStore, prices: FeatureView, clickhouse: Client, asked: Asked
) -> None:
    store.get_historical_features(asked(("ETH", "00:02:00")), ["prices:close"]).persist(MONDAY)
    again = store.get_historical_features(asked(("BTC", "00:02:00")), ["prices:close"])
    with pytest.raises(SavedDatasetLocationAlreadyExists):
        again.persist(MONDAY)
    assert clickhouse.query("SELECT symbol, close FROM monday").result_rows == [("ETH", 3.0)]
    again.persist(MONDAY, allow_overwrite=True)
    assert clickhouse.query("SELECT symbol, close FROM monday").result_rows == [("BTC", 2.0)]


def test_a_failure_leaves_the_former_rows_and_nothing_else(
    store: FeatureStore, prices: FeatureView, clickhouse: Client, asked: Asked
) -> None:
    store.get_historical_features(asked(("ETH", "00:02:00")), ["prices:close"]).persist(MONDAY)
    before = clickhouse.query("SHOW TABLES").result_rows
    nested = asked(("BTC", "00:02:00")).assign(legs=[[[1], None]])
    job = store.get_historical_features(nested, ["prices:close"])
    with pytest.raises(InvalidInput, match="no missing list, map or struct inside another"):
        job.persist(MONDAY, allow_overwrite=True)
    assert clickhouse.query("SHOW TABLES").result_rows == before
    assert clickhouse.query("SELECT symbol, close FROM monday").result_rows == [("ETH", 3.0)]


def test_a_dataset_may_lie_in_another_database(
    store: FeatureStore, prices: FeatureView, clickhouse: Client, asked: Asked, database: str
) -> None:
    clickhouse.command(f"CREATE DATABASE `{database}-aside`")
    try:
        storage = SavedDatasetClickHouseStorage(f"{database}-aside.the-rows")
        job = store.get_historical_features(asked(("ETH", "00:02:00")), ["prices:close"])
        for _ in range(2):
            job.persist(storage, allow_overwrite=True)
        found = clickhouse.query(f"SELECT close FROM `{database}-aside`.`the-rows`").result_rows
        assert found == [(3.0,)]
    finally:
        clickhouse.command(f"DROP DATABASE `{database}-aside`")


def test_the_registry_gives_back_an_equal_storage() -> None:
    storage = SavedDatasetClickHouseStorage("a.b", timestamp_field="at")
    assert SavedDatasetStorage.from_proto(storage.to_proto()) == storage


def test_a_dataset_is_not_saved_elsewhere_than_in_clickhouse(
    store: FeatureStore, prices: FeatureView, asked: Asked
) -> None:
    job = store.get_historical_features(asked(("ETH", "00:02:00")), ["prices:close"])
    with pytest.raises(InvalidInput, match="found SavedDatasetFileStorage"):
        job.persist(SavedDatasetFileStorage("monday.parquet"))
