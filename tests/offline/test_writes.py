"""Rows that Feast writes to a view's own table: all of them as they are, or none."""

from datetime import UTC, datetime, timedelta

import pandas as pd
import pyarrow as pa
import pytest
from clickhouse_connect.driver.client import Client
from feast import FeatureStore, FeatureView, Field, PushSource
from feast.data_source import PushMode
from feast.types import Float64

from atlas.clickhouse import create_feature_table
from atlas.errors import InvalidInput
from atlas.features.catalogue import feature_set
from atlas.offline import ClickHouseOfflineStore, ClickHouseSource

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


def write(store: FeatureStore, view: FeatureView, rows: pd.DataFrame | pa.Table) -> None:
    table = rows if isinstance(rows, pa.Table) else pa.Table.from_pandas(rows)
    ClickHouseOfflineStore.offline_write_batch(store.config, view, table, None)


def test_a_push_lands_in_the_offline_store(
    store: FeatureStore, prices: FeatureView, clickhouse: Client, pushed: pd.DataFrame
) -> None:
    source = PushSource(name="ticks", batch_source=prices.batch_source)
    view = FeatureView(
        name="pushed", entities=store.list_entities(), schema=prices.schema, source=source
    )
    store.apply([source, view])
    store.push("ticks", pushed, to=PushMode.OFFLINE)
    assert stored(clickhouse) == [(5.0, None), (6.0, 7.0)]


@pytest.mark.parametrize("column", ["symbol", "event_timestamp", "known_at", "close"])
def test_a_column_that_must_be_there_is_named(
    store: FeatureStore,
    prices: FeatureView,
    clickhouse: Client,
    pushed: pd.DataFrame,
    column: str,
) -> None:
    with pytest.raises(InvalidInput, match=f"to have the columns {column};"):
        write(store, prices, pushed.drop(columns=[column]))
    assert stored(clickhouse) == []


def test_a_nullable_column_and_one_with_a_default_may_be_left_out(
    store: FeatureStore, prices: FeatureView, clickhouse: Client, pushed: pd.DataFrame
) -> None:
    clickhouse.command("ALTER TABLE prices ADD COLUMN weight Float64 DEFAULT 3")
    write(store, prices, pushed.drop(columns=["volume"]))
    found = clickhouse.query("SELECT volume, weight FROM prices WHERE symbol = 'SOL'").result_rows
    assert found == [(None, 3.0)] * 2


@pytest.mark.parametrize(
    ("column", "values", "told"),
    [
        ("close", ["5", "6"], "column 'close' for table prices to hold Float64; found"),
        ("close", [None, 1.0], "1 missing"),
        ("symbol", [None, "SOL"], "1 missing"),
        ("event_timestamp", [pd.Timestamp(1, tz="UTC")] * 2, "event_timestamp"),
        ("symbol", ["BTC", None], "1 missing"),
        ("event_timestamp", [datetime(1800, 1, 1, tzinfo=UTC)] * 2, "outside 1900-01-01"),
    ],
)
def test_nothing_is_written_if_a_value_does_not_fit_its_column(
    store: FeatureStore,
    prices: FeatureView,
    clickhouse: Client,
    pushed: pd.DataFrame,
    column: str,
    values: list[object],
    told: str,
) -> None:
    with pytest.raises(InvalidInput, match=told):
        write(store, prices, pushed.assign(**{column: values}))
    assert stored(clickhouse) == []


def test_a_time_without_a_zone_is_utc_and_integers_become_doubles(
    store: FeatureStore, prices: FeatureView, clickhouse: Client, pushed: pd.DataFrame
) -> None:
    naive = pushed.assign(event_timestamp=NOON.replace(tzinfo=None), close=[5, 6])
    write(store, prices, naive)
    found = clickhouse.query_arrow(
        "SELECT event_timestamp, close FROM prices WHERE symbol = 'SOL' ORDER BY close"
    )
    assert found["event_timestamp"].to_pylist() == [NOON, NOON]
    assert found["close"].to_pylist() == [5.0, 6.0]


def test_an_array_that_is_missing_needs_a_place_to_say_so(
    store: FeatureStore, prices: FeatureView, clickhouse: Client, pushed: pd.DataFrame
) -> None:
    clickhouse.command("ALTER TABLE prices ADD COLUMN path Array(Float64)")
    rows = pushed.assign(path=[[1.0], None])
    with pytest.raises(InvalidInput, match=r"column 'path' .* 1 missing"):
        write(store, prices, rows)
    clickhouse.command("ALTER TABLE prices ADD COLUMN __atlas_missing__path Bool")
    store.write_to_offline_store("prices", rows)
    store.write_to_offline_store("prices", rows.assign(path=None, known_at=NOON))
    job = ClickHouseOfflineStore.pull_all_from_table_or_query(
        store.config,
        prices.batch_source,
        ["symbol"],
        ["path"],
        "event_timestamp",
        "known_at",
        NOON,
        NOON,
    )
    assert sorted(map(str, job.to_arrow()["path"].to_pylist())) == ["None", "None", "None", "[1.0]"]


def test_a_big_table_is_written_in_blocks_and_a_retry_adds_nothing(
    store: FeatureStore, prices: FeatureView, clickhouse: Client
) -> None:
    clickhouse.command(
        "ALTER TABLE prices MODIFY SETTING non_replicated_deduplication_window = 100"
    )
    n = 250_000
    rows = pa.table(
        {
            "symbol": pa.array(["SOL"] * n),
            "event_timestamp": pa.array(range(n), pa.timestamp("us", "UTC")),
            "known_at": pa.array(range(n), pa.timestamp("us", "UTC")),
            "close": pa.array([float(each) for each in range(n)]),
        }
    )
    chunked = pa.concat_tables([rows.slice(0, 7), rows.slice(7)])
    steps: list[int] = []
    for _ in range(2):
        ClickHouseOfflineStore.offline_write_batch(store.config, prices, chunked, steps.append)
    found = clickhouse.query("SELECT count(), sum(close) FROM prices WHERE symbol = 'SOL'")
    assert found.result_rows == [(n, n * (n - 1) / 2)]
    assert steps == [100_000, 100_000, 50_000] * 2


def test_rows_of_a_feature_set_pass_its_schema_and_the_bad_ones_are_kept(
    store: FeatureStore, prices: FeatureView, clickhouse: Client
) -> None:
    features = feature_set("ohlcv_1h")
    create_feature_table(clickhouse, features.view, features.features)
    source = ClickHouseSource(
        table=features.view,
        timestamp_field="event_timestamp",
        created_timestamp_column="known_at",
    )
    view = FeatureView(name=features.view, entities=store.list_entities(), source=source)
    store.apply([view])
    rows = pd.DataFrame(
        {
            "symbol": ["SOL", "SOL"],
            "event_timestamp": [NOON, NOON + timedelta(hours=1)],
            "known_at": [NOON, NOON + timedelta(hours=1)],
        }
        | {name: [0.5, float("inf")] for name in features.features}
    )
    for _ in range(2):
        write(store, view, rows)
    kept = clickhouse.query(f"SELECT toString(event_timestamp) FROM {features.view}").result_rows
    bad = clickhouse.query(
        "SELECT symbol, toString(event_timestamp), border, table_name FROM quarantine"
    ).result_rows
    assert kept == [("2021-01-01 12:00:00.000000",)]
    assert bad == [("SOL", "2021-01-01 13:00:00.000000", "offline", features.view)]


def test_a_correction_taken_back_is_written_where_nothing_else_tells_the_versions(
    store: FeatureStore, clickhouse: Client
) -> None:
    clickhouse.command(
        "CREATE TABLE plain (symbol String, event_timestamp DateTime64(6, 'UTC'), close Float64) "
        "ENGINE = MergeTree ORDER BY symbol SETTINGS non_replicated_deduplication_window = 100"
    )
    view = FeatureView(
        name="plain",
        schema=[Field(name="close", dtype=Float64)],
        source=ClickHouseSource(table="plain", timestamp_field="event_timestamp"),
    )
    for close in (1.0, 2.0, 1.0):
        row = {"symbol": ["SOL"], "event_timestamp": [NOON], "close": [close]}
        write(store, view, pd.DataFrame(row))
    found = clickhouse.query("SELECT close FROM plain ORDER BY close").result_rows
    assert found == [(1.0,), (1.0,), (2.0,)]
