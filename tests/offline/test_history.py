"""Historical retrieval through Feast: one row out per row in, as known at its time."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pandas as pd
import pytest
from clickhouse_connect.driver.client import Client
from feast import Entity, FeatureStore, FeatureView, Field, ValueType
from feast.errors import EntitySQLEmptyResults, InvalidEntityType
from feast.types import Float64, Int64, String, UnixTimestamp

from atlas.clickhouse.clients import client_of
from atlas.errors import InvalidInput
from atlas.offline import ClickHouseOfflineStore, ClickHouseSource

Asked = Callable[..., pd.DataFrame]
REFS = ["prices:close", "prices:volume"]


def closes(store: FeatureStore, entities: pd.DataFrame | str, **how: bool) -> list[float | None]:
    table = store.get_historical_features(entities, ["prices:close"], **how).to_arrow()
    values: list[float | None] = table["close"].to_pylist()
    return values


def test_rows_come_out_one_for_one_in_the_order_they_went_in(
    store: FeatureStore, prices: FeatureView, asked: Asked
) -> None:
    entities = asked(("ETH", "00:02:00"), ("BTC", "00:02:00"), ("ETH", "00:02:00"))
    entities["weight"] = [1, 2, 3]
    table = store.get_historical_features(entities, REFS).to_arrow()
    assert table.to_pydict() == {
        "symbol": ["ETH", "BTC", "ETH"],
        "event_timestamp": [pd.Timestamp("2021-01-01 00:02:00", tz="UTC")] * 3,
        "weight": [1, 2, 3],
        "close": [3.0, 2.0, 3.0],
        "volume": [30.0, 20.0, 30.0],
    }


def test_chunks_of_the_entity_rows_keep_their_order(
    store: FeatureStore, prices: FeatureView, asked: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("atlas.offline.point_in_time._MAX_BLOCK_ROWS", 2)
    entities = asked(*(("ETH", "00:02:00"), ("BTC", "00:02:00"), ("DOGE", "00:02:00")) * 2)
    assert closes(store, entities) == [3.0, 2.0, None] * 2


def test_many_rows_keep_their_order_though_threads_share_them(
    store: FeatureStore, prices: FeatureView, clickhouse: Client
) -> None:
    clickhouse.command(
        "INSERT INTO prices SELECT toString(number), '2021-01-02', '2021-01-02', number, NULL "
        "FROM numbers(300000)"
    )
    query = "FROM prices WHERE event_timestamp = '2021-01-02' ORDER BY cityHash64(symbol)"
    expected = [close for (close,) in clickhouse.query(f"SELECT close {query}").result_rows]
    assert closes(store, f"SELECT symbol, event_timestamp {query}") == expected


def test_what_is_missing_is_null_and_never_zero(
    store: FeatureStore, prices: FeatureView, asked: Asked
) -> None:
    entities = asked(("DOGE", "00:02:00"), ("ETH", "00:00:59"), (None, "00:02:00"), ("ETH", None))
    assert closes(store, entities) == [None, None, None, None]


def test_a_value_is_fresh_until_its_ttl_to_the_microsecond(
    store: FeatureStore, prices: FeatureView, asked: Asked
) -> None:
    entities = asked(("ETH", "00:01:00"), ("ETH", "00:11:00"), ("ETH", "00:11:00.000001"))
    assert closes(store, entities) == [3.0, 3.0, None]


def test_a_correction_is_hidden_until_it_was_known(
    store: FeatureStore, prices: FeatureView, asked: Asked
) -> None:
    entities = asked(("BTC", "00:04:59.999999"), ("BTC", "00:05:00"))
    assert closes(store, entities, filter_by_created_timestamp=True) == [1.0, 2.0]


def test_without_the_filter_the_last_version_wins(
    store: FeatureStore, prices: FeatureView, asked: Asked
) -> None:
    assert closes(store, asked(("BTC", "00:00:00"), ("BTC", "00:05:00"))) == [2.0, 2.0]


def test_full_names_carry_the_view(store: FeatureStore, prices: FeatureView, asked: Asked) -> None:
    job = store.get_historical_features(asked(("ETH", "00:02:00")), REFS, full_feature_names=True)
    assert job.to_arrow().column_names[2:] == ["prices__close", "prices__volume"]


def test_entity_rows_may_be_a_query_and_keep_its_order(
    store: FeatureStore, prices: FeatureView
) -> None:
    query = (
        "SELECT symbol, event_timestamp + INTERVAL 2 MINUTE AS event_timestamp, "
        "toUInt8(number) AS side FROM prices ARRAY JOIN [0, 1] AS number "
        "ORDER BY symbol DESC, known_at, side;"
    )
    table = store.get_historical_features(query, ["prices:close"]).to_arrow()
    assert (table["close"].to_pylist(), table["side"].to_pylist()) == (
        [3.0, 3.0, 2.0, 2.0, 2.0, 2.0],
        [0, 1, 0, 1, 0, 1],
    )


def test_a_query_without_rows_is_an_error(store: FeatureStore, prices: FeatureView) -> None:
    with pytest.raises(EntitySQLEmptyResults):
        closes(store, "SELECT symbol, event_timestamp FROM prices WHERE symbol = 'DOGE'")


def test_an_empty_frame_gives_an_empty_answer_with_every_column(
    store: FeatureStore, prices: FeatureView, asked: Asked
) -> None:
    table = store.get_historical_features(asked(), REFS).to_arrow()
    assert (table.num_rows, table.column_names) == (
        0,
        ["symbol", "event_timestamp", "close", "volume"],
    )


@pytest.mark.parametrize("query", [False, True])
def test_no_table_is_left_behind_even_after_an_error(
    store: FeatureStore, clickhouse: Client, prices: FeatureView, asked: Asked, query: bool
) -> None:
    before = clickhouse.query("SHOW TABLES").result_rows
    entities = "SELECT symbol, event_timestamp FROM prices" if query else asked(("ETH", "00:02:00"))
    job = store.get_historical_features(entities, ["prices:close"])
    job.to_arrow()
    clickhouse.command("ALTER TABLE prices RENAME COLUMN close TO last")
    with pytest.raises(InvalidInput, match="view prices with table prices to run"):
        job.to_arrow()
    assert clickhouse.query("SHOW TABLES").result_rows == before


def test_keys_that_look_alike_when_joined_stay_apart(
    store: FeatureStore, clickhouse: Client
) -> None:
    clickhouse.command(
        "CREATE TABLE pairs (base String, quote String, at DateTime64(6, 'UTC'), rate Float64) "
        "ENGINE = MergeTree ORDER BY (base, quote, at)"
    )
    clickhouse.command(
        "INSERT INTO pairs VALUES ('1', '23', '2021-01-01', 1), ('12', '3', '2021-01-01', 2)"
    )
    base = Entity(name="base", join_keys=["base"], value_type=ValueType.STRING)
    quote = Entity(name="quote", join_keys=["quote"], value_type=ValueType.STRING)
    view = FeatureView(
        name="pairs",
        entities=[base, quote],
        schema=[Field(name="rate", dtype=Float64)],
        source=ClickHouseSource(table="pairs", timestamp_field="at"),
    )
    store.apply([base, quote, view])
    entities = pd.DataFrame(
        {
            "base": ["12", "1", "123"],
            "quote": ["3", "23", ""],
            "event_timestamp": pd.to_datetime(["2021-01-02"] * 3, utc=True),
        }
    )
    table = store.get_historical_features(entities, ["pairs:rate"]).to_arrow()
    assert table["rate"].to_pylist() == [2.0, 1.0, None]


def test_one_view_is_joined_twice_under_two_aliases(
    store: FeatureStore, prices: FeatureView, asked: Asked
) -> None:
    entities = asked(("ETH", "00:02:00")).rename(columns={"symbol": "long"}).assign(short="BTC")
    long = prices.with_name("long_leg").with_join_key_map({"symbol": "long"})
    short = prices.with_name("short_leg").with_join_key_map({"symbol": "short"})
    job = ClickHouseOfflineStore.get_historical_features(
        store.config,
        [long, short],
        ["long_leg:close", "short_leg:close"],
        entities,
        store.registry,
        "desk",
        full_feature_names=True,
    )
    table = job.to_arrow()
    assert [table[f"{leg}__close"].to_pylist() for leg in ("long_leg", "short_leg")] == [
        [3.0],
        [2.0],
    ]


def test_a_view_without_entities_joins_on_time_alone(
    store: FeatureStore, prices: FeatureView, clickhouse: Client, asked: Asked
) -> None:
    view = FeatureView(
        name="market",
        entities=[],
        schema=[Field(name="mood", dtype=Float64)],
        source=ClickHouseSource(
            "market",
            query="SELECT close * 10 AS mood, event_timestamp FROM prices WHERE symbol = 'ETH'",
            timestamp_field="event_timestamp",
        ),
    )
    store.apply([view])
    entities = asked(("BTC", "00:02:00"), ("BTC", "00:00:30"))
    table = store.get_historical_features(entities, ["market:mood", "prices:close"]).to_arrow()
    assert (table["mood"].to_pylist(), table["close"].to_pylist()) == ([30.0, None], [2.0, 2.0])


def test_mapped_columns_are_read_under_their_own_names(
    store: FeatureStore, clickhouse: Client, asked: Asked
) -> None:
    clickhouse.command(
        "CREATE TABLE odd (`a symbol` String, `the time` DateTime64(3, 'UTC'), "
        "`select` Nullable(Int64)) ENGINE = MergeTree ORDER BY `a symbol`"
    )
    clickhouse.command("INSERT INTO odd VALUES ('ETH', '2021-01-01 00:01:00', 9007199254740993)")
    symbol = Entity(name="symbol", join_keys=["symbol"], value_type=ValueType.STRING)
    view = FeatureView(
        name="odd",
        entities=[symbol],
        schema=[Field(name="symbol", dtype=String), Field(name="count", dtype=Int64)],
        source=ClickHouseSource(
            table="odd",
            timestamp_field="the time",
            field_mapping={"a symbol": "symbol", "select": "count"},
        ),
    )
    store.apply([symbol, view])
    table = store.get_historical_features(asked(("ETH", "00:02:00")), ["odd:count"]).to_arrow()
    assert table["count"].to_pylist() == [9007199254740993]


def test_whole_numbers_match_whatever_width_the_frame_has(
    store: FeatureStore, clickhouse: Client
) -> None:
    clickhouse.command(
        "CREATE TABLE strikes (strike UInt32, at DateTime, delta Float32, seen DateTime) "
        "ENGINE = MergeTree ORDER BY strike"
    )
    clickhouse.command("INSERT INTO strikes VALUES (400, '2021-01-01', 0.5, '2021-01-01 12:00:00')")
    strike = Entity(name="strike", join_keys=["strike"], value_type=ValueType.INT64)
    view = FeatureView(
        name="strikes",
        entities=[strike],
        schema=[Field(name="delta", dtype=Float64), Field(name="seen", dtype=UnixTimestamp)],
        source=ClickHouseSource(table="strikes", timestamp_field="at"),
    )
    store.apply([strike, view])
    entities = pd.DataFrame(
        {"strike": [400, -400, 2**40], "event_timestamp": pd.to_datetime(["2021-01-02"] * 3)}
    )
    table = store.get_historical_features(entities, ["strikes:delta", "strikes:seen"]).to_arrow()
    assert (table["delta"].to_pylist(), table["seen"].to_pylist()) == (
        [0.5, None, None],
        [datetime(2021, 1, 1, 12, tzinfo=UTC), None, None],
    )


def test_a_missing_key_is_named(store: FeatureStore, prices: FeatureView, asked: Asked) -> None:
    entities = asked(("ETH", "00:02:00")).rename(columns={"symbol": "ticker"})
    with pytest.raises(InvalidInput, match="have the keys symbol; found the columns ticker"):
        closes(store, entities)


def test_a_feature_may_not_stand_for_two_columns(
    store: FeatureStore, prices: FeatureView, asked: Asked
) -> None:
    with pytest.raises(InvalidInput, match="close twice"):
        closes(store, asked(("ETH", "00:02:00")).assign(close=1.0))


def test_entity_rows_of_another_kind_are_refused(store: FeatureStore, prices: FeatureView) -> None:
    with pytest.raises(InvalidEntityType):
        closes(store, [("ETH", datetime(2021, 1, 1, tzinfo=UTC))])  # type: ignore[arg-type]


def test_the_answer_says_what_was_asked(
    store: FeatureStore, prices: FeatureView, asked: Asked
) -> None:
    job = store.get_historical_features(asked(("ETH", "00:02:00"), ("BTC", "00:01:00")), REFS)
    found = job.metadata
    assert (found.features, found.keys, found.max_event_timestamp - found.min_event_timestamp) == (
        REFS,
        ["symbol"],
        timedelta(minutes=1),
    )


def test_two_stores_in_one_process_do_not_share_a_database(
    store: FeatureStore, prices: FeatureView, database: str
) -> None:
    other = store.config.offline_store.model_copy(update={"database": "default"})
    assert [client_of(c).database for c in (other, store.config.offline_store)] == [
        "default",
        database,
    ]
