"""Read plans, compiled from Feast's registry or made from a feature set."""

import asyncio
import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pandas as pd
import pytest
from feast import Entity, FeatureService, FeatureStore, FeatureView, Field, ValueType
from feast.types import Array, Float32, Float64, Int64, Map, String
from redis import Redis

from atlas.bus import connect_async
from atlas.errors import InvalidInput
from atlas.features import feature_set
from atlas.offline import ClickHouseSource
from atlas.online import OnlineReader, Vectors, compile_plan
from atlas.online.wire import colliding
from atlas.serving import DEPTH_TAG, ReadPlan, ValueKind

Book = Callable[..., list[Any]]
NOW = datetime(2021, 6, 1, 12, tzinfo=UTC)


def source(name: str) -> ClickHouseSource:
    return ClickHouseSource(table=name, timestamp_field="t")


@pytest.mark.parametrize("name", ["direction_book", "book"])
def test_a_service_or_a_view_gives_the_plan(store: FeatureStore, plan: ReadPlan, name: str) -> None:
    assert compile_plan(store, name) == plan


def test_a_service_keeps_its_own_order_of_features(store: FeatureStore) -> None:
    view = store.get_feature_view("book")
    store.apply([FeatureService(name="two", features=[view[["depth", "mid"]]])])
    assert compile_plan(store, "two").features == ("depth", "mid")


def test_the_applied_objects_themselves_give_the_plan(
    store: FeatureStore, book: Book, plan: ReadPlan
) -> None:
    _, view, service = book()
    assert [compile_plan(store, asked) for asked in (view, service)] == [plan, plan]


def test_an_object_that_was_not_applied_so_is_refused(store: FeatureStore) -> None:
    view = store.get_feature_view("book")
    strangers = [
        view[["mid"]],
        FeatureService(name="direction_book", features=[view[["mid"]]]),
        FeatureService(name="new", features=[view]),
        None,
        7,
        ["book"],
    ]
    for stranger in strangers:
        with pytest.raises(InvalidInput, match="Expected"):
            compile_plan(store, stranger)  # type: ignore[arg-type]


def test_a_service_of_a_former_version_is_refused(
    store: FeatureStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = store.get_feature_service("direction_book")
    service.feature_view_projections[0].version_tag = 1
    monkeypatch.setattr(store, "get_feature_service", lambda name: service)
    with pytest.raises(InvalidInput, match="found version 1 of book"):
        compile_plan(store, "direction_book")


def test_an_unknown_name_lists_the_views(store: FeatureStore) -> None:
    with pytest.raises(InvalidInput, match=r"found 'bok'\. Views are book"):
        compile_plan(store, "bok")


def test_a_service_over_two_views_is_refused(store: FeatureStore, book: Book) -> None:
    _, flow, _ = book("flow")
    store.apply([flow])
    views = [store.get_feature_view(name) for name in ("book", "flow")]
    store.apply([FeatureService(name="wide", features=views)])
    with pytest.raises(InvalidInput, match="found 2"):
        compile_plan(store, "wide")


def test_a_plan_says_the_kinds_of_features_and_keys_and_how_many_rows_are_kept(
    store: FeatureStore,
) -> None:
    account = Entity(name="account", join_keys=["account"], value_type=ValueType.INT64)
    view = FeatureView(
        name="routed",
        entities=[store.get_entity("symbol"), account],
        schema=[
            Field(name="account", dtype=Int64),
            Field(name="cost", dtype=Float32),
            Field(name="venues", dtype=Array(String)),
        ],
        source=source("routed"),
        tags={DEPTH_TAG: "16"},
    )
    store.apply([account, view])
    assert compile_plan(store, "routed") == ReadPlan(
        project="desk",
        view="routed",
        join_keys=("symbol", "account"),
        features=("cost", "venues"),
        ttl_us=0,
        key_kinds=(ValueKind.STRING, ValueKind.INT64),
        kinds=(ValueKind.FLOAT, ValueKind.STRING_LIST),
        depth=16,
    )


def test_a_feature_of_a_kind_that_is_not_read_is_refused(store: FeatureStore) -> None:
    view = FeatureView(
        name="small",
        entities=[store.get_entity("symbol")],
        schema=[Field(name="fees", dtype=Map)],
        source=source("small"),
    )
    store.apply([view])
    with pytest.raises(InvalidInput, match=r"fees \(map\)"):
        compile_plan(store, "small")


def test_a_view_without_entities_is_read_by_feasts_empty_key(
    store: FeatureStore, redis: Redis, redis_port: int
) -> None:
    view = FeatureView(
        name="market", schema=[Field(name="mood", dtype=Float64)], source=source("market")
    )
    store.apply([view])
    store.write_to_online_store(
        "market", pd.DataFrame({"__dummy_id": [""], "t": [NOW], "mood": [0.25]})
    )

    async def read() -> Vectors:
        async with connect_async(port=redis_port) as client:
            return await OnlineReader(client, compile_plan(store, "market")).read([""], now=NOW)

    assert asyncio.run(read()).values.tolist() == [[0.25]]


@pytest.mark.parametrize("rest", [{}, {"depth": 0}])
def test_a_plan_kept_as_json_is_read_again_also_that_of_the_former_form(
    plan: ReadPlan, rest: dict[str, int]
) -> None:
    former = {
        "project": "desk",
        "view": "book",
        "join_key": "symbol",
        "features": ["mid", "spread", "depth"],
        "ttl_us": 10_000_000,
        **rest,
    }
    texts = json.dumps(former), json.dumps(plan.as_dict())
    assert [ReadPlan.of(json.loads(text)) for text in texts] == [plan, plan]


def test_a_feature_sets_plan_is_the_one_compiled_from_its_view(
    project: Callable[..., FeatureStore],
) -> None:
    from feature_repo import definitions

    features = feature_set("ohlcv_1m")
    store = project("atlas")
    store.apply([definitions.symbol, definitions.views[features.view]])
    assert compile_plan(store, features.view) == features.plan


def clashing() -> tuple[str, str]:
    """Two features of a view `clash` with the same hash."""
    clash = colliding(("clash", f"f{number}") for number in range(300_000))
    assert clash is not None
    return clash[0][1], clash[1][1]


def test_features_that_would_overwrite_each_other_are_refused_when_applied(
    project: Callable[..., FeatureStore], book: Book
) -> None:
    store = project()
    with pytest.raises(InvalidInput, match="have the same 32-bit hash and would overwrite"):
        store.apply(book("clash", features=clashing()))
    assert project().list_feature_views() == []


def test_a_view_that_was_applied_before_counts(
    project: Callable[..., FeatureStore], book: Book, redis: Redis
) -> None:
    # Two views in which features meet, found by search.
    clash = colliding((f"v{number % 2}", f"f{number}") for number in range(400_000))
    assert clash is not None
    (one_view, one), (other_view, other) = clash
    assert one_view != other_view
    store = project()
    store.apply(book(one_view, features=(one,)))
    with pytest.raises(InvalidInput, match=f"{other_view}:{other}"):
        store.apply(book(other_view, features=(other,)))


def test_features_of_views_with_other_join_keys_may_meet(
    project: Callable[..., FeatureStore], book: Book
) -> None:
    one, other = clashing()
    venue = Entity(name="venue", join_keys=["venue"], value_type=ValueType.STRING)
    view = FeatureView(
        name="clash2", entities=[venue], schema=[Field(name=other, dtype=Float64)],
        source=source("clash2"),
    )  # fmt: skip
    store = project()
    store.apply([*book("clash", features=(one,)), venue, view])
    assert len(store.list_feature_views()) == 2


def test_planning_refuses_them_too(project: Callable[..., FeatureStore], book: Book) -> None:
    one, other = clashing()
    store = project()
    store.apply(book("clash", features=(one, "other")))
    proto = store.registry.proto()
    [field] = [f for f in proto.feature_views[0].spec.features if f.name == "other"]
    field.name = other
    with pytest.raises(InvalidInput, match="same 32-bit hash"):
        store._get_provider().plan_infra(store.config, proto)
