"""Retrieval without entity rows: each (keys, event) of a range once, in the order of time."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest
from clickhouse_connect.driver.client import Client
from feast import Entity, FeatureStore, FeatureView, Field, ValueType
from feast.types import Float64, String

from atlas.errors import InvalidInput
from atlas.offline import ClickHouseSource

Asked = Callable[..., pd.DataFrame]
DAY = datetime(2021, 1, 1, tzinfo=UTC)
SPAN = {"start_date": DAY, "end_date": DAY + timedelta(minutes=10)}


def minute(number: float) -> datetime:
    return DAY + timedelta(minutes=number)


@pytest.fixture
def sizes(clickhouse: Client, store: FeatureStore, prices: FeatureView) -> FeatureView:
    """A view on the same key, under another name for it, with nanoseconds."""
    clickhouse.command(
        "CREATE TABLE sizes (`the symbol` String, at DateTime64(9, 'UTC'), size Float64) "
        "ENGINE = MergeTree ORDER BY `the symbol`"
    )
    clickhouse.command(
        "INSERT INTO sizes VALUES ('ETH', '2021-01-01 00:01:00', 1), "
        "('ETH', '2021-01-01 00:01:00.000000001', 2), ('BTC', '2021-01-01 00:01:00', 3), "
        "('ADA', '2021-01-01 00:11:00', 4)"
    )
    view = FeatureView(
        name="sizes",
        entities=[Entity(name="symbol", join_keys=["symbol"], value_type=ValueType.STRING)],
        schema=[Field(name="symbol", dtype=String), Field(name="size", dtype=Float64)],
        source=ClickHouseSource(
            table="sizes", timestamp_field="at", field_mapping={"the symbol": "symbol"}
        ),
        ttl=timedelta(seconds=30),
    )
    store.apply([view])
    return view


def rows(store: FeatureStore, refs: list[str], **how: Any) -> list[dict[str, Any]]:
    table = store.get_historical_features(None, refs, **{**SPAN, **how}).to_arrow()
    found: list[dict[str, Any]] = table.to_pylist()
    return found


def test_each_event_comes_out_once_in_its_last_version(
    store: FeatureStore, prices: FeatureView
) -> None:
    assert rows(store, ["prices:close"]) == [
        {"symbol": "BTC", "event_timestamp": minute(0), "close": 2.0},
        {"symbol": "ETH", "event_timestamp": minute(1), "close": 3.0},
    ]


def test_as_known_then_a_row_has_the_version_of_its_own_time(
    store: FeatureStore, prices: FeatureView
) -> None:
    found = rows(store, ["prices:close"], filter_by_created_timestamp=True)
    assert [row["close"] for row in found] == [1.0, 3.0]


@pytest.mark.parametrize(
    ("start", "end", "expected"),
    [(0, 1, ["BTC", "ETH"]), (0.5, 1, ["ETH"]), (0, 0.999, ["BTC"]), (1, 1, ["ETH"]), (2, 3, [])],
)
def test_both_ends_belong_to_the_range(
    store: FeatureStore, prices: FeatureView, start: float, end: float, expected: list[str]
) -> None:
    found = rows(store, ["prices:close"], start_date=minute(start), end_date=minute(end))
    assert [row["symbol"] for row in found] == expected


def test_naive_ends_are_utc(store: FeatureStore, prices: FeatureView) -> None:
    naive = {name: moment.replace(tzinfo=None) for name, moment in SPAN.items()}
    assert rows(store, ["prices:close"], **naive) == rows(store, ["prices:close"])


def test_an_empty_range_has_every_column_with_its_type(
    store: FeatureStore, prices: FeatureView
) -> None:
    empty = {"start_date": minute(50), "end_date": minute(60)}
    found = store.get_historical_features(None, ["prices:close"], **empty).to_arrow()
    full = store.get_historical_features(None, ["prices:close"], **SPAN).to_arrow()
    assert (found.num_rows, found.schema) == (0, full.schema)


def test_several_views_give_the_union_of_their_events(
    store: FeatureStore, sizes: FeatureView
) -> None:
    table = store.get_historical_features(
        None, ["prices:close", "sizes:size"], full_feature_names=True, **SPAN
    ).to_arrow()
    times = table["event_timestamp"].cast(pa.int64()).to_pylist()
    nanos = int(DAY.timestamp()) * 10**9
    assert [
        (time - nanos, *values)
        for time, *values in zip(
            times,
            *(table[name].to_pylist() for name in ("symbol", "prices__close", "sizes__size")),
            strict=True,
        )
    ] == [
        (0, "BTC", 2.0, None),
        (60 * 10**9, "BTC", 2.0, 3.0),
        (60 * 10**9, "ETH", 3.0, 1.0),
        (60 * 10**9 + 1, "ETH", 3.0, 2.0),
    ]


def test_a_view_without_entities_has_its_own_events_or_joins_those_of_others(
    store: FeatureStore, prices: FeatureView
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
    assert rows(store, ["market:mood"]) == [{"event_timestamp": minute(1), "mood": 30.0}]
    assert [row["mood"] for row in rows(store, ["prices:close", "market:mood"])] == [None, 30.0]


def test_rows_without_a_key_are_no_rows_of_the_range(
    store: FeatureStore, clickhouse: Client
) -> None:
    clickhouse.command(
        "CREATE TABLE gaps (symbol Nullable(String), at Nullable(DateTime64(6, 'UTC')), "
        "value Float64) ENGINE = MergeTree ORDER BY tuple()"
    )
    clickhouse.command(
        "INSERT INTO gaps VALUES (NULL, '2021-01-01 00:01:00', 1), ('ETH', NULL, 2), "
        "('ETH', '2021-01-01 00:01:00', 3)"
    )
    symbol = Entity(name="symbol", join_keys=["symbol"], value_type=ValueType.STRING)
    view = FeatureView(
        name="gaps",
        entities=[symbol],
        schema=[Field(name="value", dtype=Float64)],
        source=ClickHouseSource(table="gaps", timestamp_field="at"),
    )
    store.apply([symbol, view])
    assert rows(store, ["gaps:value"]) == [
        {"symbol": "ETH", "event_timestamp": minute(1), "value": 3.0}
    ]


def test_views_with_different_keys_are_refused(
    store: FeatureStore, prices: FeatureView, clickhouse: Client
) -> None:
    clickhouse.command(
        "CREATE TABLE venues (venue String, at DateTime, fee Float64) "
        "ENGINE = MergeTree ORDER BY venue"
    )
    venue = Entity(name="venue", join_keys=["venue"], value_type=ValueType.STRING)
    view = FeatureView(
        name="venues",
        entities=[venue],
        schema=[Field(name="fee", dtype=Float64)],
        source=ClickHouseSource(table="venues", timestamp_field="at"),
    )
    store.apply([venue, view])
    with pytest.raises(InvalidInput, match=r"same keys.*prices \(symbol\) and venues \(venue\)"):
        rows(store, ["prices:close", "venues:fee"])


def test_a_range_that_ends_before_it_starts_is_refused(
    store: FeatureStore, prices: FeatureView
) -> None:
    with pytest.raises(InvalidInput, match="start_date before end_date"):
        rows(store, ["prices:close"], start_date=minute(2), end_date=minute(1))


def test_the_range_is_the_answers_span(store: FeatureStore, prices: FeatureView) -> None:
    found = store.get_historical_features(None, ["prices:close"], **SPAN).metadata
    assert (found.keys, found.min_event_timestamp, found.max_event_timestamp) == (
        ["symbol"],
        *SPAN.values(),
    )
