"""A run loses no row: not one that comes in between, not behind old gaps, not one that expired."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any, cast

import pytest
from clickhouse_connect.driver.client import Client
from feast import FeatureStore
from online_rows import EVER, T0, bid_ask, moments, put, quotes
from redis import Redis

from atlas.online import ComputeEngineConfig
from atlas.online.landing import Landing, Row
from atlas.online.materialisation import run
from atlas.online.materialisation.ledger import merged
from atlas.serving import DEPTH_TAG

Desk = Callable[..., FeatureStore]
S = timedelta(seconds=1)
HOUR = timedelta(hours=1)


@pytest.fixture
def store(desk: Desk, clickhouse: Client) -> FeatureStore:
    """A project with the view `quotes`, whose table is empty."""
    quotes(clickhouse)
    store = desk()
    store.apply(bid_ask())
    return store


def test_a_row_that_comes_after_the_survey_leaves_no_key_without_one(
    store: FeatureStore, clickhouse: Client, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(clickhouse, [("A", T0, T0, 1.0), ("B", T0, T0, 2.0)])
    survey: Callable[..., Any] = vars(run)["survey"]

    def survey_then_a_row(*args: Any) -> Any:
        found = survey(*args)
        put(clickhouse, [("A", T0 + HOUR, T0 + HOUR, 3.0)])
        return found

    monkeypatch.setattr(run, "survey", survey_then_a_row)
    store.materialize(T0 - 24 * HOUR, T0 + 2 * HOUR, feature_views=["quotes"])
    assert moments(redis) == {"A": (1.0, 2.0), "B": (2.0, 3.0)}
    monkeypatch.undo()
    store.materialize_incremental(T0 + 2 * HOUR, feature_views=["quotes"])
    assert moments(redis) == {"A": (3.0, 4.0), "B": (2.0, 3.0)}


def test_gaps_behind_many_windows_are_still_filled(
    desk: Desk, clickhouse: Client, redis: Redis
) -> None:
    # Without a creation or a storing time, only the gaps bring a late row.
    quotes(clickhouse, created=False, written=False)
    store = desk()
    store.apply(bid_ask(created=False))
    windows = [T0 + 2 * n * HOUR for n in range(18)]
    put(clickhouse, [("A", start, None, float(n)) for n, start in enumerate(windows)])
    put(clickhouse, [("B", T0 + 1.5 * HOUR, None, 50.0)])
    for start in windows:
        store.materialize(start, start + S, feature_views=["quotes"])
    assert moments(redis) == {"A": (17.0, 18.0)}
    store.materialize_incremental(windows[-1] + HOUR, feature_views=["quotes"])
    assert moments(redis) == {"A": (17.0, 18.0), "B": (50.0, 51.0)}


def test_of_very_many_islands_the_first_and_the_last_are_kept() -> None:
    islands = [(2 * n, 2 * n + 1) for n in range(40)]
    assert merged(islands) == (islands[0], *islands[-15:])
    assert merged(islands[:16]) == tuple(islands[:16])
    assert merged([(3, 4), (0, 1), (1, 2)]) == ((0, 2), (3, 4))
    assert merged([]) == ()


def test_events_before_1970_land_in_their_order(redis: Redis) -> None:
    landing = Landing("quotes", ["bid"])
    second = 1_000_000
    # Of each pair the earlier first; the last but one lies within one second.
    for at, (early, late) in enumerate(
        [
            (-100 * second, -50 * second),
            (-200 * second, -199 * second),
            (-1, 0),
            (-second, second),
            (-62_135_596_800 * second, -62_135_596_799 * second),
            (-second - 2, -second - 1),
            (-1, 1),
        ]
    ):
        for order in ((early, late), (late, early)):
            key = b"key%d" % at
            redis.delete(key)
            landed = [landing.land(redis, [Row(key, event, 0, [b"v"])]) for event in order]
            assert landed == [1, int(order == (early, late))]


def test_a_look_back_into_the_future_is_refused() -> None:
    with pytest.raises(ValueError, match="lookback"):
        ComputeEngineConfig(lookback=-5)
    assert ComputeEngineConfig(lookback=0).lookback == timedelta(0)


def test_rows_that_expired_come_back_with_the_next_run(
    desk: Desk, clickhouse: Client, redis: Redis
) -> None:
    quotes(clickhouse)
    put(clickhouse, [("A", T0, T0, 1.0)])
    store = desk()
    store.config.online_store.key_ttl_seconds = 100
    symbol, view = bid_ask()
    view.tags = {DEPTH_TAG: "3"}
    store.apply([symbol, view])
    store.materialize(EVER, T0 + S, feature_views=["quotes"])
    rows = [key for key in redis.scan_iter() if not key.startswith(b"atlas:online:")]
    assert len(rows) == 2
    assert all(cast("int", redis.ttl(key)) in range(1, 101) for key in rows)
    redis.delete(*rows)
    store.materialize_incremental(T0 + HOUR, feature_views=["quotes"])
    assert sorted(key for key in redis.scan_iter() if not key.startswith(b"atlas:online:")) == (
        sorted(rows)
    )
    assert store.provider.batch_engine.brought["quotes"].landed == 1
