"""Rows that Feast writes to ClickHouse: pushes to a view's table, and saved datasets."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pandas as pd
import pyarrow as pa
import pytest
from clickhouse_connect.driver.client import Client
from feast import FeatureStore, FeatureView
from feast.errors import SavedDatasetLocationAlreadyExists
from feast.infra.offline_stores.file_source import SavedDatasetFileStorage

from atlas.errors import InvalidInput
from atlas.offline import (
    ClickHouseOfflineStore,
    ClickHouseSource,
    SavedDatasetClickHouseStorage,
)

Asked = Callable[..., pd.DataFrame]
NOON = datetime(2021, 1, 1, 12, tzinfo=UTC)


@pytest.fixture
def pushed() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "symbol": ["SOL", "SOL"],
            "event_timestamp": [NOON, NOON],
            "known_at": [NOON, NOON + timedelta(microseconds=1)],
            "close": [5.0, 6.0],
            "volume": [None, 7.0],
        }
    )


def stored(clickhouse: Client) -> list[tuple[object, ...]]:
    rows: list[tuple[object, ...]] = clickhouse.query(
        "SELECT close, volume FROM prices WHERE symbol = 'SOL' ORDER BY known_at"
    ).result_rows
    return rows


def test_pushed_rows_are_appended(
    store: FeatureStore, prices: FeatureView, clickhouse: Client, pushed: pd.DataFrame
) -> None:
    store.write_to_offline_store("prices", pushed)
    assert stored(clickhouse) == [(5.0, None), (6.0, 7.0)]


def test_rows_may_come_under_the_features_own_names(
    store: FeatureStore, prices: FeatureView, clickhouse: Client, pushed: pd.DataFrame
) -> None:
    prices.batch_source.field_mapping = {"close": "last"}
    store.apply([prices])
    store.write_to_offline_store("prices", pushed)
    assert stored(clickhouse) == [(5.0, None), (6.0, 7.0)]


def test_a_retried_block_is_written_once(
    store: FeatureStore, prices: FeatureView, clickhouse: Client, pushed: pd.DataFrame
) -> None:
    clickhouse.command(
        "ALTER TABLE prices MODIFY SETTING non_replicated_deduplication_window = 100"
    )
    store.write_to_offline_store("prices", pushed)
    store.write_to_offline_store("prices", pushed)
    assert len(stored(clickhouse)) == 2


def test_a_column_that_the_table_lacks_is_named(
    store: FeatureStore, prices: FeatureView, pushed: pd.DataFrame
) -> None:
    table = pa.Table.from_pandas(pushed.assign(mood=1.0), preserve_index=False)
    with pytest.raises(InvalidInput, match="found also mood"):
        ClickHouseOfflineStore.offline_write_batch(store.config, prices, table, None)


def test_a_query_cannot_be_written_to(store: FeatureStore, prices: FeatureView) -> None:
    prices.batch_source = ClickHouseSource("q", query="SELECT 1", timestamp_field="t")
    with pytest.raises(InvalidInput, match="found a query"):
        ClickHouseOfflineStore.offline_write_batch(store.config, prices, pa.table({}), None)


@pytest.mark.filterwarnings("ignore:.*experimental feature:RuntimeWarning")
def test_a_saved_dataset_is_read_back_as_it_was(
    store: FeatureStore, prices: FeatureView, asked: Asked
) -> None:
    job = store.get_historical_features(
        asked(("ETH", "00:02:00"), ("DOGE", "00:02:00")), ["prices:close"]
    )
    store.create_saved_dataset(job, "monday", SavedDatasetClickHouseStorage("monday"))
    back = store.get_saved_dataset("monday").to_df().sort_values("symbol")
    assert back["close"].fillna(-1).tolist() == [-1, 3.0]


@pytest.mark.filterwarnings("ignore:.*experimental feature:RuntimeWarning")
def test_a_saved_dataset_is_overwritten_only_when_told(
    store: FeatureStore, prices: FeatureView, clickhouse: Client, asked: Asked
) -> None:
    storage = SavedDatasetClickHouseStorage("monday")
    store.get_historical_features(asked(("ETH", "00:02:00")), ["prices:close"]).persist(storage)
    again = store.get_historical_features(asked(("BTC", "00:02:00")), ["prices:close"])
    with pytest.raises(SavedDatasetLocationAlreadyExists):
        again.persist(storage)
    again.persist(storage, allow_overwrite=True)
    assert clickhouse.query("SELECT symbol, close FROM monday").result_rows == [("BTC", 2.0)]


def test_a_dataset_is_not_saved_elsewhere_than_in_clickhouse(
    store: FeatureStore, prices: FeatureView, asked: Asked
) -> None:
    job = store.get_historical_features(asked(("ETH", "00:02:00")), ["prices:close"])
    with pytest.raises(InvalidInput, match="found SavedDatasetFileStorage"):
        job.persist(SavedDatasetFileStorage("monday.parquet"))
