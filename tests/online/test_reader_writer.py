"""Reading and writing vectors in Redis without Feast."""

import asyncio
import dataclasses
import re
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis import Redis

from atlas.bus import connect_async
from atlas.clock import to_micros
from atlas.errors import FeatureMismatch, InvalidInput, StoreUnavailable
from atlas.online import OnlineReader, OnlineWriter, Status, Vectors
from atlas.online.wire import entity_key, feature_field, key_prefix
from atlas.serving import ReadPlan

NOW = datetime(2021, 6, 1, 12, tzinfo=UTC)
NOW_US = to_micros(NOW)
P, N, S, M = Status.PRESENT, Status.NULL, Status.STALE, Status.MISSING


def read(port: int, plan: ReadPlan, keys: list[str], now: datetime = NOW) -> Vectors:
    async def once() -> Vectors:
        async with connect_async(port=port) as redis:
            return await OnlineReader(redis, plan).read(keys, now=now)

    return asyncio.run(once())


@asynccontextmanager
async def patient_witness(port: int, questions: list[int]) -> AsyncIterator[int]:
    """Stand before Redis: pass HMGETs on only when all have come, and note how many they were."""

    async def asked(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        while data := await source.read(1 << 22):
            while b"HMGET" in data and not re.search(rb"PING\r\n\$16\r\n\w{16}\r\n$", data):
                data += await source.read(1 << 22)
            questions.append(data.count(b"HMGET"))
            sink.write(data)
        sink.close()

    async def answered(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        while data := await source.read(1 << 22):
            sink.write(data)
        sink.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.gather(asked(reader, back), answered(there, writer))

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()[1]


def row(*values: float) -> np.ndarray:
    return np.array([values])


def test_vectors_come_back_in_the_order_of_the_keys(
    redis: Redis, redis_port: int, plan: ReadPlan
) -> None:
    values = np.array([[1.0, -0.0, np.inf], [4.0, 5e-324, 6.0]])
    OnlineWriter(redis, plan).write(["BTC", "ETH"], [NOW_US, NOW_US - 1], [NOW_US] * 2, values)
    found = read(redis_port, plan, ["ETH", "BTC", "ETH"])
    assert found.values.tobytes() == values[[1, 0, 1]].tobytes()
    assert found.status.tolist() == [[P] * 3] * 3
    assert found.event_ts.tolist() == [NOW_US - 1, NOW_US, NOW_US - 1]


def test_the_arrays_have_the_promised_types(redis: Redis, redis_port: int, plan: ReadPlan) -> None:
    found = read(redis_port, plan, ["BTC", "ETH"])
    assert [(a.dtype, a.shape) for a in (found.values, found.status, found.event_ts)] == [
        (np.float64, (2, 3)),
        (np.uint8, (2, 3)),
        (np.int64, (2,)),
    ]


def test_no_keys_give_no_vectors(redis: Redis, redis_port: int, plan: ReadPlan) -> None:
    assert read(redis_port, plan, []).values.shape == (0, 3)


def test_null_and_missing_are_told_apart(redis: Redis, redis_port: int, plan: ReadPlan) -> None:
    OnlineWriter(redis, plan).write(["BTC"], [NOW_US], [NOW_US], row(1.0, np.nan, 3.0))
    found = read(redis_port, plan, ["BTC", "DOGE"])
    assert found.status.tolist() == [[P, N, P], [M, M, M]]
    assert np.isnan(found.values).tolist() == [[False, True, False], [True] * 3]
    assert found.event_ts[1] == 0


def test_a_feature_added_later_is_missing_from_older_rows(
    redis: Redis, redis_port: int, plan: ReadPlan
) -> None:
    OnlineWriter(redis, plan).write(["BTC"], [NOW_US], [NOW_US], row(1.0, 2.0, 3.0))
    wider = ReadPlan("desk", "book", ("symbol",), (*plan.features, "flow"), plan.ttl_us)
    assert read(redis_port, wider, ["BTC"]).status.tolist() == [[P, P, P, M]]


@pytest.mark.parametrize(("late_us", "status"), [(0, P), (1, S)])
def test_a_row_is_fresh_until_its_ttl_to_the_microsecond(
    redis: Redis, redis_port: int, plan: ReadPlan, late_us: int, status: Status
) -> None:
    event = NOW_US - plan.ttl_us - late_us
    OnlineWriter(redis, plan).write(["BTC"], [event], [event], row(1.0, 2.0, 3.0))
    found = read(redis_port, plan, ["BTC"])
    assert found.status.tolist() == [[status] * 3]
    assert np.isnan(found.values).all() == (status is S)
    assert found.event_ts.tolist() == [event]


def test_without_a_ttl_nothing_is_stale(redis: Redis, redis_port: int, plan: ReadPlan) -> None:
    endless = ReadPlan("desk", "book", ("symbol",), plan.features, ttl_us=0)
    OnlineWriter(redis, endless).write(["BTC"], [1], [1], row(1.0, 2.0, 3.0))
    assert read(redis_port, endless, ["BTC"]).status.tolist() == [[P] * 3]


def test_a_row_ahead_of_the_clock_is_present(redis: Redis, redis_port: int, plan: ReadPlan) -> None:
    OnlineWriter(redis, plan).write(["BTC"], [NOW_US], [NOW_US], row(1.0, 2.0, 3.0))
    found = read(redis_port, plan, ["BTC"], now=NOW - timedelta(days=1))
    assert found.status.tolist() == [[P] * 3]


def test_many_keys_are_read_in_one_round_trip(
    redis: Redis, redis_port: int, plan: ReadPlan
) -> None:
    symbols = [f"S{number}" for number in range(500)]
    OnlineWriter(redis, plan).write(
        symbols, [NOW_US] * 500, [NOW_US] * 500, np.arange(1500.0).reshape(500, 3)
    )
    questions: list[int] = []

    async def through_a_witness() -> Vectors:
        async with (
            patient_witness(redis_port, questions) as port,
            connect_async(port=port) as client,
        ):
            return await OnlineReader(client, plan).read(symbols, now=NOW)

    found = asyncio.run(through_a_witness())
    assert found.values.ravel().tolist() == list(range(1500))
    assert [n for n in questions if n] == [500]


def test_a_feature_that_is_no_double_is_named(
    redis: Redis, redis_port: int, plan: ReadPlan
) -> None:
    OnlineWriter(redis, plan).write(["BTC"], [NOW_US], [NOW_US], row(1.0, 2.0, 3.0))
    key = entity_key(key_prefix(["symbol"]), "BTC", "desk")
    redis.hset(key, feature_field("book", "spread"), b"\x20\x07")  # type: ignore[arg-type]
    with pytest.raises(FeatureMismatch, match="spread as double"):
        read(redis_port, plan, ["BTC"])


def test_a_redis_that_forgot_its_scripts_still_answers(
    redis: Redis, redis_port: int, plan: ReadPlan
) -> None:
    writer = OnlineWriter(redis, plan)
    writer.write(["BTC"], [NOW_US], [NOW_US], row(1.0, 2.0, 3.0))
    redis.script_flush()
    assert writer.write(["BTC"], [NOW_US + 1], [NOW_US], row(4.0, 5.0, 6.0)) == 1
    redis.script_flush()
    assert read(redis_port, plan, ["BTC"]).values.tolist() == [[4.0, 5.0, 6.0]]


def test_a_redis_that_is_not_there_is_one_clear_error(plan: ReadPlan) -> None:
    with pytest.raises(StoreUnavailable):
        read(1, plan, ["BTC"])


def test_rows_of_the_wrong_shape_are_refused(redis: Redis, plan: ReadPlan) -> None:
    with pytest.raises(InvalidInput, match=r"shape \(1, 3\)"):
        OnlineWriter(redis, plan).write(["BTC"], [1], [1], row(1.0, 2.0))


def test_more_rows_than_one_script_call_takes_all_land(
    redis: Redis, redis_port: int, plan: ReadPlan
) -> None:
    n = 2_345
    symbols = [f"S{number}" for number in range(n)]
    values = np.arange(3.0 * n).reshape(n, 3)
    assert OnlineWriter(redis, plan).write(symbols, [NOW_US] * n, [NOW_US] * n, values) == n
    assert read(redis_port, plan, symbols).values.tolist() == values.tolist()


@pytest.mark.parametrize(
    "keys",
    [
        *("BTC", b"BTC", {"BTC": 1}, {"BTC"}, None, 7),
        *([["A"]], [{"symbol": "A"}], [(["A"],)], ["\udc80"], [None], [1.0], [("A", "B")]),
    ],
)
def test_keys_that_are_none_are_refused_in_one_sentence(plan: ReadPlan, keys: Any) -> None:
    deep = dataclasses.replace(plan, depth=2)

    async def ask() -> None:
        # Nobody listens there: it is refused before Redis is asked.
        async with connect_async(port=1) as client:
            reader = OnlineReader(client, deep)
            with pytest.raises(InvalidInput, match=r"^Expected .*; found "):
                await reader.read(keys, now=NOW)
            with pytest.raises(InvalidInput, match=r"^Expected .*; found "):
                await reader.history(keys, 2, now=NOW)

    asyncio.run(ask())


@pytest.mark.parametrize("now", [None, NOW_US, "2021-06-01", NOW.date(), pd.NaT])
def test_a_moment_that_is_none_is_refused_before_redis_is_asked(plan: ReadPlan, now: Any) -> None:
    with pytest.raises(InvalidInput, match="Expected the moment of the read"):
        read(1, plan, ["BTC"], now)


@pytest.mark.parametrize(("late_us", "status"), [(0, P), (1, S)])
def test_a_moment_without_a_zone_is_in_utc(
    redis: Redis, redis_port: int, plan: ReadPlan, late_us: int, status: Status
) -> None:
    event = NOW_US - plan.ttl_us - late_us
    OnlineWriter(redis, plan).write(["BTC"], [event], [event], row(1.0, 2.0, 3.0))
    for now in (NOW.replace(tzinfo=None), NOW.astimezone(timezone(timedelta(hours=5)))):
        assert read(redis_port, plan, ["BTC"], now).status.tolist() == [[status] * 3]


TIMES = st.integers(0, 3)
ROWS = st.lists(st.tuples(st.sampled_from(["BTC", "ETH"]), TIMES, TIMES), min_size=1, max_size=12)


@settings(
    max_examples=40,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(st.lists(ROWS, min_size=1, max_size=4))
def test_of_a_keys_rows_the_first_of_the_latest_stays_and_only_landings_count(
    redis: Redis, redis_port: int, plan: ReadPlan, batches: list[list[tuple[str, int, int]]]
) -> None:
    redis.flushall()
    expected: dict[str, tuple[int, int, float]] = {}
    stamp = 0.0
    for batch in batches:
        landed = 0
        values = np.empty((len(batch), 3))
        for at, (symbol, event, known) in enumerate(batch):
            stamp += 1
            values[at] = stamp
            if symbol not in expected or (event, known) > expected[symbol][:2]:
                expected[symbol] = event, known, stamp
                landed += 1
        symbols, events, knowns = zip(*batch, strict=True)
        written = OnlineWriter(redis, plan).write(
            symbols, [NOW_US + e for e in events], [NOW_US + k for k in knowns], values
        )
        assert written == landed
    found = read(redis_port, plan, list(expected))
    assert found.values[:, 0].tolist() == [value for _, _, value in expected.values()]


def test_racing_writers_leave_the_latest_row(redis_port: int, redis: Redis, plan: ReadPlan) -> None:
    n_writers, n_rows = 4, 200
    order = np.random.default_rng(7).permutation(n_writers * n_rows)

    def write(part: np.ndarray) -> None:
        with Redis(port=redis_port) as own:
            writer = OnlineWriter(own, plan)
            for number in part.tolist():
                event = NOW_US + number // 10
                writer.write(["BTC"], [event], [event + number % 10], row(*[float(number)] * 3))

    threads = [threading.Thread(target=write, args=(part,)) for part in np.split(order, n_writers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert read(redis_port, plan, ["BTC"]).values.tolist() == [[n_writers * n_rows - 1.0] * 3]
