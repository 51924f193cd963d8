"""`feast materialize` with Atlas's engine: what lands, what the ledger and the registry say."""

import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from clickhouse_connect.driver.client import Client
from feast import FeatureStore
from online_rows import EVER, T0, bid_ask, ledger, moments, put, quotes, rows_of
from redis import Redis

from atlas.bus import set_replay
from atlas.clock import ReplayState, to_micros
from atlas.errors import InvalidInput, ViewBusy
from atlas.online import ComputeEngineConfig
from atlas.online.materialisation.claim import Claim

Desk = Callable[..., FeatureStore]
S = timedelta(seconds=1)
BUSY = ("Let it finish", "found another one")


@pytest.fixture
def store(desk: Desk, clickhouse: Client) -> FeatureStore:
    """A project with the view `quotes`, whose table is empty."""
    quotes(clickhouse)
    store = desk()
    store.apply(bid_ask())
    return store


def incremental(store: FeatureStore, end: datetime) -> Any:
    store.materialize_incremental(end, feature_views=["quotes"])
    return store.provider.batch_engine.brought["quotes"]


def window(store: FeatureStore, start: datetime, end: datetime) -> Any:
    store.materialize(start, end, feature_views=["quotes"])
    return store.provider.batch_engine.brought["quotes"]


def intervals(store: FeatureStore) -> list[tuple[datetime, datetime]]:
    found: list[tuple[datetime, datetime]]
    found = store.registry.get_feature_view("quotes", "desk").materialization_intervals
    return found


def test_each_keys_latest_row_by_event_then_creation_lands(
    store: FeatureStore, clickhouse: Client, redis: Redis
) -> None:
    put(
        clickhouse,
        [
            ("A", T0, T0, 1.0),
            ("A", T0 + S, T0 + S, 2.0),
            ("A", T0 + S, T0 + 2 * S, 3.0),
            ("B", T0, T0 + 9 * S, 4.0),
            ("B", T0 + 3 * S, T0, 5.0),
        ],
    )
    done = window(store, EVER, T0 + 10 * S)
    assert moments(redis) == {"A": (3.0, 4.0), "B": (5.0, 6.0)}
    assert (done.landed, done.unchanged, done.quarantined) == (2, 0, 0)


def test_a_window_looks_at_the_events_in_it_its_ends_included(
    store: FeatureStore, clickhouse: Client, redis: Redis
) -> None:
    us = timedelta(microseconds=1)
    put(
        clickhouse,
        [
            ("before", T0 - us, T0, 1.0),
            ("first", T0, T0, 2.0),
            ("last", T0 + S, T0, 3.0),
            ("last", T0 + S + us, T0, 4.0),
        ],
    )
    window(store, T0, T0 + S)
    assert moments(redis) == {"first": (2.0, 3.0), "last": (3.0, 4.0)}


def test_a_first_incremental_run_finds_a_market_of_years_ago(
    store: FeatureStore, clickhouse: Client, redis: Redis
) -> None:
    put(clickhouse, [("A", T0, T0, 1.0)])
    assert incremental(store, T0 + S).everything
    assert moments(redis) == {"A": (1.0, 2.0)}


def test_a_second_run_changes_nothing(
    store: FeatureStore, clickhouse: Client, redis: Redis
) -> None:
    put(clickhouse, [("A", T0, T0, 1.0), ("B", T0, T0, 2.0)])
    incremental(store, T0 + S)
    before = rows_of(redis), ledger(redis, "quotes"), intervals(store)
    again = incremental(store, T0 + S), window(store, EVER, T0 + S)
    assert [run.landed for run in again] == [0, 0]
    after = rows_of(redis), ledger(redis, "quotes")
    assert after == (before[0], before[1] | {"intervals": after[1]["intervals"]})


def test_a_late_row_lands_though_its_event_is_covered(
    store: FeatureStore, clickhouse: Client, redis: Redis
) -> None:
    hour = timedelta(hours=1)
    put(clickhouse, [("A", T0 + 9 * hour, T0 + 9 * hour, 1.0)])
    incremental(store, T0 + 9 * hour)
    put(clickhouse, [("B", T0, T0 + 10 * hour, 2.0)])
    done = incremental(store, T0 + 10 * hour)
    assert (done.landed, done.everything) == (1, False)
    assert moments(redis) == {"A": (1.0, 2.0), "B": (2.0, 3.0)}


def test_a_correction_of_the_same_event_lands(
    store: FeatureStore, clickhouse: Client, redis: Redis
) -> None:
    put(clickhouse, [("A", T0, T0, 1.0)])
    incremental(store, T0)
    put(clickhouse, [("A", T0, T0 + timedelta(days=3), 2.0)])
    incremental(store, T0 + S)
    assert moments(redis) == {"A": (2.0, 3.0)}


def test_a_backfill_that_claims_to_be_old_lands_by_when_it_was_stored(
    store: FeatureStore, clickhouse: Client, redis: Redis
) -> None:
    put(clickhouse, [("A", T0, T0, 1.0)])
    incremental(store, T0)
    old = T0 - timedelta(days=300)
    put(clickhouse, [("B", old, old, 2.0)])
    done = incremental(store, T0 + S)
    assert not done.everything
    assert moments(redis) == {"A": (1.0, 2.0), "B": (2.0, 3.0)}


def test_the_look_back_catches_a_row_that_was_on_its_way(
    desk: Desk, clickhouse: Client, redis: Redis
) -> None:
    quotes(clickhouse, created=False, written=False)
    store = desk(lookback=60)
    store.apply(bid_ask(created=False))
    put(clickhouse, [("A", T0, None, 1.0)])
    incremental(store, T0)
    put(clickhouse, [("B", T0 - 60 * S, None, 2.0), ("C", T0 - 61 * S, None, 3.0)])
    incremental(store, T0 + S)
    assert moments(redis) == {"A": (1.0, 2.0), "B": (2.0, 3.0)}


def test_history_recomputed_in_place_lands(
    store: FeatureStore, clickhouse: Client, redis: Redis
) -> None:
    put(clickhouse, [("A", T0, T0, 1.0)])
    incremental(store, T0)
    clickhouse.command("TRUNCATE TABLE quotes")
    put(clickhouse, [("A", T0, T0, 7.0)])
    assert (incremental(store, T0).landed, moments(redis)) == (1, {"A": (7.0, 8.0)})


def test_a_row_that_the_live_path_wrote_later_stays(
    store: FeatureStore, clickhouse: Client, redis: Redis
) -> None:
    import pandas as pd

    put(clickhouse, [("A", T0, T0, 1.0)])
    row = {"symbol": "A", "event_timestamp": T0 + S, "known_at": T0 + S, "bid": 9.0, "ask": 8.0}
    store.write_to_online_store("quotes", pd.DataFrame([row]))
    done = incremental(store, T0)
    assert (done.landed, done.unchanged, moments(redis)) == (0, 1, {"A": (9.0, 8.0)})


def test_an_end_in_the_future_does_not_hide_what_comes_later(
    store: FeatureStore, clickhouse: Client, redis: Redis
) -> None:
    put(clickhouse, [("A", T0, T0, 1.0)])
    incremental(store, datetime(2199, 1, 1, tzinfo=UTC))
    assert intervals(store) == [(T0, T0)]
    put(clickhouse, [("A", T0 + S, T0 + S, 2.0)])
    incremental(store, T0 + S)
    assert moments(redis) == {"A": (2.0, 3.0)}


def test_a_row_of_the_future_covers_nothing_before_the_projects_clock(
    store: FeatureStore, clickhouse: Client, redis: Redis
) -> None:
    now = to_micros(T0)
    set_replay(redis, ReplayState(now, 0, 1.0, now))
    far = T0 + timedelta(days=90)
    put(clickhouse, [("A", T0, T0, 1.0), ("B", far, far, 2.0)])
    incremental(store, far)
    assert ledger(redis, "quotes")["intervals"] == [[now, now]]
    assert ledger(redis, "quotes")["created_us"] == now


def test_an_emptied_redis_is_filled_again(
    store: FeatureStore, clickhouse: Client, redis: Redis
) -> None:
    put(clickhouse, [("A", T0 - timedelta(days=9), T0, 1.0), ("B", T0, T0, 2.0)])
    incremental(store, T0)
    clean = rows_of(redis)
    redis.flushall()
    assert (incremental(store, T0).everything, rows_of(redis)) == (True, clean)


def test_a_feature_added_to_the_view_reaches_rows_that_are_online(
    desk: Desk, clickhouse: Client, redis: Redis
) -> None:
    quotes(clickhouse)
    store = desk()
    symbol, view = bid_ask()
    view.features = [feature for feature in view.features if feature.name == "bid"]
    store.apply([symbol, view])
    old = T0 - timedelta(days=9)
    put(clickhouse, [("A", old, old, 1.0), ("B", T0, T0, 2.0)])
    incremental(store, T0)
    store.apply(bid_ask())
    assert (incremental(store, T0).everything, moments(redis)) == (
        True,
        {"A": (1.0, 2.0), "B": (2.0, 3.0)},
    )


def test_an_end_before_what_is_online_looks_at_everything(
    store: FeatureStore, clickhouse: Client, redis: Redis
) -> None:
    put(clickhouse, [("A", T0, T0, 1.0), ("A", T0 + S, T0 + S, 2.0)])
    incremental(store, T0 + S)
    for key in list(rows_of(redis)):
        redis.delete(key)
    assert (incremental(store, T0).everything, moments(redis)) == (True, {"A": (1.0, 2.0)})


def test_an_incremental_run_fills_the_gaps_between_windows(
    store: FeatureStore, clickhouse: Client, redis: Redis
) -> None:
    day = timedelta(days=1)
    put(clickhouse, [(name, T0 + n * day, T0 - day, n) for n, name in enumerate("ABC")])
    window(store, T0, T0)
    window(store, T0 + 2 * day, T0 + 2 * day)
    assert len(intervals(store)) == 2
    incremental(store, T0 + 3 * day)
    assert sorted(moments(redis)) == ["A", "B", "C"]
    assert intervals(store) == [(T0, T0 + 2 * day)]


@pytest.mark.parametrize("runs", [10, pytest.param(50, marks=pytest.mark.slow)])
@pytest.mark.parametrize("registry", ["sql", "file"])
def test_many_runs_leave_the_registry_as_small_as_two(
    desk: Desk, clickhouse: Client, registry: str, runs: int
) -> None:
    quotes(clickhouse)
    store = desk(registry=registry)
    store.apply(bid_ask())
    sizes = []
    for n in range(runs):
        put(clickhouse, [("A", T0 + n * S, T0 + n * S, float(n))])
        incremental(store, T0 + n * S)
        view = store.registry.get_feature_view("quotes", "desk")
        sizes.append(len(view.to_proto().SerializeToString()))
    assert (max(sizes[1:]) - min(sizes[1:]) <= 8, intervals(store)) == (
        True,
        [(T0, T0 + (runs - 1) * S)],
    )


@pytest.mark.parametrize("registry", ["sql", "file"])
def test_a_failed_run_leaves_the_view_open_to_readers(
    desk: Desk, clickhouse: Client, redis: Redis, registry: str
) -> None:
    quotes(clickhouse)
    store = desk(registry=registry, wait_s=0)
    store.apply(bid_ask())
    put(clickhouse, [("A", T0, T0, 1.0)])
    incremental(store, T0)
    with Claim(redis, "desk", "quotes", lease_s=60, wait_s=0):
        for _ in range(2):
            with pytest.raises(ViewBusy):
                incremental(store, T0)
    store.refresh_registry()
    now = to_micros(T0)
    set_replay(redis, ReplayState(now, 0, 1.0, now))
    answer = store.get_online_features(["quotes:bid"], [{"symbol": "A"}]).to_dict()
    assert answer["bid"] == [1.0]


def test_a_run_that_must_not_wait_says_who_is_at_it(
    desk: Desk, clickhouse: Client, redis: Redis
) -> None:
    quotes(clickhouse)
    store = desk(wait_s=0.3)
    store.apply(bid_ask())
    put(clickhouse, [("A", T0, T0, 1.0)])
    with (
        Claim(redis, "desk", "quotes", lease_s=60, wait_s=0),
        pytest.raises(ViewBusy, match=r"found another one, of .*@.*, process \d+, since 20"),
    ):
        incremental(store, T0)
    assert rows_of(redis) == {}


def test_a_run_waits_for_the_one_before_it(
    store: FeatureStore, clickhouse: Client, redis: Redis
) -> None:
    put(clickhouse, [("A", T0, T0, 1.0)])
    claim = Claim(redis, "desk", "quotes", lease_s=60, wait_s=0).__enter__()
    timer = threading.Timer(0.5, claim.__exit__, (None, None, None))
    timer.start()
    assert incremental(store, T0).landed == 1
    timer.join()


def test_a_holder_that_lost_its_claim_lands_rows_but_enters_nothing(
    store: FeatureStore, clickhouse: Client, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(clickhouse, [("A", T0, T0, 1.0)])
    monkeypatch.setattr(Claim, "check", lambda claim: redis.delete(claim.key))
    with pytest.raises(ViewBusy, match="nothing was entered in the ledger"):
        incremental(store, T0)
    assert (moments(redis), ledger(redis, "quotes"), intervals(store)) == (
        {"A": (1.0, 2.0)},
        None,
        [],
    )


def test_a_deleted_view_is_forgotten(store: FeatureStore, clickhouse: Client, redis: Redis) -> None:
    put(clickhouse, [("A", T0, T0, 1.0)])
    incremental(store, T0)
    store.apply([], objects_to_delete=[store.get_feature_view("quotes")], partial=False)
    assert ledger(redis, "quotes") is None


def test_a_null_key_brings_nothing_online(desk: Desk, clickhouse: Client, redis: Redis) -> None:
    clickhouse.command(
        "CREATE TABLE quotes (symbol Nullable(String), event_timestamp DateTime, bid Float64, "
        "ask Float64) ENGINE = MergeTree ORDER BY event_timestamp"
    )
    store = desk()
    store.apply(bid_ask(created=False))
    clickhouse.insert("quotes", [[None, T0, 1.0, 2.0], ["A", T0, 3.0, 4.0]])
    incremental(store, T0)
    assert moments(redis) == {"A": (3.0, 4.0)}


def test_a_source_that_is_a_query_comes_online(
    desk: Desk, clickhouse: Client, redis: Redis
) -> None:
    quotes(clickhouse)
    put(clickhouse, [("A", T0, T0, 1.0), ("B", T0, T0, 2.0)])
    store = desk()
    query = "SELECT * FROM quotes WHERE symbol = 'B'"
    store.apply(bid_ask(table=None, name="q", query=query))
    incremental(store, T0)
    assert moments(redis) == {"B": (2.0, 3.0)}


def test_many_keys_come_in_parts(desk: Desk, clickhouse: Client, redis: Redis) -> None:
    quotes(clickhouse)
    put(clickhouse, [(f"S{n:04}", T0 + (n % 7) * S, T0, float(n)) for n in range(1000)])
    store = desk(keys_per_query=64)
    store.apply(bid_ask())
    assert incremental(store, T0 + 9 * S).landed == 1000
    assert moments(redis) == {f"S{n:04}": (float(n), n + 1.0) for n in range(1000)}


def test_a_table_without_a_column_is_refused_by_name(
    store: FeatureStore, clickhouse: Client
) -> None:
    clickhouse.command("ALTER TABLE quotes DROP COLUMN ask")
    with pytest.raises(InvalidInput, match="table quotes to have the columns of view quotes; "):
        incremental(store, T0)


def test_a_number_that_its_type_cannot_hold_is_refused(
    desk: Desk, clickhouse: Client, redis: Redis
) -> None:
    from feast import FeatureView, Field
    from feast.types import Int32

    quotes(clickhouse)
    put(clickhouse, [("A", T0, T0, 1.5)])
    symbol, view = bid_ask()
    whole = FeatureView(
        name="quotes",
        entities=[symbol],
        schema=[Field(name="bid", dtype=Int32)],
        source=view.batch_source,
    )
    store = desk()
    store.apply([symbol, whole])
    with pytest.raises(InvalidInput, match="feature bid to fit its declared type INT32; found"):
        incremental(store, T0)
    assert rows_of(redis) == {}


def test_the_settings_are_read_from_the_file_by_feasts_rule() -> None:
    from feast.repo_config import get_batch_engine_config_from_type

    found = get_batch_engine_config_from_type("atlas.online.ComputeEngine")
    assert found is ComputeEngineConfig
    assert found(lookback=30, wait_s=1).lookback == timedelta(seconds=30)
    with pytest.raises(ValueError, match="look_back"):
        found(look_back=30)
