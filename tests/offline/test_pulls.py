"""What materialisation pulls: each key's latest row, or all rows of a window."""

from datetime import UTC, date, datetime, timedelta, timezone, tzinfo
from typing import Any

import pandas as pd
import pytest
from clickhouse_connect.driver.client import Client
from dateutil import tz
from feast import FeatureStore, FeatureView

from atlas.errors import InvalidInput
from atlas.offline import ClickHouseOfflineStore, ClickHouseSource

DAY = datetime(2021, 1, 1, tzinfo=UTC)


def pulled(
    store: FeatureStore,
    source: Any,
    start: datetime,
    end: datetime,
    *,
    every: bool = False,
    keys: tuple[str, ...] = ("symbol",),
    created: str | None = "known_at",
) -> list[dict[str, Any]]:
    pull = (
        ClickHouseOfflineStore.pull_all_from_table_or_query
        if every
        else ClickHouseOfflineStore.pull_latest_from_table_or_query
    )
    job = pull(store.config, source, list(keys), ["close"], "event_timestamp", created, start, end)
    rows: list[dict[str, Any]] = job.to_arrow().to_pylist()
    return sorted(rows, key=str)


def brief(rows: list[dict[str, Any]]) -> list[tuple[str, float]]:
    return [(row["symbol"], row["close"]) for row in rows]


def test_the_latest_row_is_the_newest_version_of_the_newest_event(
    store: FeatureStore, prices: FeatureView, clickhouse: Client
) -> None:
    clickhouse.command(
        "INSERT INTO prices VALUES ('ETH', '2021-01-01', '2021-01-01 09:00:00', 9, NULL)"
    )
    rows = pulled(store, prices.batch_source, DAY, DAY + timedelta(minutes=1))
    assert rows == [
        {
            "symbol": "BTC",
            "close": 2.0,
            "event_timestamp": DAY,
            "known_at": DAY + timedelta(minutes=5),
        },
        {
            "symbol": "ETH",
            "close": 3.0,
            "event_timestamp": DAY + timedelta(minutes=1),
            "known_at": DAY + timedelta(minutes=1),
        },
    ]


@pytest.mark.parametrize("every", [False, True])
def test_a_window_keeps_both_ends_to_the_microsecond(
    store: FeatureStore, prices: FeatureView, clickhouse: Client, every: bool
) -> None:
    clickhouse.command("TRUNCATE TABLE prices")
    clickhouse.command(
        "INSERT INTO prices SELECT toString(number), addMicroseconds(toDateTime64("
        "'2021-01-01 00:00:00.700000', 6, 'UTC'), number) AS at, at, number, NULL "
        "FROM numbers(5)"
    )
    first = DAY + timedelta(microseconds=700_001)
    found = pulled(
        store, prices.batch_source, first, first + timedelta(microseconds=2), every=every
    )
    assert brief(found) == [("1", 1.0), ("2", 2.0), ("3", 3.0)]


def test_bounds_in_any_zone_mean_the_same_moment(store: FeatureStore, prices: FeatureView) -> None:
    zone = timezone(timedelta(hours=2))
    found = pulled(
        store,
        prices.batch_source,
        (DAY + timedelta(seconds=1)).astimezone(zone),
        (DAY + timedelta(minutes=1)).replace(tzinfo=None),
    )
    assert brief(found) == [("ETH", 3.0)]


def test_all_rows_are_pulled_with_their_versions(store: FeatureStore, prices: FeatureView) -> None:
    found = pulled(store, prices.batch_source, DAY, DAY + timedelta(hours=1), every=True)
    assert brief(found) == [("BTC", 1.0), ("BTC", 2.0), ("ETH", 3.0)]


def test_a_window_after_all_history_is_empty(store: FeatureStore, prices: FeatureView) -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    assert pulled(store, prices.batch_source, now - timedelta(minutes=5), now) == []
    assert pulled(store, prices.batch_source, now, DAY + timedelta(hours=1)) == []


def test_rows_older_than_the_start_are_left_alone(store: FeatureStore, prices: FeatureView) -> None:
    found = pulled(store, prices.batch_source, DAY + timedelta(seconds=1), DAY + timedelta(hours=1))
    assert brief(found) == [("ETH", 3.0)]


def test_without_keys_the_one_latest_row_has_feasts_dummy_key(
    store: FeatureStore, prices: FeatureView
) -> None:
    found = pulled(store, prices.batch_source, DAY, DAY + timedelta(hours=1), keys=())
    assert [(row["close"], row["__dummy_id"]) for row in found] == [(3.0, "")]


def test_without_keys_or_rows_nothing_is_pulled(store: FeatureStore, prices: FeatureView) -> None:
    assert (
        pulled(
            store, prices.batch_source, DAY - timedelta(days=2), DAY - timedelta(days=1), keys=()
        )
        == []
    )


def test_a_query_is_pulled_like_a_table(store: FeatureStore, prices: FeatureView) -> None:
    source = ClickHouseSource(
        "doubled",
        query="SELECT symbol, close * 2 AS close, event_timestamp FROM prices",
        timestamp_field="event_timestamp",
    )
    found = pulled(store, source, DAY, DAY + timedelta(hours=1), created=None)
    assert brief(found)[1] == ("ETH", 6.0)


def test_a_source_of_another_store_is_refused(store: FeatureStore) -> None:
    with pytest.raises(InvalidInput, match="Expected a ClickHouseSource"):
        pulled(store, object(), DAY, DAY)


@pytest.mark.parametrize("every", [False, True])
@pytest.mark.parametrize(
    ("start", "end", "rows"),
    [
        (datetime.min, datetime.max, 2),
        (datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 1, 1, tzinfo=UTC), 2),
        (datetime.min, datetime(1800, 1, 1), 0),
    ],
)
def test_bounds_beyond_clickhouses_moments_mean_what_they_say(
    store: FeatureStore,
    prices: FeatureView,
    start: datetime,
    end: datetime,
    rows: int,
    every: bool,
) -> None:
    found = pulled(store, prices.batch_source, start, end, every=every)
    assert len({row["symbol"] for row in found}) == rows


@pytest.mark.parametrize("every", [False, True])
@pytest.mark.parametrize("zone", [tz.tzoffset(None, 7200), tz.gettz("Asia/Tokyo"), tz.tzlocal()])
def test_bounds_in_dateutils_zones_mean_the_same_moment(
    store: FeatureStore, prices: FeatureView, every: bool, zone: tzinfo
) -> None:
    first = (DAY + timedelta(minutes=1)).astimezone(zone)
    assert brief(pulled(store, prices.batch_source, first, first, every=every)) == [("ETH", 3.0)]


def test_all_rows_need_no_bounds_and_no_creation(store: FeatureStore, prices: FeatureView) -> None:
    job = ClickHouseOfflineStore.pull_all_from_table_or_query(
        store.config, prices.batch_source, ["symbol"], ["close"], "event_timestamp"
    )
    found = job.to_arrow().to_pylist()
    assert sorted(found[0]) == ["close", "event_timestamp", "symbol"]
    assert len(found) == 3


@pytest.mark.parametrize("every", [False, True])
def test_names_may_be_words_of_sql_or_have_dashes_spaces_and_quotes(
    store: FeatureStore, clickhouse: Client, every: bool
) -> None:
    clickhouse.command(
        "CREATE TABLE `the-table` (`select` String, `at time` DateTime, `known``at` DateTime, "
        '`px-1` Float64, `from` Int8, r UInt8, `a.b` Array(String), `q"q` Nullable(Int64)) '
        "ENGINE = MergeTree ORDER BY `select`"
    )
    clickhouse.command(
        "INSERT INTO `the-table` VALUES ('BTC', 1609459200, 1609459200, 2, 3, 4, ['x'], NULL)"
    )
    source = ClickHouseSource(
        table="the-table", timestamp_field="at time", created_timestamp_column="known`at"
    )
    source.validate(store.config)
    pull = (
        ClickHouseOfflineStore.pull_all_from_table_or_query
        if every
        else ClickHouseOfflineStore.pull_latest_from_table_or_query
    )
    features = ["px-1", "from", "r", "a.b", 'q"q']
    job = pull(store.config, source, ["select"], features, "at time", "known`at", DAY, DAY)
    assert job.to_arrow().to_pylist() == [
        {
            "select": "BTC",
            "px-1": 2.0,
            "from": 3,
            "r": 4,
            "a.b": ["x"],
            'q"q': None,
            "at time": DAY,
            "known`at": DAY,
        }
    ]


def test_a_column_that_is_not_there_is_named(store: FeatureStore, prices: FeatureView) -> None:
    with pytest.raises(InvalidInput, match="table prices to have the columns absent; found symbol"):
        ClickHouseOfflineStore.pull_all_from_table_or_query(
            store.config, prices.batch_source, ["symbol"], ["absent"], "event_timestamp"
        )


def test_two_versions_that_differ_in_nothing_but_their_values_have_one_order(
    store: FeatureStore, prices: FeatureView, clickhouse: Client
) -> None:
    found = []
    for order in ("", " DESC"):
        clickhouse.command("TRUNCATE TABLE prices")
        clickhouse.command(
            "INSERT INTO prices SELECT 'BTC', '2021-01-01', '2021-01-01', number, number "
            f"FROM numbers(100) ORDER BY number{order}"
        )
        found.append(pulled(store, prices.batch_source, DAY, DAY))
    assert len(found[0]) == 1
    assert found[0] == found[1]


@pytest.mark.parametrize("every", [False, True])
def test_a_row_whose_key_is_null_is_left_out_as_in_history(
    store: FeatureStore, clickhouse: Client, every: bool
) -> None:
    clickhouse.command(
        "CREATE TABLE loose (symbol Nullable(String), event_timestamp DateTime64(6, 'UTC'), "
        "close Float64) ENGINE = MergeTree ORDER BY tuple()"
    )
    clickhouse.command("INSERT INTO loose VALUES (NULL, '2021-01-01', 1), ('BTC', '2021-01-01', 2)")
    source = ClickHouseSource(table="loose", timestamp_field="event_timestamp")
    found = pulled(store, source, DAY, DAY, every=every, created=None)
    assert brief(found) == [("BTC", 2.0)]


@pytest.mark.parametrize("every", [False, True])
def test_a_bound_may_be_a_date_and_nothing_else_that_is_no_moment(
    store: FeatureStore, prices: FeatureView, every: bool
) -> None:
    bounds: tuple[Any, Any] = (date(2021, 1, 1), date(2021, 1, 1))
    found = pulled(store, prices.batch_source, *bounds, every=every)
    assert {row["symbol"] for row in found} == {"BTC"}
    for bad in ("2021-01-01", pd.NaT):
        bounds = (bad, DAY)
        with pytest.raises(InvalidInput, match="start_date to be a datetime or a date; found"):
            pulled(store, prices.batch_source, *bounds, every=every)
