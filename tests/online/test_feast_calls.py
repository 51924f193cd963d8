"""Every way of Feast's to write and read online, beside the same calls on its SQLite store."""

import asyncio
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from feast import (
    Entity,
    FeatureService,
    FeatureStore,
    FeatureView,
    Field,
    PushSource,
    RepoConfig,
    RequestSource,
    ValueType,
)
from feast.on_demand_feature_view import on_demand_feature_view
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.protos.feast.types.Value_pb2 import Value
from feast.types import Float32, Float64, Int64, String
from redis import Redis

from atlas.offline import ClickHouseSource
from atlas.online import compile_plan

NOW = datetime(2021, 6, 1, 12, tzinfo=UTC)
Stores = tuple[FeatureStore, FeatureStore]
# Feast warns of its own on-demand views.
pytestmark = pytest.mark.filterwarnings("ignore:On demand feature view is an experimental")
MODES = pytest.mark.parametrize("mode", ["sync", "async"])

symbol = Entity(name="symbol", join_keys=["symbol"], value_type=ValueType.STRING)
account = Entity(name="account", join_keys=["account_id"], value_type=ValueType.INT64)


def source(name: str) -> ClickHouseSource:
    return ClickHouseSource(
        name,
        table=name,
        timestamp_field="event_timestamp",
        created_timestamp_column="known_at",
    )


book = FeatureView(
    name="book",
    entities=[symbol],
    schema=[
        Field(name="symbol", dtype=String),
        Field(name="mid", dtype=Float64),
        Field(name="n_trades", dtype=Int64),
    ],
    source=PushSource(name="book_push", batch_source=source("book")),
    ttl=timedelta(0),
)
position = FeatureView(
    name="position",
    entities=[symbol, account],
    schema=[
        Field(name="symbol", dtype=String),
        Field(name="account_id", dtype=Int64),
        Field(name="quantity", dtype=Float32),
        Field(name="mid", dtype=Float64),
    ],
    source=source("position"),
    ttl=timedelta(0),
)
market = FeatureView(
    name="market",
    schema=[Field(name="mood", dtype=String)],
    source=source("market"),
    ttl=timedelta(0),
)
order = RequestSource(name="order", schema=[Field(name="limit_price", dtype=Float64)])


@on_demand_feature_view(
    sources=[book, order], schema=[Field(name="edge", dtype=Float64)], mode="pandas"
)
def edge(inputs: pd.DataFrame) -> pd.DataFrame:
    return pd.DataFrame({"edge": inputs["limit_price"] - inputs["mid"]})


@on_demand_feature_view(
    entities=[symbol],
    sources=[book],
    schema=[Field(name="mid_squared", dtype=Float64)],
    mode="pandas",
    write_to_online_store=True,
)
def squares(inputs: pd.DataFrame) -> pd.DataFrame:
    return pd.DataFrame({"mid_squared": inputs["mid"] ** 2})


services = [
    FeatureService(name="plain", features=[book[["mid"]], market]),
    FeatureService(name="renamed", features=[book.with_name("their_book"), position]),
    FeatureService(
        name="two_legs",
        features=[
            book.with_name("leg_a").with_join_key_map({"symbol": "symbol_a"}),
            book.with_name("leg_b").with_join_key_map({"symbol": "symbol_b"}),
        ],
    ),
    FeatureService(name="derived", features=[edge]),
]


def books(**changes: Any) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "symbol": ["BTC", "ETH", "SOL"],
            "mid": [1.5, None, -0.0],
            "n_trades": [2**53 + 1, 0, -1],
            "event_timestamp": [NOW] * 3,
            "known_at": [NOW] * 3,
        }
        | changes
    )


def positions() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "symbol": ["BTC", "BTC", "B"],
            "account_id": [1, 2**53 + 1, -7],
            "quantity": [0.1, 2.0, None],
            "mid": [9.0, 8.0, 7.0],
            "event_timestamp": [NOW] * 3,
            "known_at": [NOW] * 3,
        }
    )


def markets() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "__dummy_id": [""],
            "mood": ["calm"],
            "event_timestamp": [NOW],
            "known_at": [NOW],
        }
    )


@pytest.fixture
def stores(project: Callable[..., FeatureStore], tmp_path: Path) -> Iterator[Stores]:
    """Our store and Feast's on SQLite, with the same views and the same rows."""
    ours = project()
    theirs = FeatureStore(
        config=RepoConfig(
            project="desk",
            provider="local",
            registry={"registry_type": "file", "path": str(tmp_path / "oracle.pb")},
            offline_store={"type": "atlas.offline.ClickHouseOfflineStore"},
            online_store={"type": "sqlite", "path": str(tmp_path / "oracle.db")},
            entity_key_serialization_version=3,
            data_quality_monitoring={"auto_baseline": False},
        )
    )
    for store in (ours, theirs):
        store.apply([symbol, account, book, position, market, edge, squares, *services])
        store.push("book_push", books())
        store.write_to_online_store("position", positions())
    ours.write_to_online_store("market", inputs=markets().to_dict("list"))
    # On that way Feast writes a view without entities under a key that it never reads.
    theirs._get_provider().online_write_batch(
        theirs.config,
        theirs.get_feature_view("market"),
        [
            (
                EntityKey(join_keys=["__dummy_id"], entity_values=[Value(string_val="")]),
                {"mood": Value(string_val="calm")},
                NOW,
                NOW,
            )
        ],
        None,
    )
    yield ours, theirs
    # Feast opens a connection to SQLite and leaves it to the garbage collector.
    theirs._get_provider().online_store._conn.close()


def answer(store: FeatureStore, mode: str, *request: Any, **more: Any) -> dict[str, list[Any]]:
    async def asynchronously() -> dict[str, list[Any]]:
        found = (await store.get_online_features_async(*request, **more)).to_dict()
        await store._get_provider().online_store._client_async.aclose()
        store._get_provider().online_store._client_async = None
        return dict(found)

    if mode == "async":
        return asyncio.run(asynchronously())
    return dict(store.get_online_features(*request, **more).to_dict())


REQUESTS: dict[str, tuple[Any, list[dict[str, Any]]]] = {
    "one view": (
        ["book:mid", "book:n_trades"],
        [{"symbol": s} for s in ("SOL", "DOGE", "ETH", "BTC", "BTC")],
    ),
    "a composite key": (
        ["position:quantity", "position:mid"],
        [
            {"symbol": "BTC", "account_id": 2**53 + 1},
            {"symbol": "BTC", "account_id": 2**53},
            {"account_id": -7, "symbol": "B"},
        ],
    ),
    "several views": (
        ["book:n_trades", "position:quantity", "market:mood"],
        [{"symbol": "BTC", "account_id": 1}, {"symbol": "ETH", "account_id": 1}],
    ),
    "on demand": (
        ["edge:edge", "book:mid"],
        [{"symbol": "BTC", "limit_price": 2.0}, {"symbol": "SOL", "limit_price": 3.0}],
    ),
}


def rows_of(kind: str) -> list[dict[str, Any]]:
    return {
        "plain": [{"symbol": "BTC"}, {"symbol": "DOGE"}],
        "renamed": [{"symbol": "BTC", "account_id": 1}],
        "two_legs": [{"symbol_a": "BTC", "symbol_b": "SOL"}],
        "derived": [{"symbol": "BTC", "limit_price": 2.0}],
    }[kind]


@MODES
@pytest.mark.parametrize("request_name", REQUESTS)
def test_what_was_written_is_answered_as_feasts_store_does(
    stores: Stores, mode: str, request_name: str
) -> None:
    ours, theirs = stores
    for full in (False, True):
        if request_name == "several views" and not full:
            continue
        asked = REQUESTS[request_name]
        expected = answer(theirs, "sync", *asked, full_feature_names=full)
        assert repr(answer(ours, mode, *asked, full_feature_names=full)) == repr(expected)


@MODES
@pytest.mark.parametrize("service", [service.name for service in services])
def test_a_service_is_answered_as_feasts_store_does(
    stores: Stores, mode: str, service: str
) -> None:
    ours, theirs = stores
    for full in (False, True) if service == "derived" else (True,):
        expected, found = (
            answer(
                store,
                how,
                store.get_feature_service(service),
                rows_of(service),
                full_feature_names=full,
            )
            for store, how in ((theirs, "sync"), (ours, mode))
        )
        assert repr(found) == repr(expected)


def test_values_are_what_was_pushed(stores: Stores) -> None:
    asked = ["book:mid", "book:n_trades"]
    rows = [{"symbol": s} for s in ("BTC", "ETH", "SOL", "DOGE")]
    found = answer(stores[0], "sync", asked, rows)
    assert (repr(found["mid"]), found["n_trades"]) == (
        "[1.5, None, -0.0, None]",
        [2**53 + 1, 0, -1, None],
    )


@pytest.mark.parametrize("way", ["push_async", "write df", "write inputs", "write async"])
def test_every_way_of_writing_lands(stores: Stores, way: str) -> None:
    ours, _ = stores
    later = books(event_timestamp=[NOW + timedelta(microseconds=1)] * 3, mid=[4.0, 5.0, 6.0])

    async def asynchronously() -> None:
        if way == "push_async":
            await ours.push_async("book_push", later)
        else:
            await ours.write_to_online_store_async("book", later)
        await ours._get_provider().online_store._client_async.aclose()

    if way == "write df":
        ours.write_to_online_store("book", later)
    elif way == "write inputs":
        ours.write_to_online_store("book", inputs=later.to_dict("list"))
    else:
        asyncio.run(asynchronously())
    rows = [{"symbol": s} for s in ("BTC", "ETH", "SOL")]
    assert answer(ours, "sync", ["book:mid"], rows)["mid"] == [4.0, 5.0, 6.0]


def test_an_on_demand_view_with_writes_is_computed_once_and_read_again(stores: Stores) -> None:
    answers = []
    for store in stores:
        store.write_to_online_store("squares", books())
        answers.append(
            answer(store, "sync", ["squares:mid_squared"], [{"symbol": s} for s in ("BTC", "DOGE")])
        )
    assert (
        answers[0]
        == answers[1]
        == {
            "symbol": ["BTC", "DOGE"],
            "mid_squared": [2.25, None],
        }
    )


@MODES
def test_each_version_of_a_view_keeps_its_own_rows(
    project: Callable[..., FeatureStore], tmp_path: Path, redis: Redis, mode: str
) -> None:
    store = project(
        registry={
            "registry_type": "sql",
            "path": f"sqlite:///{tmp_path / 'versions.db'}",
            "enable_online_feature_view_versioning": True,
        }
    )

    def applied(*features: str) -> None:
        view = FeatureView(
            name="flow",
            entities=[symbol],
            schema=[Field(name=name, dtype=Float64) for name in ("symbol_", *features)],
            source=source("flow"),
            ttl=timedelta(0),
        )
        store.apply([symbol, view])

    def write(**values: float) -> None:
        row = {"symbol": "BTC", "event_timestamp": NOW, "known_at": NOW, "symbol_": 0.0}
        frame = pd.DataFrame([row | values])
        # Feast looks the view up in a cache that may be older than the last apply.
        store.write_to_online_store("flow", frame, allow_registry_cache=False)

    applied("buys")
    write(buys=1.0)
    applied("buys", "sells")
    write(buys=2.0, sells=3.0)
    found = [
        answer(store, mode, [ref], [{"symbol": "BTC"}], full_feature_names=True)
        for ref in ("flow@v1:sells", "flow:buys")
    ]
    assert [list(one.values())[1] for one in found] == [[3.0], [2.0]]
    assert compile_plan(store, "flow").view == "flow_v1"
