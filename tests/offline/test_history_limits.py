"""Joins larger than memory, answers as streams, failures halfway: exact, or one clear sentence."""

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any
from unittest.mock import patch

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import DatabaseError
from feast import Entity, FeatureStore, FeatureView, Field, RepoConfig, ValueType
from feast.types import Float64

from atlas.clickhouse.arrow_results import arrow_batches
from atlas.errors import InvalidInput, StoreUnavailable
from atlas.offline import ClickHouseSource
from atlas.offline import point_in_time as limits
from atlas.offline.parts import AskedRows

Asked = Callable[..., pd.DataFrame]
SYMBOL = Entity(name="symbol", join_keys=["symbol"], value_type=ValueType.STRING)
ROWS = 600_000


def changed(config: RepoConfig, **offline: Any) -> FeatureStore:
    """Return a store on the same registry whose offline store is configured otherwise."""
    copy = config.model_copy()
    # Feast keeps the offline store's config beside the words that it was made from.
    copy._offline_store = config.offline_store.model_copy(update=offline)
    return FeatureStore(config=copy)


def with_memory(config: RepoConfig, size: int) -> FeatureStore:
    # ClickHouse otherwise counts in steps of 4 MB.
    settings = {"max_memory_usage": size, "max_untracked_memory": 65_536, "max_threads": 1}
    return changed(config, settings=settings)


@pytest.fixture
def history_of_ticks(store: FeatureStore, clickhouse: Client) -> FeatureStore:
    """Twenty symbols, a row a second for each, and a view with a TTL and one without."""
    clickhouse.command(
        "CREATE TABLE ticks (symbol String, at DateTime64(6, 'UTC'), known_at DateTime64(6, 'UTC'),"
        " a Float64, b Float64, c Float64) ENGINE = MergeTree ORDER BY (symbol, at)"
    )
    clickhouse.command(
        "INSERT INTO ticks SELECT toString(number % 20), "
        "toDateTime64('2021-01-01', 6, 'UTC') + toIntervalSecond(intDiv(number, 20)) AS moment, "
        f"moment + toIntervalSecond(cityHash64(number) % 5), number, -number, 1 "
        f"FROM numbers({ROWS})"
    )
    views = [
        FeatureView(
            name=name,
            entities=[SYMBOL],
            schema=[Field(name=feature, dtype=Float64) for feature in "abc"],
            source=ClickHouseSource(
                name, table="ticks", timestamp_field="at", created_timestamp_column="known_at"
            ),
            ttl=ttl,
        )
        for name, ttl in (("fresh", timedelta(minutes=1)), ("endless", None))
    ]
    store.apply([SYMBOL, *views])
    return store


def questions(count: int, symbols: int) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    seconds = rng.uniform(-10, ROWS / 20 + 120, count)
    return pd.DataFrame(
        {
            "symbol": rng.integers(0, symbols, count).astype(str),
            "event_timestamp": pd.Timestamp("2021-01-01", tz="UTC")
            + pd.to_timedelta(seconds, unit="s"),
        }
    )


@pytest.mark.parametrize("then", [False, True])
@pytest.mark.parametrize("view", ["fresh", "endless"])
@pytest.mark.parametrize("symbols", [20, 1])
def test_a_join_that_memory_does_not_hold_is_cut_until_it_does(
    history_of_ticks: FeatureStore, repo_config: RepoConfig, view: str, symbols: int, then: bool
) -> None:
    entities = questions(3_000 if symbols == 1 else 1_000, symbols)
    refs = [f"{view}:{feature}" for feature in "abc"]
    how = {"filter_by_created_timestamp": then}
    expected = history_of_ticks.get_historical_features(entities, refs, **how).to_arrow()
    # Each key has 30 000 rows here, which need some 8 MB.
    small = with_memory(repo_config, 6_000_000 if symbols == 1 else 30_000_000)
    job = small.get_historical_features(entities, refs, **how)
    with patch.object(AskedRows, "halves", autospec=True, side_effect=AskedRows.halves) as cut:
        assert job.to_arrow().equals(expected)
    assert cut.called


def test_pieces_of_any_size_give_the_same_answer(
    history_of_ticks: FeatureStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    entities = questions(5_000, 20)
    refs = ["endless:a", "fresh:b"]
    expected = history_of_ticks.get_historical_features(entities, refs).to_arrow()
    monkeypatch.setattr(limits, "_FEW_ROWS", 1)
    monkeypatch.setattr(limits, "_PART_BYTES", 4 << 20)
    monkeypatch.setattr(limits, "_MAX_BLOCK_ROWS", 3_001)
    found = history_of_ticks.get_historical_features(entities, refs).to_arrow()
    assert found.combine_chunks().equals(expected.combine_chunks())


def test_a_stream_has_its_schema_first_and_the_same_rows(
    history_of_ticks: FeatureStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "_MAX_BLOCK_ROWS", 1_000)
    job = history_of_ticks.get_historical_features(questions(4_500, 20), ["fresh:a"])
    reader = job.to_arrow_batches()
    assert reader.schema.names == ["symbol", "event_timestamp", "a"]
    batches = list(reader)
    assert [batch.num_rows for batch in batches] == [1_000] * 4 + [500]
    assert pa.Table.from_batches(batches) == job.to_arrow()


def test_an_empty_answer_streams_its_schema(
    store: FeatureStore, prices: FeatureView, asked: Asked
) -> None:
    reader = store.get_historical_features(asked(), ["prices:close"]).to_arrow_batches()
    assert (reader.schema.names, list(reader)) == (["symbol", "event_timestamp", "close"], [])


def test_what_memory_cannot_hold_in_any_piece_is_told(
    history_of_ticks: FeatureStore, repo_config: RepoConfig
) -> None:
    small = with_memory(repo_config, 100_000)
    with pytest.raises(StoreUnavailable, match=r"view fresh.*memory.*Raise max_memory_usage"):
        small.get_historical_features(questions(10, 1), ["fresh:a"]).to_arrow()


def test_what_takes_too_long_is_told(history_of_ticks: FeatureStore) -> None:
    slow = "SELECT symbol, at + sleepEachRow(0.01) AS event_timestamp FROM ticks LIMIT 1000"
    job = history_of_ticks.get_historical_features(
        "SELECT '1' AS symbol, now64() AS event_timestamp", ["fresh:a"]
    )
    job._question.entities._query = slow
    with pytest.raises(StoreUnavailable, match="entity query to be answered in time"):
        job.to_arrow(timeout=1)


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("SELEC 1", "Syntax error"),
        ("SELECT symbol, event_timestamp FROM nowhere", "nowhere"),
        ("SELECT nothing, event_timestamp FROM prices", "nothing"),
    ],
)
def test_an_entity_query_that_does_not_run_is_told_in_one_sentence(
    store: FeatureStore, prices: FeatureView, query: str, found: str
) -> None:
    with pytest.raises(InvalidInput, match=f"the entity query to run.*{found}") as told:
        store.get_historical_features(query, ["prices:close"])
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    "query",
    [
        "SELECT symbol, event_timestamp FROM prices ORDER BY symbol -- the end",
        "SELECT symbol, event_timestamp FROM prices ORDER BY symbol; -- ; the end\n",
        "/* begin */ SELECT symbol, event_timestamp FROM prices ORDER BY symbol ; /* ; */ ;",
        "WITH p AS (SELECT * FROM prices) SELECT symbol, event_timestamp FROM p ORDER BY symbol\n;",
        "SELECT symbol, toTimeZone(event_timestamp, 'Asia/Tokyo') AS event_timestamp FROM prices "
        "ORDER BY symbol",
        "SELECT symbol, toDateTime(event_timestamp, 'America/New_York') AS event_timestamp "
        "FROM prices ORDER BY symbol",
    ],
)
def test_an_entity_query_may_end_as_it_likes_and_keep_any_zone(
    store: FeatureStore, prices: FeatureView, query: str
) -> None:
    found = store.get_historical_features(query, ["prices:close"]).to_arrow()
    assert found["close"].to_pylist() == [2.0, 2.0, 3.0]
    assert found["event_timestamp"].type.tz == "UTC"


def test_many_threads_share_one_store(history_of_ticks: FeatureStore) -> None:
    frames = [questions(50, symbols) for symbols in range(1, 13)]
    refs = ["fresh:a", "endless:b"]
    expected = [history_of_ticks.get_historical_features(f, refs).to_arrow() for f in frames]
    with ThreadPoolExecutor(6) as pool:
        found = list(
            pool.map(
                lambda frame: history_of_ticks.get_historical_features(frame, refs).to_arrow(),
                frames,
            )
        )
    assert found == expected


def test_two_stores_of_one_thread_read_their_own_databases(
    store: FeatureStore,
    prices: FeatureView,
    repo_config: RepoConfig,
    clickhouse: Client,
    asked: Asked,
) -> None:
    clickhouse.command("CREATE DATABASE other_desk")
    try:
        clickhouse.command("CREATE TABLE other_desk.prices AS prices")
        clickhouse.command(
            "INSERT INTO other_desk.prices VALUES ('ETH', '2021-01-01 00:01:00', 0, 99, NULL)"
        )
        other = changed(repo_config, database="other_desk")
        entities = asked(("ETH", "00:02:00"))
        found = [
            desk.get_historical_features(entities, ["prices:close"]).to_arrow()["close"].to_pylist()
            for desk in (store, other, store)
        ]
        assert found == [[3.0], [99.0], [3.0]]
    finally:
        clickhouse.command("DROP DATABASE other_desk SYNC")


def _ask_forever(config: RepoConfig, ready: Any) -> None:
    store = FeatureStore(config=config)
    frame = questions(100_000, 20)
    ready.set()
    while True:
        store.get_historical_features(frame, ["endless:a", "fresh:b"]).to_arrow()


def test_a_client_that_is_killed_leaves_nothing_in_clickhouse(
    history_of_ticks: FeatureStore, clickhouse: Client, repo_config: RepoConfig
) -> None:
    tables = "SELECT name, is_temporary FROM system.tables WHERE database != 'system' ORDER BY name"
    before = clickhouse.query(tables).result_rows
    spawned = multiprocessing.get_context("spawn")
    ready = spawned.Event()
    asking = spawned.Process(target=_ask_forever, args=(repo_config, ready))
    asking.start()
    assert ready.wait(60)
    time.sleep(1)
    assert asking.pid
    os.kill(asking.pid, signal.SIGKILL)
    asking.join()
    deadline = time.monotonic() + 20
    others = "SELECT count() FROM system.processes WHERE query NOT LIKE '%system.processes%'"
    while clickhouse.query(others).result_rows != [(0,)]:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert clickhouse.query(tables).result_rows == before


def test_a_consumer_that_stops_reading_leaves_no_thread(
    history_of_ticks: FeatureStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "_MAX_BLOCK_ROWS", 100)
    reader = history_of_ticks.get_historical_features(
        questions(1_000, 20), ["fresh:a"]
    ).to_arrow_batches()
    next(reader)
    reader.close()
    del reader
    assert [t.name for t in threading.enumerate() if t.name.startswith("history")] == []


def test_an_answer_that_breaks_off_is_an_error_and_no_short_answer(clickhouse: Client) -> None:
    query = "SELECT throwIf(number = 5000000) AS thrown, number FROM numbers(10000000)"
    with (
        pytest.raises(DatabaseError),
        arrow_batches(clickhouse, query, {"max_block_size": 65536}) as (_, batches),
    ):
        list(batches)
