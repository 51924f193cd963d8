"""What deleting takes away: exactly this project's rows."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest
from feast import FeatureStore
from feast.infra.online_stores.helpers import _redis_key
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.protos.feast.types.Value_pb2 import Value
from redis import Redis

from atlas.clock import to_micros
from atlas.online import OnlineWriter, SequenceWriter
from atlas.online.deletion import StoredView, delete_entities, delete_views
from atlas.online.wire import feature_field, history_key, parse_history_key
from atlas.serving import ReadPlan, ValueKind

NOW_US = to_micros(datetime(2021, 6, 1, 12, tzinfo=UTC))
PROJECTS = ("prod", "nonprod", "prod2", "pro")
# Lengths that are `*`, `?`, `[` and `\` in a pattern of Redis.
NAMES = ["k" * 42, "k" * 63, "k" * 91, "k" * 92, "[sym]*?\\"]


def plan_of(project: str, *names: str, kinds: tuple[ValueKind, ...] = ()) -> ReadPlan:
    return ReadPlan(project, "book", names, ("mid",), 0, key_kinds=kinds, depth=2)


def fill(redis: Redis, plan: ReadPlan, *keys: Any) -> None:
    times = [NOW_US] * len(keys)
    OnlineWriter(redis, plan).write(keys, times, times, np.ones((len(keys), 1)))
    SequenceWriter(redis, plan).write(keys, times, times, np.ones((len(keys), 1)))


def left(redis: Redis) -> set[bytes]:
    return set(redis.scan_iter())


@pytest.mark.parametrize("name", NAMES)
def test_rows_of_exactly_one_project_go_whatever_the_join_key_is_called(
    redis: Redis, name: str
) -> None:
    for project in PROJECTS:
        fill(redis, plan_of(project, name), "BTC", "prod", "")
    before = left(redis)
    delete_entities(redis, "prod", [(name,)])
    fill(redis, plan_of("prod", name), "BTC", "prod", "")
    assert left(redis) == before
    delete_entities(redis, "prod", [(name,)])
    assert len(left(redis)) == len(before) * 3 / 4


KEYS: list[tuple[tuple[ValueKind, ...], tuple[str, ...], Any]] = [
    ((ValueKind.INT64,), ("id",), 5),
    ((ValueKind.INT32,), ("id",), -1),
    ((ValueKind.BYTES,), ("id",), b"prod"),
    ((ValueKind.STRING, ValueKind.INT64), ("symbol", "account"), ("BTC", 7)),
]


@pytest.mark.parametrize(("kinds", "names", "key"), KEYS)
def test_keys_of_every_kind_are_found(
    redis: Redis, kinds: tuple[ValueKind, ...], names: tuple[str, ...], key: Any
) -> None:
    for project in PROJECTS:
        fill(redis, plan_of(project, *names, kinds=kinds), key)
    fill(redis, plan_of("prod", "other"), "BTC")
    before = left(redis)
    delete_entities(redis, "prod", [names[::-1]])
    gone = before - left(redis)
    fill(redis, plan_of("prod", *names, kinds=kinds), key)
    assert (len(gone), left(redis)) == (2, before)


@pytest.mark.parametrize(
    ("kinds", "names", "key"), [*KEYS, ((), (NAMES[0],), "BTC"), ((), ("prod",), "prod")]
)
def test_a_key_is_feasts(
    redis: Redis, kinds: tuple[ValueKind, ...], names: tuple[str, ...], key: Any
) -> None:
    fill(redis, plan_of("prod", *names, kinds=kinds), key)
    values = key if isinstance(key, tuple) else (key,)
    entity = EntityKey(
        join_keys=names,
        entity_values=[
            Value(**{f"{kind}_val": value})
            for kind, value in zip(kinds or (ValueKind.STRING,), values, strict=True)
        ],
    )
    theirs = _redis_key("prod", entity)
    assert left(redis) == {theirs, history_key("book", theirs)}


def test_what_is_not_ours_survives_a_teardown(
    project: Callable[..., FeatureStore],
    book: Callable[..., list[Any]],
    redis: Redis,
    redis_port: int,
) -> None:
    store = project("prod")
    store.apply(book())
    fill(redis, plan_of("prod", "symbol"), "BTC")
    [ours] = [key for key in left(redis) if key.startswith(b"\x01")]
    foreign = {
        b"prod": "string",
        ours[:-4]: "no project",
        ours + b"x": "another project",
        b"x" + ours: "another prefix",
        ours[: len(ours) - 6] + b"prod": "cut short",
        b"atlas:history:prod": "half a history",
        b"atlas:history:\xff\xff\xff\xffprod": "a broken one",
        b"atlas:history:\x02\x00\x00\x00\xff\xff" + ours: "a name that is no text",
    }
    for key, value in foreign.items():
        redis.set(key, value)
    with Redis(port=redis_port, db=1) as elsewhere:
        fill(elsewhere, plan_of("prod", "symbol"), "BTC")
        there = left(elsewhere)
        store._get_provider().teardown_infra(
            "prod", store.list_feature_views(), store.list_entities()
        )
        assert (left(redis), left(elsewhere)) == (set(foreign), there)
        elsewhere.flushdb()


def test_deleting_a_view_takes_its_history_and_leaves_the_others(redis: Redis) -> None:
    plan = plan_of("prod", "symbol")
    other = ReadPlan("prod", "flow", ("symbol",), ("mid",), 0, depth=2)
    for one in (plan, other):
        fill(redis, one, "BTC", "ETH")
    delete_views(redis, "prod", [StoredView("book", ("symbol",), ("mid",))])
    hashes = {key for key in left(redis) if key.startswith(b"\x01")}
    assert {field for key in hashes for field in redis.hkeys(key)} == {
        feature_field("flow", "mid"),
        b"_ts:flow",
        b"_known:flow",
    }
    assert left(redis) == hashes | {history_key("flow", key) for key in hashes}
    assert len(hashes) == 2


def test_several_sets_of_join_keys_cost_no_more_scans_than_one(redis: Redis) -> None:
    for names in (("symbol",), ("venue",)):
        fill(redis, plan_of("prod", *names), "BTC")
    redis.config_resetstat()
    delete_entities(redis, "prod", [("symbol",), ("venue",)])
    assert (redis.info("commandstats")["cmdstat_scan"]["calls"], left(redis)) == (2, set())


def test_nothing_to_delete_asks_redis_nothing(redis: Redis) -> None:
    redis.config_resetstat()
    delete_views(redis, "prod", [])
    assert "cmdstat_scan" not in redis.info("commandstats")


@pytest.mark.parametrize("view", ["book", "a:b", "", "Σ"])
def test_a_historys_key_tells_whose_it_is(view: str) -> None:
    assert parse_history_key(history_key(view, b"entity")) == (view, b"entity")
