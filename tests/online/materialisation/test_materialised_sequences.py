"""The last rows of each key come online with the latest one, equal to what history holds."""

from collections.abc import Callable
from datetime import datetime, timedelta

import numpy as np
import pytest
from clickhouse_connect.driver.client import Client
from feast import FeatureStore
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from online_rows import T0, bid_ask, put, quotes
from redis import Redis

from atlas.clock import to_micros
from atlas.online import SequenceWriter, compile_plan
from atlas.serving import DEPTH_TAG

Desk = Callable[..., FeatureStore]
Rows = list[tuple[str, datetime, datetime, float]]
S = timedelta(seconds=1)
DEPTH = 3
END = T0 + timedelta(days=1)
# So few that events are corrected and ties happen.
ROWS = st.lists(
    st.tuples(
        st.sampled_from("ABC"),
        st.integers(0, 8).map(lambda n: T0 + n * S),
        st.integers(0, 3).map(lambda n: T0 + n * S),
        st.floats(-9, 9),
    ),
    min_size=1,
    max_size=40,
    unique_by=lambda row: row[:3],
)


@pytest.fixture
def store(desk: Desk, clickhouse: Client) -> FeatureStore:
    """A project whose view `quotes` keeps its last three rows."""
    quotes(clickhouse)
    store = desk()
    symbol, view = bid_ask()
    view.tags = {DEPTH_TAG: str(DEPTH)}
    store.apply([symbol, view])
    return store


def kept(redis: Redis) -> dict[bytes, bytes]:
    found = {key: redis.get(key) for key in redis.scan_iter(b"atlas:history:*")}
    return {key: value for key, value in found.items() if value}


def oracle(store: FeatureStore, redis: Redis, rows: Rows) -> dict[bytes, bytes]:
    """Write every row through the live path's writer, and return what that leaves."""
    redis.flushall()
    writer = SequenceWriter(redis, compile_plan(store, "quotes"))
    for symbol, event, known, bid in rows:
        times = [to_micros(event)], [to_micros(known)]
        # The order of the plan's features is the view's.
        values = {"bid": bid, "ask": bid + 1}
        features = compile_plan(store, "quotes").features
        writer.write([symbol], *times, np.array([[values[name] for name in features]]))
    return kept(redis)


@settings(
    max_examples=15,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(ROWS, st.integers(0, 40))
def test_runs_leave_the_last_rows_that_history_holds(
    store: FeatureStore, clickhouse: Client, redis: Redis, rows: Rows, at: int
) -> None:
    expected = oracle(store, redis, rows)
    redis.flushall()
    clickhouse.command("TRUNCATE TABLE quotes")
    for part in (rows[:at], rows[at:]):
        if part:
            put(clickhouse, part)
        store.materialize_incremental(END, feature_views=["quotes"])
    assert kept(redis) == expected


def test_many_corrections_of_one_event_leave_room_for_the_others(
    store: FeatureStore, clickhouse: Client, redis: Redis
) -> None:
    rows: Rows = [("A", T0 + n * S, T0, float(n)) for n in range(3)]
    rows += [("A", T0 + 2 * S, T0 + n * S, float(n)) for n in range(1, 60)]
    expected = oracle(store, redis, rows)
    redis.flushall()
    put(clickhouse, rows)
    store.materialize_incremental(END, feature_views=["quotes"])
    assert kept(redis) == expected
