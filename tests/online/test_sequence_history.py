"""The last rows of a symbol: whatever comes in whatever order, they are the offline store's."""

import asyncio
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
from clickhouse_connect.driver.client import Client
from feast import FeatureStore, RepoConfig
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis import Redis

from atlas.bus import connect_async
from atlas.clickhouse import insert_once
from atlas.clock import from_micros, to_micros
from atlas.errors import FeatureMismatch, InvalidInput, StoreUnavailable
from atlas.online import History, OnlineReader, OnlineWriter, SequenceWriter, Status
from atlas.serving import ReadPlan, ValueKind

NOW = datetime(2021, 6, 1, 12, tzinfo=UTC)
NOW_US = to_micros(NOW)
DEPTH = 4


@pytest.fixture
def plan(plan: ReadPlan) -> ReadPlan:
    """The plan of the view `book`, which keeps four rows."""
    return replace(plan, depth=DEPTH)


def read(port: int, plan: ReadPlan, keys: Sequence[Any], n: int, now: datetime = NOW) -> History:
    async def once() -> History:
        async with connect_async(port=port) as redis:
            return await OnlineReader(redis, plan).history(keys, n, now=now)

    return asyncio.run(once())


def write(redis: Redis, plan: ReadPlan, rows: Sequence[tuple[str, int, int, float]]) -> int:
    symbols, events, knowns, values = zip(*rows, strict=True)
    return SequenceWriter(redis, plan).write(
        symbols,
        [NOW_US + event for event in events],
        [NOW_US + known for known in knowns],
        np.array(values)[:, None] * [1.0, 10.0, 100.0],
    )


def test_the_last_rows_come_oldest_first_behind_padding(
    redis: Redis, redis_port: int, plan: ReadPlan
) -> None:
    write(redis, plan, [("BTC", -2, 0, 1.0), ("BTC", -1, 0, np.nan), ("ETH", 0, 0, 3.0)])
    found = read(redis_port, plan, ["ETH", "BTC", "DOGE"], 3)
    nan = np.nan
    assert np.array_equal(
        found.values,
        [
            [[nan] * 3, [nan] * 3, [3.0, 30.0, 300.0]],
            [[nan] * 3, [1.0, 10.0, 100.0], [nan] * 3],
            [[nan] * 3] * 3,
        ],
        equal_nan=True,
    )
    assert found.event_ts.tolist() == [[0, 0, NOW_US], [0, NOW_US - 2, NOW_US - 1], [0, 0, 0]]
    assert (found.n_rows.tolist(), found.status.tolist()) == (
        [1, 2, 0],
        [Status.PRESENT, Status.PRESENT, Status.MISSING],
    )


@pytest.mark.parametrize("n", range(1, DEPTH + 1))
def test_fewer_rows_than_are_kept_may_be_read(
    redis: Redis, redis_port: int, plan: ReadPlan, n: int
) -> None:
    write(redis, plan, [("BTC", event, 0, float(event)) for event in range(-9, 0)])
    found = read(redis_port, plan, ["BTC"], n)
    assert found.event_ts.tolist() == [[NOW_US + event for event in range(-n, 0)]]
    assert found.values[0, :, 0].tolist() == [float(event) for event in range(-n, 0)]


ROWS = st.lists(
    st.tuples(
        st.sampled_from(["BTC", "ETH", "DOGE"]),
        st.integers(0, 9),
        st.integers(0, 3),
    ),
    min_size=1,
    max_size=40,
)


def value_of(symbol: str, event: int, known: int) -> float:
    """One value for each (symbol, event, known): rows that are the same are equal."""
    return float("nan") if (event + known) % 7 == 0 else event * 100 + known + len(symbol) / 10


def expected(rows: Sequence[tuple[str, int, int]], symbol: str) -> list[tuple[int, int]]:
    known: dict[int, int] = {}
    for name, event, at in rows:
        if name == symbol:
            known[event] = max(at, known.get(event, -1))
    return sorted(known.items())[-DEPTH:]


checked = settings(
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


@checked
@given(st.lists(ROWS, min_size=1, max_size=5), st.randoms(use_true_random=False))
def test_rows_in_any_order_repeated_or_corrected_leave_the_last_rows_as_known(
    redis: Redis, redis_port: int, plan: ReadPlan, batches: list[Any], random: Any
) -> None:
    redis.flushall()
    for batch in [*batches, random.choice(batches)]:
        write(redis, plan, [(*row, value_of(*row)) for row in batch])
    rows = [row for batch in batches for row in batch]
    symbols = ["BTC", "ETH", "DOGE"]
    found = read(redis_port, plan, symbols, DEPTH)
    for at, symbol in enumerate(symbols):
        last = expected(rows, symbol)
        assert found.n_rows[at] == len(last)
        assert found.event_ts[at, DEPTH - len(last) :].tolist() == [NOW_US + e for e, _ in last]
        values = found.values[at, DEPTH - len(last) :, 0]
        assert values.tobytes() == np.array([value_of(symbol, *r) for r in last]).tobytes()


@checked
@given(st.lists(ROWS, min_size=1, max_size=5))
def test_writing_the_same_again_changes_nothing(
    redis: Redis, plan: ReadPlan, batches: list[Any]
) -> None:
    redis.flushall()
    for batch in batches:
        write(redis, plan, [(*row, value_of(*row)) for row in batch])
    before = {key: redis.get(key) for key in redis.scan_iter()}
    again = [write(redis, plan, [(*row, value_of(*row)) for row in batch]) for batch in batches]
    assert again == [0] * len(batches)
    assert {key: redis.get(key) for key in redis.scan_iter()} == before


def test_only_rows_that_change_what_is_kept_are_counted(redis: Redis, plan: ReadPlan) -> None:
    counts = [
        write(redis, plan, [("BTC", event, 0, 1.0) for event in range(10, 16)]),
        write(redis, plan, [("BTC", 9, 0, 1.0), ("BTC", 14, 0, 2.0)]),
        write(redis, plan, [("BTC", 14, 1, 2.0), ("BTC", 16, 0, 2.0)]),
        write(redis, plan, [("BTC", 13, 0, 1.0)]),
    ]
    assert counts == [4, 0, 2, 0]


def test_the_same_row_with_other_values_lands_when_rows_are_restated(
    redis: Redis, redis_port: int, plan: ReadPlan
) -> None:
    found = []
    for restates in (False, True):
        write(redis, plan, [("BTC", 0, 0, 1.0)])
        SequenceWriter(redis, plan, restates=restates).write(
            ["BTC"], [NOW_US], [NOW_US], np.array([[2.0, 2.0, 2.0]])
        )
        found.append(read(redis_port, plan, ["BTC"], 1).values[0, 0, 0])
    assert found == [1.0, 2.0]


@pytest.mark.parametrize(("late_us", "status"), [(0, Status.PRESENT), (1, Status.STALE)])
def test_a_sequence_is_as_fresh_as_its_last_row(
    redis: Redis, redis_port: int, plan: ReadPlan, late_us: int, status: Status
) -> None:
    write(redis, plan, [("BTC", -10, 0, 1.0), ("BTC", 0, 0, 2.0)])
    now = NOW + timedelta(microseconds=plan.ttl_us + late_us)
    found = read(redis_port, plan, ["BTC"], 2, now=now)
    assert found.status.tolist() == [status]
    assert np.isnan(found.values).all() == (status is Status.STALE)


def test_rows_of_other_features_are_neither_read_nor_kept(
    redis: Redis, redis_port: int, plan: ReadPlan
) -> None:
    write(redis, plan, [("BTC", 0, 0, 1.0)])
    renamed = replace(plan, features=("mid", "spread", "imbalance"))
    with pytest.raises(FeatureMismatch, match="found rows of others"):
        read(redis_port, renamed, ["BTC"], 2)
    write(redis, renamed, [("BTC", -1, 0, 2.0)])
    assert read(redis_port, renamed, ["BTC"], 2).event_ts.tolist() == [[0, NOW_US - 1]]


def test_more_rows_than_are_kept_are_refused(redis: Redis, redis_port: int, plan: ReadPlan) -> None:
    with pytest.raises(InvalidInput, match="Expected to read 1 to 4 rows"):
        read(redis_port, plan, ["BTC"], 5)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"depth": 0}, "its depth is 0"),
        ({"kinds": (ValueKind.DOUBLE, ValueKind.INT64, ValueKind.BOOL)}, r"spread \(int64\)"),
    ],
)
def test_a_view_that_keeps_no_rows_has_no_writer(
    redis: Redis, plan: ReadPlan, change: dict[str, Any], match: str
) -> None:
    with pytest.raises(InvalidInput, match=match):
        SequenceWriter(redis, replace(plan, **change))


def test_rows_of_the_wrong_shape_or_time_are_refused(redis: Redis, plan: ReadPlan) -> None:
    writer = SequenceWriter(redis, plan)
    with pytest.raises(InvalidInput, match=r"shape \(1, 3\)"):
        writer.write(["BTC"], [1], [1], np.ones((1, 2)))
    with pytest.raises(InvalidInput, match="before the year 2255"):
        writer.write(["BTC"], [2**53], [1], np.ones((1, 3)))


def test_no_rows_and_no_keys_are_nothing(redis: Redis, redis_port: int, plan: ReadPlan) -> None:
    assert SequenceWriter(redis, plan).write([], [], [], np.empty((0, 3))) == 0
    assert read(redis_port, plan, [], 2).values.shape == (0, 2, 3)


def test_a_string_of_another_kind_under_the_key_is_one_clear_error(
    redis: Redis, redis_port: int, plan: ReadPlan
) -> None:
    write(redis, plan, [("BTC", 0, 0, 1.0)])
    [key] = redis.keys("atlas:history:*")
    redis.delete(key)
    redis.lpush(key, "x")
    with pytest.raises(StoreUnavailable, match="WRONGTYPE"):
        read(redis_port, plan, ["BTC"], 2)


def test_racing_writers_leave_the_last_rows(redis: Redis, redis_port: int, plan: ReadPlan) -> None:
    order = np.random.default_rng(7).permutation(400)

    def write_all(part: np.ndarray) -> None:
        with Redis(port=redis_port) as own:
            for number in part.tolist():
                write(own, plan, [("BTC", number // 10, number % 10, float(number))])

    threads = [threading.Thread(target=write_all, args=(p,)) for p in np.split(order, 4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = read(redis_port, plan, ["BTC"], DEPTH)
    assert found.values[0, :, 0].tolist() == [369.0, 379.0, 389.0, 399.0]


def test_an_entity_costs_what_the_module_promises(redis: Redis, plan: ReadPlan) -> None:
    wide = replace(plan, features=tuple(f"f{i}" for i in range(30)), kinds=(), depth=64)
    n = 64
    SequenceWriter(redis, wide).write(
        ["BTC"] * n, NOW_US + np.arange(n), NOW_US + np.arange(n), np.ones((n, 30))
    )
    [key] = redis.keys("atlas:history:*")
    # Redis rounds up to what its allocator hands out.
    assert redis.memory_usage(key) <= 1.3 * (64 * (16 + 8 * 30) + 100)


def test_forgetting_a_symbol_takes_its_last_rows_too(
    redis: Redis, redis_port: int, plan: ReadPlan
) -> None:
    write(redis, plan, [("BTC", 0, 0, 1.0), ("ETH", 0, 0, 1.0)])
    OnlineWriter(redis, plan).forget(["BTC"])
    assert read(redis_port, plan, ["BTC", "ETH"], 2).n_rows.tolist() == [0, 1]


@pytest.fixture
def offline(
    clickhouse: Client,
    clickhouse_port: int,
    database: str,
    book: Callable[..., list[Any]],
    tmp_path: Any,
) -> FeatureStore:
    """A Feast project on the real ClickHouse with an empty table of the view `book`."""
    clickhouse.command(
        "CREATE TABLE book (symbol String, event_timestamp DateTime64(6, 'UTC'), "
        "known_at DateTime64(6, 'UTC'), mid Nullable(Float64), spread Nullable(Float64), "
        "depth Nullable(Float64)) ENGINE = MergeTree ORDER BY (symbol, event_timestamp)"
    )
    store = FeatureStore(
        config=RepoConfig(
            project="desk",
            provider="local",
            registry={"registry_type": "file", "path": str(tmp_path / "offline.pb")},
            offline_store={
                "type": "atlas.offline.ClickHouseOfflineStore",
                "port": clickhouse_port,
                "database": database,
            },
            online_store={"type": "sqlite", "path": str(tmp_path / "online.db")},
            entity_key_serialization_version=3,
            data_quality_monitoring={"auto_baseline": False},
        )
    )
    store.apply(book(ttl_s=0)[:2])
    return store


@settings(
    max_examples=20,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(batches=st.lists(ROWS, min_size=1, max_size=4))
def test_the_last_rows_are_the_offline_stores_bit_for_bit(
    offline: FeatureStore,
    clickhouse: Client,
    redis: Redis,
    redis_port: int,
    plan: ReadPlan,
    batches: list[Any],
) -> None:
    redis.flushall()
    clickhouse.command("TRUNCATE TABLE book")
    for batch in batches:
        write(redis, plan, [(*row, value_of(*row)) for row in batch])
    rows = sorted({row for batch in batches for row in batch})
    values = np.array([value_of(*row) for row in rows])
    frame = pl.DataFrame(
        {
            "symbol": [symbol for symbol, _, _ in rows],
            "event_timestamp": [NOW + timedelta(microseconds=event) for _, event, _ in rows],
            "known_at": [NOW + timedelta(microseconds=known) for _, _, known in rows],
            **{
                name: pl.Series(values * scale).fill_nan(None)
                for name, scale in zip(plan.features, (1.0, 10.0, 100.0), strict=True)
            },
        }
    )
    insert_once(clickhouse, "book", frame.to_arrow())
    symbols = sorted({symbol for symbol, _, _ in rows})
    ours = read(redis_port, plan, symbols, DEPTH)
    # What the offline store knows of each kept event, by its own point-in-time join.
    asked = [
        {"symbol": symbol, "event_timestamp": from_micros(event)}
        for symbol, events in zip(symbols, ours.event_ts.tolist(), strict=True)
        for event in events
        if event
    ]
    theirs = offline.get_historical_features(
        pd.DataFrame(asked), [f"book:{name}" for name in plan.features]
    ).to_df()
    kept = ours.event_ts > 0
    found = theirs[list(plan.features)].to_numpy(np.float64)
    assert np.array_equal(ours.values[kept], found, equal_nan=True)
    # And the kept events are the last that it has.
    everything = pl.from_arrow(
        clickhouse.query_arrow("SELECT DISTINCT symbol, event_timestamp AS t FROM book")
    )
    last = (
        everything.with_columns(pl.col("symbol").cast(pl.String))
        .sort("symbol", "t")
        .group_by("symbol", maintain_order=True)
        .tail(DEPTH)
    )
    assert [(row["symbol"], to_micros(row["t"])) for row in last.iter_rows(named=True)] == [
        (row["symbol"], to_micros(row["event_timestamp"])) for row in asked
    ]
