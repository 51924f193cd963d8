"""The ClickHouse source: what it is equal to, what the registry keeps, what it says is wrong."""

from typing import Any

import pytest
from clickhouse_connect.driver.client import Client
from feast import FeatureStore, FeatureView, RepoConfig, ValueType
from feast.credentials import ConnectionRef
from feast.data_source import DataSource

from atlas.clickhouse.clients import client_of
from atlas.errors import InvalidInput, StoreUnavailable
from atlas.offline import ClickHouseOfflineStoreConfig, ClickHouseSource


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
    "query", ["SELECT * FROM prices;", "SELECT * FROM prices -- all of it\n ;"]
)
def test_what_stands_behind_a_query_is_left_out(
    repo_config: RepoConfig, prices: FeatureView, query: str
) -> None:
    source = ClickHouseSource("s", query=query, timestamp_field="event_timestamp")
    source.validate(repo_config)
    assert source.query == "SELECT * FROM prices"


@pytest.mark.parametrize("quoted", [False, True])
def test_a_table_may_lie_in_another_database(
    repo_config: RepoConfig, clickhouse: Client, database: str, quoted: bool
) -> None:
    other = f"{database}-aside"
    table = f"`{other}`.`the.table`" if quoted else f"{other}.the-table"
    name = "the.table" if quoted else "the-table"
    clickhouse.command(f"CREATE DATABASE `{other}`")
    try:
        clickhouse.command(
            f"CREATE TABLE `{other}`.`{name}` (at DateTime) ENGINE = MergeTree ORDER BY at"
        )
        source = ClickHouseSource("s", table=table, timestamp_field="at")
        source.validate(repo_config)
        assert source.get_table_column_names_and_types(repo_config) == [("at", "DateTime")]
    finally:
        clickhouse.command(f"DROP DATABASE `{other}`")


def test_a_source_tells_what_it_is() -> None:
    source = ClickHouseSource("s", table="a", timestamp_field="t", field_mapping={"a": "b"})
    told = "ClickHouseSource(name='s', table='a', timestamp_field='t', field_mapping={'a': 'b'})"
    assert repr(source) == told


def test_a_connection_is_kept_with_the_source() -> None:
    connection = ConnectionRef("env", "desk", params={"region": "eu"})
    source = ClickHouseSource("s", table="a", tags={"k": "v"}, connection_ref=connection)
    back = DataSource.from_proto(source.to_proto())
    assert back == source
    assert (back.connection_ref, back.tags) == (connection, {"k": "v"})


def test_feast_finds_the_config_by_the_stores_dotted_path(repo_config: RepoConfig) -> None:
    assert isinstance(repo_config.offline_store, ClickHouseOfflineStoreConfig)
    assert repo_config.offline_store.type == "atlas.offline.ClickHouseOfflineStore"


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
    with pytest.raises(StoreUnavailable) as refused:
        ClickHouseSource(table="prices", timestamp_field="t").validate(repo_config)
    assert str(refused.value) == (
        f"Expected ClickHouse with database {away.database!r} at 127.0.0.1:1; found: Connection "
        "refused. Start it with `make up`, or set ATLAS_CLICKHOUSE_PORT."
    )


def test_a_server_that_went_away_is_not_taken_for_a_wrong_source(
    repo_config: RepoConfig, prices: FeatureView, monkeypatch: pytest.MonkeyPatch
) -> None:
    client: Any = client_of(repo_config.offline_store)
    # As if its server had gone: the client stays open, and nobody listens any more.
    monkeypatch.setattr(client._backend, "_base_url", "http://127.0.0.1:1/")
    with pytest.raises(StoreUnavailable) as refused:
        prices.batch_source.validate(repo_config)
    assert str(refused.value) == (
        "Expected ClickHouse to answer table prices; found: Connection refused. Try again once it "
        "runs."
    )
