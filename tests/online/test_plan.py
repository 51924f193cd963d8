"""Read plans compiled from Feast's registry."""

from collections.abc import Callable
from typing import Any

import pytest
from feast import Entity, FeatureService, FeatureStore, FeatureView, Field, ValueType
from feast.types import Float32, Float64

from atlas.errors import InvalidInput
from atlas.offline import ClickHouseSource
from atlas.online import compile_plan
from atlas.online.wire import colliding
from atlas.serving import ReadPlan

Book = Callable[..., list[Any]]


def source(name: str) -> ClickHouseSource:
    return ClickHouseSource(table=name, timestamp_field="t")


@pytest.mark.parametrize("name", ["direction_book", "book"])
def test_a_service_or_a_view_gives_the_plan(store: FeatureStore, plan: ReadPlan, name: str) -> None:
    assert compile_plan(store, name) == plan


def test_a_service_keeps_its_own_order_of_features(store: FeatureStore) -> None:
    view = store.get_feature_view("book")
    store.apply([FeatureService(name="two", features=[view[["depth", "mid"]]])])
    assert compile_plan(store, "two").features == ("depth", "mid")


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


def test_features_that_are_no_doubles_are_refused(store: FeatureStore) -> None:
    symbol = store.get_entity("symbol")
    view = FeatureView(
        name="small",
        entities=[symbol],
        schema=[Field(name="tick", dtype=Float32)],
        source=source("small"),
    )
    store.apply([view])
    with pytest.raises(InvalidInput, match="tick"):
        compile_plan(store, "small")


def test_a_view_of_two_keys_is_refused(store: FeatureStore) -> None:
    venue = Entity(name="venue", join_keys=["venue"], value_type=ValueType.STRING)
    view = FeatureView(
        name="routed",
        entities=[store.get_entity("symbol"), venue],
        schema=[Field(name="cost", dtype=Float64)],
        source=source("routed"),
    )
    store.apply([venue, view])
    with pytest.raises(InvalidInput, match="one join key"):
        compile_plan(store, "routed")


def test_features_that_would_overwrite_each_other_are_refused(
    store: FeatureStore, book: Book
) -> None:
    clash = colliding(("clash", f"f{number}") for number in range(300_000))
    assert clash is not None
    symbol, view, _ = book("clash", features=(clash[0][1], clash[1][1]))
    store.apply([symbol, view])
    with pytest.raises(InvalidInput, match="same 32-bit hash"):
        compile_plan(store, "book")
