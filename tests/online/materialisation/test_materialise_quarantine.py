"""Rows that break their view's schema do not come online."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest
from clickhouse_connect.driver.client import Client
from feast import Entity, FeatureStore, FeatureView, Field, ValueType
from feast.types import Float64
from online_rows import rows_of
from redis import Redis

from atlas.clickhouse import create_feature_table, insert_once
from atlas.errors import TooManyBadRows
from atlas.features import feature_set
from atlas.offline import ClickHouseSource

Desk = Callable[..., FeatureStore]
VIEW = feature_set("ohlcv_1m")
T0 = datetime(2021, 5, 1, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


@pytest.fixture
def objects(clickhouse: Client) -> list[object]:
    """Atlas's own view, and its empty table."""
    create_feature_table(clickhouse, VIEW.view, VIEW.features)
    symbol = Entity(name="symbol", join_keys=["symbol"], value_type=ValueType.STRING)
    view = FeatureView(
        name=VIEW.view,
        entities=[symbol],
        schema=[Field(name=name, dtype=Float64) for name in VIEW.features],
        source=ClickHouseSource(
            table=VIEW.view,
            timestamp_field="event_timestamp",
            created_timestamp_column="known_at",
        ),
        ttl=VIEW.ttl,
    )
    return [symbol, view]


def add(clickhouse: Client, symbols: list[str], event: datetime, *, bad: set[str]) -> None:
    rows = pl.DataFrame(
        [
            {"symbol": symbol, "event_timestamp": event, "known_at": event}
            | {name: float("nan") if symbol in bad else None for name in VIEW.features}
            for symbol in symbols
        ],
        schema={
            "symbol": pl.String,
            "event_timestamp": pl.Datetime("us", "UTC"),
            "known_at": pl.Datetime("us", "UTC"),
        }
        | dict.fromkeys(VIEW.features, pl.Float64),
    )
    insert_once(clickhouse, VIEW.view, rows.to_arrow())


def events(redis: Redis) -> dict[str, bytes]:
    return {key[26:-4].decode(): row[b"_ts:ohlcv_1m"] for key, row in rows_of(redis).items()}


def test_a_bad_row_goes_to_quarantine_and_the_old_one_stays(
    desk: Desk, objects: list[object], clickhouse: Client, redis: Redis
) -> None:
    store = desk()
    store.apply(objects)
    add(clickhouse, ["A", "B"], T0, bad=set())
    store.materialize_incremental(T0, feature_views=[VIEW.view])
    before = events(redis)
    add(clickhouse, ["A", "B"], T0 + MINUTE, bad={"A"})
    store.materialize_incremental(T0 + MINUTE, feature_views=[VIEW.view])
    done = store.provider.batch_engine.brought[VIEW.view]
    after = events(redis)
    kept = clickhouse.query(
        "SELECT symbol, event_timestamp, border, table_name FROM quarantine", tz_mode="aware"
    ).result_rows
    assert (done.landed, done.unchanged, done.quarantined) == (1, 0, 1)
    assert (after["A"] == before["A"], after["B"] == before["B"]) == (True, False)
    assert kept == [("A", T0 + MINUTE, "online", "ohlcv_1m")]


def test_too_many_bad_rows_stop_the_run_before_their_batch_lands(
    desk: Desk, objects: list[object], clickhouse: Client, redis: Redis
) -> None:
    store = desk(max_bad_share=0.1, min_judged_rows=10)
    store.apply(objects)
    symbols = [f"S{number:02}" for number in range(20)]
    add(clickhouse, symbols, T0, bad=set(symbols[:3]))
    with pytest.raises(TooManyBadRows, match=r"at most 10 % bad rows of ohlcv_1m at the online"):
        store.materialize_incremental(T0, feature_views=[VIEW.view])
    assert (rows_of(redis), redis.keys("atlas:online:*")) == ({}, [])
