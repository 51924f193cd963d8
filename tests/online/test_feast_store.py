"""Feast's own calls on our Redis store, and beside Feast's own Redis store."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd
import pytest
from feast import FeatureStore
from feast.protos.feast.serving.ServingService_pb2 import FieldStatus
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.protos.feast.types.Value_pb2 import Value
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis import Redis
from redis.asyncio import Redis as AsyncRedis

from atlas.bus import CLOCK_KEY, AsyncRedisClock, set_replay, set_wall
from atlas.clock import ReplayState, to_micros
from atlas.errors import StoreUnavailable
from atlas.online import (
    OnlineReader,
    OnlineWriter,
    RedisOnlineStore,
    RedisOnlineStoreConfig,
    Status,
    Vectors,
    compile_plan,
)
from atlas.online.materialisation.claim import work_key
from atlas.online.wire import feature_field
from atlas.serving import ReadPlan

Project = Callable[..., FeatureStore]
Book = Callable[..., list[Any]]
NOW = datetime(2021, 6, 1, 12, tzinfo=UTC)
NOW_US = to_micros(NOW)
FEATURES = ("mid", "spread", "depth")
REFS = ["book:mid", "book:spread", "book:depth"]


@pytest.fixture(autouse=True)
def market_time(redis: Redis) -> None:
    """A replayed market stands at NOW, years behind the wall."""
    set_replay(redis, ReplayState(NOW_US, 0, 1.0, NOW_US))


def push(
    store: FeatureStore, values: tuple[float, ...], event: datetime, known: datetime | None = None
) -> None:
    row = {"symbol": "BTC", "event_timestamp": event, "known_at": known or event}
    names = ("mid", "spread", "depth")
    store.write_to_online_store("book", pd.DataFrame([row | dict(zip(names, values, strict=True))]))


def mids(store: FeatureStore, *symbols: str) -> list[float | None]:
    rows = [{"symbol": symbol} for symbol in symbols or ("BTC",)]
    found: list[float | None] = store.get_online_features(REFS, rows).to_dict()["mid"]
    return found


def statuses(store: FeatureStore, *symbols: str) -> dict[str, list[int]]:
    response = store.get_online_features(REFS, [{"symbol": symbol} for symbol in symbols]).proto
    return {
        name: list(vector.statuses)
        for name, vector in zip(response.metadata.feature_names.val, response.results, strict=True)
        if name != "symbol"
    }


def test_a_pushed_row_is_served(store: FeatureStore) -> None:
    push(store, (1.0, 2.0, 3.0), NOW)
    assert mids(store) == [1.0]


def test_a_symbol_without_a_row_is_not_found(store: FeatureStore) -> None:
    push(store, (1.0, 2.0, 3.0), NOW)
    assert statuses(store, "DOGE", "BTC") == {
        name: [FieldStatus.NOT_FOUND, FieldStatus.PRESENT] for name in ("mid", "spread", "depth")
    }


def test_null_is_told_from_missing(store: FeatureStore) -> None:
    push(store, (1.0, np.nan, 3.0), NOW)
    assert statuses(store, "BTC")["spread"] == [FieldStatus.NULL_VALUE]


def write_values(
    store: FeatureStore, values: dict[str, Value], event: datetime, created: Any = None
) -> None:
    key = EntityKey(join_keys=["symbol"], entity_values=[Value(string_val="BTC")])
    view = store.get_feature_view("book")
    RedisOnlineStore().online_write_batch(store.config, view, [(key, values, event, created)], None)


def test_a_row_without_a_feature_leaves_none_of_an_older_row(store: FeatureStore) -> None:
    push(store, (1.0, 2.0, 3.0), NOW - timedelta(days=2))
    write_values(store, {"mid": Value(double_val=4.0)}, NOW)
    found = store.get_online_features(REFS, [{"symbol": "BTC"}]).to_dict()
    assert found == {"symbol": ["BTC"], "mid": [4.0], "spread": [None], "depth": [None]}


def test_nan_of_feasts_own_value_is_null(store: FeatureStore) -> None:
    write_values(store, {name: Value(double_val=np.nan) for name in FEATURES}, NOW)
    assert statuses(store, "BTC") == {name: [FieldStatus.NULL_VALUE] for name in FEATURES}


def test_nan_that_another_client_wrote_is_null(store: FeatureStore, redis: Redis) -> None:
    push(store, (1.0, 2.0, 3.0), NOW)
    (key,) = (key for key in redis.scan_iter() if b"BTC" in key and b"history" not in key)
    redis.hset(key, feature_field("book", "mid"), Value(double_val=np.nan).SerializeToString())
    assert statuses(store, "BTC")["mid"] == [FieldStatus.NULL_VALUE]


def test_a_creation_time_that_is_missing_is_the_events(store: FeatureStore) -> None:
    values = {name: Value(double_val=1.0) for name in FEATURES}
    write_values(store, values, NOW, pd.NaT)
    assert mids(store) == [1.0]


@pytest.mark.parametrize("delete", ["view", "key", "all"])
def test_what_is_deleted_is_no_longer_told_of_as_online(
    store: FeatureStore, redis: Redis, delete: str
) -> None:
    ledger = work_key("desk", "book", "ledger")
    redis.set(ledger, "{}")
    redis.set(work_key("other", "book", "ledger"), "{}")
    online, view = RedisOnlineStore(), store.get_feature_view("book")
    if delete == "view":
        online.delete_table(store.config, view)
    elif delete == "key":
        online.delete_entity_values(store.config, ["symbol"])
    else:
        online.teardown(store.config, [view], [])
    assert (redis.exists(ledger), redis.exists(work_key("other", "book", "ledger"))) == (0, 1)


@pytest.mark.parametrize(
    ("age", "expected"),
    [
        (timedelta(seconds=10), FieldStatus.PRESENT),
        (timedelta(seconds=10, microseconds=1), FieldStatus.OUTSIDE_MAX_AGE),
    ],
)
def test_age_is_judged_by_the_markets_clock_to_the_microsecond(
    store: FeatureStore, age: timedelta, expected: int
) -> None:
    push(store, (1.0, 2.0, 3.0), NOW - age)
    assert statuses(store, "BTC")["mid"] == [expected]
    assert mids(store) == [1.0 if expected == FieldStatus.PRESENT else None]


def test_the_same_bytes_are_fresh_in_a_replay_of_2021_and_stale_on_the_wall(
    store: FeatureStore, redis: Redis, redis_port: int
) -> None:
    plan = compile_plan(store, "book")
    push(store, (1.0, 2.0, 3.0), NOW)
    before = {key: redis.dump(key) for key in redis.scan_iter() if key != CLOCK_KEY.encode()}

    def judged() -> tuple[list[int], list[list[int]]]:
        async def read() -> Vectors:
            async with AsyncRedis(port=redis_port) as client:
                now = await AsyncRedisClock(client).now()
                return await OnlineReader(client, plan).read(["BTC"], now=now)

        return statuses(store, "BTC")["mid"], asyncio.run(read()).status.tolist()

    in_replay = judged()
    set_wall(redis)
    on_the_wall = judged()
    after = {key: redis.dump(key) for key in redis.scan_iter() if key != CLOCK_KEY.encode()}
    assert in_replay == ([FieldStatus.PRESENT], [[Status.PRESENT] * 3])
    assert on_the_wall == ([FieldStatus.OUTSIDE_MAX_AGE], [[Status.STALE] * 3])
    assert after == before


@pytest.mark.parametrize("micros", [0, 1, 999_999])
def test_an_event_time_keeps_its_microseconds_and_another_writers_nanoseconds_are_rounded_down(
    store: FeatureStore, redis: Redis, micros: int
) -> None:
    event = NOW + timedelta(microseconds=micros)
    push(store, (1.0, 2.0, 3.0), event)
    [key] = [key for key in redis.scan_iter() if key.endswith(b"desk")]
    stamp = Timestamp.FromString(redis.hget(key, "_ts:book"))
    assert stamp.ToMicroseconds() == to_micros(event)
    stamp.nanos += 999
    redis.hset(key, "_ts:book", stamp.SerializeToString())
    response = store.get_online_features(REFS, [{"symbol": "BTC"}]).proto
    assert response.results[1].event_timestamps[0].ToMicroseconds() == to_micros(event)


def test_two_rows_of_one_microsecond_are_compared_by_their_nanoseconds(
    store: FeatureStore, redis: Redis
) -> None:
    push(store, (1.0, 2.0, 3.0), NOW)
    [key] = [key for key in redis.scan_iter() if key.endswith(b"desk")]
    stamp = Timestamp.FromString(redis.hget(key, "_ts:book"))
    stamp.nanos += 1
    redis.hset(key, "_ts:book", stamp.SerializeToString())
    push(store, (9.0, 9.0, 9.0), NOW, known=NOW + timedelta(days=1))
    assert mids(store) == [1.0]


def test_the_event_time_is_told_even_of_a_row_that_is_too_old(store: FeatureStore) -> None:
    push(store, (1.0, 2.0, 3.0), NOW - timedelta(days=1))
    response = store.get_online_features(REFS, [{"symbol": "BTC"}]).proto
    assert response.results[1].event_timestamps[0].ToMicroseconds() == NOW_US - 86_400_000_000


def test_a_correction_of_the_same_event_lands(store: FeatureStore) -> None:
    push(store, (1.0, 2.0, 3.0), NOW)
    push(store, (9.0, 2.0, 3.0), NOW, known=NOW + timedelta(microseconds=1))
    assert mids(store) == [9.0]


@pytest.mark.parametrize(
    ("event", "known"),
    [(NOW, NOW), (NOW, NOW - timedelta(seconds=1)), (NOW - timedelta(seconds=1), NOW)],
)
def test_an_older_row_never_lands(store: FeatureStore, event: datetime, known: datetime) -> None:
    push(store, (1.0, 2.0, 3.0), NOW)
    push(store, (9.0, 9.0, 9.0), event, known)
    assert mids(store) == [1.0]


def test_skip_dedup_writes_whatever_is_there(project: Project, book: Book) -> None:
    store = project(skip_dedup=True)
    store.apply(book())
    push(store, (1.0, 2.0, 3.0), NOW)
    push(store, (9.0, 9.0, 9.0), NOW - timedelta(seconds=1))
    assert mids(store) == [9.0]


def test_keys_expire_when_told(project: Project, book: Book, redis: Redis) -> None:
    store = project(key_ttl_seconds=100)
    store.apply(book())
    push(store, (1.0, 2.0, 3.0), NOW)
    [key] = [key for key in redis.scan_iter() if key.endswith(b"desk")]
    assert 0 < redis.ttl(key) <= 100


def test_asyncio_calls_write_and_read_the_same(store: FeatureStore) -> None:
    async def both() -> list[float | None]:
        frame = pd.DataFrame(
            [
                {
                    "symbol": "BTC",
                    "event_timestamp": NOW,
                    "known_at": NOW,
                    "mid": 1.0,
                    "spread": 2.0,
                    "depth": 3.0,
                }
            ]
        )
        await store.write_to_online_store_async("book", frame)
        answer = await store.get_online_features_async(
            REFS, [{"symbol": "BTC"}, {"symbol": "DOGE"}]
        )
        await store._get_provider().online_store._client_async.aclose()
        found: list[float | None] = answer.to_dict()["mid"]
        return found

    assert asyncio.run(both()) == [1.0, None]


def test_reading_a_store_directly_tells_rows_that_are_not_there(store: FeatureStore) -> None:
    push(store, (1.0, 2.0, 3.0), NOW)
    keys = [
        EntityKey(join_keys=["symbol"], entity_values=[Value(string_val=symbol)])
        for symbol in ("BTC", "DOGE")
    ]
    (event, values), nothing = store._get_provider().online_read(
        store.config, store.get_feature_view("book"), keys
    )
    assert (event, values["mid"].double_val, nothing) == (NOW, 1.0, (None, None))


def test_deleting_a_project_leaves_the_one_whose_name_ends_alike(
    project: Project, book: Book
) -> None:
    ours, theirs = project("prod"), project("nonprod")
    for store in (ours, theirs):
        store.apply(book())
        push(store, (1.0, 2.0, 3.0), NOW)
    ours._get_provider().teardown_infra("prod", ours.list_feature_views(), ours.list_entities())
    assert (mids(ours), mids(theirs)) == ([None], [1.0])


def test_deleting_a_view_leaves_the_others_of_the_same_key(
    project: Project, book: Book, redis: Redis
) -> None:
    ours, theirs = project("prod"), project("nonprod")
    for store in (ours, theirs):
        store.apply(book() + book("flow"))
        push(store, (1.0, 2.0, 3.0), NOW)
        plan = ReadPlan(store.project, "flow", ("symbol",), ("mid",), 0)
        OnlineWriter(redis, plan).write(["BTC"], [NOW_US], [NOW_US], np.array([[7.0]]))
    [key] = [key for key in redis.scan_iter() if key.endswith(b"prod") and b"non" not in key]
    ours.delete_feature_service("direction_book")
    view = ours.get_feature_view("book")
    ours.apply([], objects_to_delete=[view], partial=False)
    left = {field for field in redis.hkeys(key) if field.startswith(b"_")}
    assert (left, mids(theirs)) == ({b"_ts:flow", b"_known:flow"}, [1.0])


DOUBLES = st.floats(width=64)
VECTORS = st.lists(st.tuples(DOUBLES, DOUBLES, DOUBLES), min_size=1, max_size=4)
checked = settings(
    max_examples=25,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


def as_null(values: np.ndarray) -> list[list[float | None]]:
    return [[None if np.isnan(cell) else cell for cell in row] for row in values.tolist()]


@checked
@given(VECTORS)
def test_feast_reads_what_the_writer_wrote(
    store: FeatureStore, redis: Redis, plan: ReadPlan, vectors: list[tuple[float, float, float]]
) -> None:
    redis.flushall()
    set_replay(redis, ReplayState(NOW_US, 0, 1.0, NOW_US))
    values = np.array(vectors)
    symbols = [f"S{number}" for number in range(len(vectors))]
    n = len(symbols)
    OnlineWriter(redis, plan).write(symbols, [NOW_US] * n, [NOW_US] * n, values)
    found = store.get_online_features(REFS, [{"symbol": symbol} for symbol in symbols]).to_dict()
    assert list(zip(*(found[ref.split(":")[1]] for ref in REFS), strict=True)) == [
        tuple(row) for row in as_null(values)
    ]


@checked
@given(VECTORS)
def test_the_reader_reads_what_feast_wrote(
    store: FeatureStore,
    redis: Redis,
    redis_port: int,
    plan: ReadPlan,
    vectors: list[tuple[float, float, float]],
) -> None:
    redis.flushall()
    values = np.array(vectors)
    symbols = [f"S{number}" for number in range(len(vectors))]
    frame = pd.DataFrame(values, columns=["mid", "spread", "depth"])
    store.write_to_online_store(
        "book", frame.assign(symbol=symbols, event_timestamp=NOW, known_at=NOW)
    )

    async def read() -> Any:
        async with AsyncRedis(port=redis_port) as client:
            return await OnlineReader(client, plan).read(symbols, now=NOW)

    found = asyncio.run(read())
    assert as_null(found.values) == as_null(values)
    assert ((found.status == Status.NULL) == np.isnan(values)).all()


def test_feasts_own_redis_store_reads_our_rows_and_we_read_its(
    project: Project, book: Book
) -> None:
    ours, plain = project(), project(type="redis")
    ours.apply(book())
    push(ours, (1.0, 2.0, 3.0), NOW)
    assert mids(plain) == [1.0]
    push(plain, (4.0, 5.0, 6.0), NOW + timedelta(seconds=1))
    assert mids(ours) == [4.0]


def test_a_correction_lands_on_a_row_that_feasts_own_store_wrote(
    project: Project, book: Book
) -> None:
    ours, plain = project(), project(type="redis")
    ours.apply(book())
    push(plain, (1.0, 2.0, 3.0), NOW)
    push(ours, (9.0, 2.0, 3.0), NOW, known=NOW + timedelta(seconds=1))
    assert mids(plain) == [9.0]


def test_a_redis_that_is_not_there_is_told_in_one_sentence_whatever_is_asked(
    project: Project, book: Book
) -> None:
    store = project(connection_string="127.0.0.1:1")
    store.apply(book())
    view, rows = store.get_feature_view("book"), [{"symbol": "BTC"}]
    told = []
    for ask in (
        lambda: store.get_online_features(REFS, rows),
        lambda: asyncio.run(store.get_online_features_async(REFS, rows)),
        lambda: push(store, (1, 2, 3), NOW),
        lambda: store.apply([], objects_to_delete=[view], partial=False),
        lambda: store.teardown(),
    ):
        with pytest.raises(StoreUnavailable) as refused:
            ask()
        told.append(str(refused.value))
    assert all(text.startswith("Expected Redis at 127.0.0.1:1; found: ") for text in told)


def test_the_address_comes_from_the_settings_unless_the_file_gives_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("ATLAS_REDIS_PORT", "16999")
    assert [
        RedisOnlineStoreConfig().connection_string,
        RedisOnlineStoreConfig(connection_string="there:1").connection_string,
    ] == ["127.0.0.1:16999", "there:1"]
