"""A replay serves bars as they close, by its own clock, with the same bits as a batch run."""

import asyncio
import threading
from dataclasses import replace
from datetime import timedelta

import numpy as np
import polars as pl
import pytest
from clickhouse_connect.driver.client import Client
from redis import Redis
from redis.asyncio import Redis as AsyncRedis

from atlas.bus import RedisClock
from atlas.clickhouse import insert_once
from atlas.clickhouse.values import frame_of
from atlas.clock import from_micros, to_micros
from atlas.features import feature_set
from atlas.ingest import MarketRecipe, simulate
from atlas.market import interval_of
from atlas.materialise import compute_history
from atlas.online import History, OnlineReader, Vectors
from atlas.serving import feature_hash, rows_streams
from atlas.streaming import ReplayPlan, Tail, play, read_plan, wind_back, write_plan

MINUTE = interval_of("1m")
VIEWS = ("ohlcv_1m", "lunar_1m")
RECIPE = MarketRecipe(symbols=("SIM_A", "SIM_B"), days=2, seed=3)
SPLIT = RECIPE.start + timedelta(days=1, hours=20)
END = SPLIT + timedelta(minutes=40)


@pytest.fixture
def bars(clickhouse: Client) -> pl.DataFrame:
    """A simulated market with a gap in one symbol, stored."""
    whole = simulate(RECIPE)
    gap = (pl.col("symbol") == "SIM_B") & (
        pl.col("event_timestamp") == SPLIT + timedelta(minutes=9)
    )
    kept = whole.filter(~gap)
    insert_once(clickhouse, "bars_1m", kept.to_arrow())
    for view in VIEWS:
        compute_history(clickhouse, feature_set(view), until=SPLIT)
    return kept


def told_of(redis: Redis) -> list[dict[bytes, bytes]]:
    """The rows that workers were told of; each symbol's are in order."""
    return [
        entry
        for stream in rows_streams("ohlcv_1m")
        for _, entry in redis.xrange(stream)  # type: ignore[union-attr]
    ]


def plan(**changes: object) -> ReplayPlan:
    whole = ReplayPlan(
        interval="1m",
        views=VIEWS,
        symbols=RECIPE.symbols,
        start_us=to_micros(SPLIT),
        end_us=to_micros(END),
        speed=1e6,
        played_us=to_micros(SPLIT),
    )
    return replace(whole, **changes)  # type: ignore[arg-type]


def stored(client: Client, view: str) -> pl.DataFrame:
    names = ", ".join(("symbol", "event_timestamp", "known_at", *feature_set(view).features))
    return frame_of(
        client.query_arrow(
            f"SELECT {names} FROM {view} ORDER BY symbol, event_timestamp, known_at",
            use_strings=True,
        )
    )


def batch(bars: pl.DataFrame, view: str) -> pl.DataFrame:
    features = feature_set(view)
    rows = features.compute(bars.filter(pl.col("event_timestamp") <= END).lazy()).collect()
    return rows.sort("symbol", "event_timestamp")


def test_what_was_played_live_equals_a_later_batch_run_to_the_bit(
    redis: Redis, clickhouse: Client, bars: pl.DataFrame
) -> None:
    write_plan(redis, plan())
    done = play(redis, clickhouse)
    assert done is not None
    assert done.finished
    for view in VIEWS:
        assert stored(clickhouse, view).equals(batch(bars, view))
        later = compute_history(clickhouse, feature_set(view), until=END)
        assert later.written == 0


def test_the_vectors_served_are_the_newest_rows(
    redis: Redis, redis_port: int, clickhouse: Client, bars: pl.DataFrame
) -> None:
    write_plan(redis, plan())
    play(redis, clickhouse)
    features = feature_set("ohlcv_1m")
    newest = batch(bars, "ohlcv_1m").group_by("symbol", maintain_order=True).last()

    async def read() -> Vectors:
        client = AsyncRedis(port=redis_port)
        try:
            reader = OnlineReader(client, features.plan)
            return await reader.read(list(RECIPE.symbols), now=RedisClock(redis).now())
        finally:
            await client.aclose()

    vectors = asyncio.run(read())
    expected = newest.select(features.features).to_numpy().astype(np.float64)
    assert np.array_equal(vectors.values, expected, equal_nan=True)
    assert vectors.event_ts.tolist() == [to_micros(END)] * 2


def test_the_sequences_served_are_the_last_rows_played(
    redis: Redis, redis_port: int, clickhouse: Client, bars: pl.DataFrame
) -> None:
    write_plan(redis, plan())
    play(redis, clickhouse)
    features = feature_set("ohlcv_1m")
    played = batch(bars, "ohlcv_1m").filter(pl.col("event_timestamp") > SPLIT)
    last = played.group_by("symbol", maintain_order=True).tail(8)
    found = asyncio.run(history(redis, redis_port, 8))
    expected = last.select(features.features).to_numpy().astype(np.float64)
    assert np.array_equal(found.values.reshape(expected.shape), expected, equal_nan=True)
    assert found.event_ts.ravel().tolist() == last["event_timestamp"].dt.timestamp("us").to_list()


def test_the_sequences_served_reach_back_before_the_first_bar_played(
    redis: Redis, redis_port: int, clickhouse: Client, bars: pl.DataFrame
) -> None:
    features = feature_set("ohlcv_1m")
    write_plan(redis, plan(end_us=to_micros(SPLIT + timedelta(minutes=2))))
    play(redis, clickhouse)
    played = batch(bars, "ohlcv_1m").filter(
        pl.col("event_timestamp") <= SPLIT + timedelta(minutes=2)
    )
    last = played.group_by("symbol", maintain_order=True).tail(features.depth)
    found = asyncio.run(history(redis, redis_port, features.depth))
    expected = last.select(features.features).to_numpy().astype(np.float64)
    assert np.array_equal(found.values.reshape(expected.shape), expected, equal_nan=True)
    assert found.event_ts.ravel().tolist() == last["event_timestamp"].dt.timestamp("us").to_list()


async def history(redis: Redis, port: int, n: int) -> History:
    async with AsyncRedis(port=port) as client:
        reader = OnlineReader(client, feature_set("ohlcv_1m").plan)
        return await reader.history(list(RECIPE.symbols), n, now=RedisClock(redis).now())


def test_every_bar_is_told_of_once_in_order(
    redis: Redis, clickhouse: Client, bars: pl.DataFrame
) -> None:
    write_plan(redis, plan())
    play(redis, clickhouse)
    told = [
        (entry[b"symbol"].decode(), from_micros(int(entry[b"event_us"])))
        for entry in told_of(redis)
    ]
    played = bars.filter(pl.col("event_timestamp").is_between(SPLIT, END, closed="right")).sort(
        "symbol", "event_timestamp"
    )
    assert sorted(told, key=lambda row: row[0]) == list(
        played.select("symbol", "event_timestamp").iter_rows()
    )


def test_a_row_is_told_with_its_values(
    redis: Redis, clickhouse: Client, bars: pl.DataFrame
) -> None:
    write_plan(redis, plan())
    play(redis, clickhouse)
    features = feature_set("ohlcv_1m")
    newest = batch(bars, "ohlcv_1m").tail(1)
    entry = [e for e in told_of(redis) if e[b"symbol"].decode() == newest["symbol"][0]][-1]
    expected = newest.select(features.features).to_numpy()[0]
    carried = np.frombuffer(entry[b"values"], "<f8")
    assert np.array_equal(carried, expected.astype(np.float64), equal_nan=True)
    assert entry[b"feature_hash"].decode() == feature_hash("ohlcv_1m", features.features)


def test_the_clock_stands_at_the_last_bar_played(
    redis: Redis, clickhouse: Client, bars: pl.DataFrame
) -> None:
    write_plan(redis, plan())
    moments = []
    play(redis, clickhouse, on_step=lambda _: moments.append(RedisClock(redis).now()))
    assert moments == [SPLIT + timedelta(minutes=n) for n in range(1, 41)]
    assert RedisClock(redis).now() == END


@pytest.mark.parametrize("steps", [1, 7, 23])
def test_a_replay_that_was_cut_off_goes_on_and_leaves_nothing_out(
    redis: Redis, clickhouse: Client, bars: pl.DataFrame, steps: int
) -> None:
    class Killed(Exception):
        pass

    left = steps

    def kill(_: ReplayPlan) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            raise Killed

    write_plan(redis, plan())
    with pytest.raises(Killed):
        play(redis, clickhouse, on_step=kill)
    played = read_plan(redis)
    assert played is not None
    assert played.played_us == to_micros(SPLIT + timedelta(minutes=steps))
    play(redis, clickhouse)
    for view in VIEWS:
        assert stored(clickhouse, view).equals(batch(bars, view))


def test_a_replay_may_be_wound_back(redis: Redis, clickhouse: Client, bars: pl.DataFrame) -> None:
    write_plan(redis, plan())
    play(redis, clickhouse)
    wind_back(redis, plan(), ["direction_ohlcv_1m"])
    assert read_plan(redis) is None
    assert RedisClock(redis).now() == SPLIT
    write_plan(redis, plan())
    first: list[int] = []
    play(redis, clickhouse, on_step=lambda now: first.append(now.played_us))
    assert first[0] == to_micros(SPLIT + timedelta(minutes=1))
    assert len(told_of(redis)) == 79


def test_another_plan_takes_over(redis: Redis, clickhouse: Client, bars: pl.DataFrame) -> None:
    write_plan(redis, plan())
    other = plan(end_us=to_micros(SPLIT + timedelta(minutes=5)), speed=2e6)

    def replan(now: ReplayPlan) -> None:
        if now.played_us == to_micros(SPLIT + timedelta(minutes=3)):
            write_plan(redis, other)

    play(redis, clickhouse, on_step=replan)
    assert read_plan(redis) == other


def test_nothing_is_played_without_a_plan(redis: Redis, clickhouse: Client) -> None:
    assert play(redis, clickhouse) is None


def test_a_tail_keeps_the_look_back_and_takes_the_later_version_of_a_bar() -> None:
    bars = simulate(MarketRecipe(symbols=("SIM_A",), days=1, seed=1))
    tail = Tail(bars[:100], timedelta(minutes=60))
    for n in range(100, 400):
        held = tail.append(bars[n : n + 1])
        wanted = bars[max(0, n - 59) : n + 1]
        assert held.tail(60).equals(wanted)
        assert held.height <= 60 * 1.25 + 1 or n < 110
    corrected = bars[399:400].with_columns(pl.col("close") * 1.01)
    assert tail.append(corrected).tail(1).equals(corrected)


def test_winding_back_waits_for_the_feed_and_nothing_of_it_is_left(
    redis: Redis, clickhouse: Client, bars: pl.DataFrame
) -> None:
    """A feed in the middle of a step must not serve a bar of later market time afterwards."""
    write_plan(redis, plan(speed=600.0))
    begun = threading.Event()
    feed = threading.Thread(
        target=play, args=(redis, clickhouse), kwargs={"on_step": lambda _: begun.set()}
    )
    feed.start()
    assert begun.wait(30)
    wind_back(redis, plan(), ["direction_ohlcv_1m"])
    left = (len(told_of(redis)), redis.keys("*SIM_*"), read_plan(redis))
    feed.join(30)
    assert (len(told_of(redis)), redis.keys("*SIM_*"), None) == left
    assert len(told_of(redis)) == 0
    assert RedisClock(redis).now() == SPLIT
