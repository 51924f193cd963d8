"""The ClickHouse source: what it is equal to, what the registry keeps, what it says is wrong."""

import pytest
from clickhouse_connect.driver.client import Client
from feast import FeatureStore, FeatureView, RepoConfig, ValueType
from feast.data_source import DataSource

from atlas.errors import InvalidInput, StoreUnavailable
from atlas.offline import ClickHouseOfflineStoreConfig, ClickHouseSource
from atlas.offline.feast_types import feast_type


def test_sources_differ_by_their_table_and_their_query() -> None:
    sources = [
        ClickHouseSource("s", table="a"),
        ClickHouseSource("s", table="b"),
        ClickHouseSource("s", query="SELECT 1"),
        ClickHouseSource("s", query="SELECT 2"),
    ]
    assert [[one == other for other in sources] for one in sources] == [
        [row == column for column in range(4)] for row in range(4)
    ]


def test_the_registry_gives_back_an_equal_source() -> None:
    source = ClickHouseSource(
        "s",
        query="SELECT '`' AS a;",
        timestamp_field="t",
        created_timestamp_column="c",
        field_mapping={"a": "b"},
        description="d",
        tags={"k": "v"},
        owner="o",
    )
    assert DataSource.from_proto(source.to_proto()) == source


@pytest.mark.parametrize(
    "given", [{}, {"table": "t", "query": "SELECT 1"}, {"query": "SELECT 1", "name": None}]
)
def test_a_source_is_one_table_or_one_named_query(given: dict[str, str | None]) -> None:
    with pytest.raises(InvalidInput, match="Expected"):
        ClickHouseSource(**{"name": "s", **given})  # type: ignore[arg-type]


def test_a_missing_table_is_named_with_its_database(repo_config: RepoConfig, database: str) -> None:
    source = ClickHouseSource(table="absent", timestamp_field="t")
    with pytest.raises(InvalidInput, match=f"table absent in ClickHouse database '{database}'"):
        source.validate(repo_config)


def test_a_query_that_does_not_run_says_why(repo_config: RepoConfig) -> None:
    source = ClickHouseSource("broken", query="SELECT nothing_like_it", timestamp_field="t")
    with pytest.raises(InvalidInput, match="nothing_like_it"):
        source.validate(repo_config)


@pytest.mark.parametrize(
    ("column", "message"),
    [("seen", "timestamp_field 'seen'"), ("symbol", "parseDateTime64BestEffort")],
)
def test_a_time_column_must_be_there_and_hold_moments(
    repo_config: RepoConfig, prices: FeatureView, column: str, message: str
) -> None:
    with pytest.raises(InvalidInput, match=message):
        ClickHouseSource(table="prices", timestamp_field=column).validate(repo_config)


def test_fields_are_inferred_from_the_table(
    store: FeatureStore, clickhouse: Client, prices: FeatureView
) -> None:
    clickhouse.command("ALTER TABLE prices ADD COLUMN ticks UInt32, ADD COLUMN legs Array(String)")
    view = FeatureView(name="whole", entities=store.list_entities(), source=prices.batch_source)
    store.apply([view])
    found = {
        field.name: field.dtype.to_value_type()
        for field in store.get_feature_view("whole").features
    }
    assert found == {
        "close": ValueType.DOUBLE,
        "volume": ValueType.DOUBLE,
        "ticks": ValueType.INT64,
        "legs": ValueType.STRING_LIST,
    }


@pytest.mark.parametrize(
    ("column_type", "expected"),
    [
        ("LowCardinality(Nullable(String))", ValueType.STRING),
        ("Enum8('buy' = 1, 'sell' = 2)", ValueType.STRING),
        ("Decimal(18, 4)", ValueType.DOUBLE),
        ("DateTime64(6, 'UTC')", ValueType.UNIX_TIMESTAMP),
        ("Array(Nullable(Float64))", ValueType.DOUBLE_LIST),
        ("Nullable(Bool)", ValueType.BOOL),
        ("Map(String, Float64)", ValueType.UNKNOWN),
    ],
)
def test_column_types_are_feasts(column_type: str, expected: ValueType) -> None:
    assert feast_type(column_type) is expected


def test_the_address_comes_from_the_settings_unless_the_file_gives_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("ATLAS_CLICKHOUSE_PORT", "18999")
    assert [
        ClickHouseOfflineStoreConfig().port,
        ClickHouseOfflineStoreConfig(port=18998).port,
    ] == [18999, 18998]


def test_a_server_that_is_not_there_is_one_clear_error(repo_config: RepoConfig) -> None:
    away = repo_config.offline_store.model_copy(update={"port": 1})
    repo_config.offline_config = away
    repo_config._offline_store = away
    with pytest.raises(StoreUnavailable, match=r"127\.0\.0\.1:1;"):
        ClickHouseSource(table="prices", timestamp_field="t").validate(repo_config)
