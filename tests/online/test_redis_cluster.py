"""The stores, the reader and the writers on a Redis Cluster of three nodes."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd
import pytest
from feast import FeatureStore
from redis import Redis
from redis.asyncio import RedisCluster as AsyncRedisCluster
from redis.cluster import RedisCluster

from atlas.clock import to_micros
from atlas.errors import StoreUnavailable
from atlas.online import OnlineReader, SequenceWriter, Vectors
from atlas.online.materialisation.slots import key_slot
from atlas.serving import ReadPlan

NOW = datetime(2021, 6, 1, 12, tzinfo=UTC)
NOW_US = to_micros(NOW)
SYMBOLS = [f"S{number}" for number in range(60)]
REFS = ["book:mid", "book:spread", "book:depth"]


@pytest.fixture
def clustered(
    project: Callable[..., FeatureStore],
    book: Callable[..., list[Any]],
    cluster: RedisCluster,
    cluster_ports: list[int],
) -> FeatureStore:
    """A Feast project with the view `book` on the cluster."""
    store = project(redis_type="redis_cluster", connection_string=f"127.0.0.1:{cluster_ports[0]}")
    store.apply(book(ttl_s=0))
    return store


def frame(add: float = 0.0, later: timedelta = timedelta(0)) -> pd.DataFrame:
    mids = np.arange(len(SYMBOLS)) + add
    return pd.DataFrame(
        {
            "symbol": SYMBOLS,
            "mid": mids,
            "spread": mids * 2,
            "depth": mids * 3,
            "event_timestamp": NOW + later,
            "known_at": NOW + later,
        }
    )


def read(ports: list[int], plan: ReadPlan, keys: list[str]) -> Vectors:
    async def once() -> Vectors:
        async with AsyncRedisCluster("127.0.0.1", ports[0]) as redis:
            return await OnlineReader(redis, plan).read(keys, now=NOW)

    return asyncio.run(once())


def n_keys(ports: list[int]) -> list[int]:
    counts = []
    for port in ports:
        with Redis(port=port) as node:
            counts.append(int(node.dbsize()))
    return counts


def test_what_feast_writes_lies_on_every_node_and_all_read_it(
    clustered: FeatureStore, cluster_ports: list[int], plan: ReadPlan
) -> None:
    clustered.write_to_online_store("book", frame())
    clustered.write_to_online_store("book", frame(add=100.0, later=-timedelta(seconds=1)))
    rows = [{"symbol": symbol} for symbol in [*SYMBOLS, "DOGE"]]
    answer = clustered.get_online_features(REFS, rows).to_dict()
    found = read(cluster_ports, plan, [*SYMBOLS, "DOGE"])
    mids = [float(number) for number in range(len(SYMBOLS))]
    assert answer["mid"] == [*mids, None]
    assert found.values[:-1].tolist() == [[mid, 2 * mid, 3 * mid] for mid in mids]
    assert np.isnan(found.values[-1]).all()
    assert all(n_keys(cluster_ports))


def test_asyncio_calls_are_routed_too(clustered: FeatureStore) -> None:
    async def both() -> list[float]:
        await clustered.write_to_online_store_async("book", frame(add=1.0))
        answer = await clustered.get_online_features_async(
            REFS, [{"symbol": symbol} for symbol in SYMBOLS]
        )
        await clustered._get_provider().online_store._client_async.aclose()
        found: list[float] = answer.to_dict()["mid"]
        return found

    assert asyncio.run(both()) == [number + 1.0 for number in range(len(SYMBOLS))]


def test_the_last_rows_are_written_and_read_by_slot(
    cluster: RedisCluster, cluster_ports: list[int], plan: ReadPlan
) -> None:
    deep = replace(plan, depth=3)
    keys = [symbol for symbol in SYMBOLS for _ in range(2)]
    times = NOW_US + np.tile([0, 1], len(SYMBOLS))
    values = np.arange(3.0 * len(keys)).reshape(-1, 3)
    assert SequenceWriter(cluster, deep).write(keys, times, times, values) == len(keys)

    async def history() -> Any:
        async with AsyncRedisCluster("127.0.0.1", cluster_ports[0]) as redis:
            return await OnlineReader(redis, deep).history(SYMBOLS, 2, now=NOW)

    found = asyncio.run(history())
    assert found.values.tolist() == values.reshape(len(SYMBOLS), 2, 3).tolist()
    assert all(n_keys(cluster_ports))


def test_deleting_reaches_every_node(
    clustered: FeatureStore, cluster: RedisCluster, cluster_ports: list[int], plan: ReadPlan
) -> None:
    clustered.write_to_online_store("book", frame())
    SequenceWriter(cluster, replace(plan, depth=1)).write(
        SYMBOLS, [NOW_US] * 60, [NOW_US] * 60, np.ones((60, 3))
    )
    clustered._get_provider().teardown_infra(
        "desk", clustered.list_feature_views(), clustered.list_entities()
    )
    assert n_keys(cluster_ports) == [0, 0, 0]


def test_the_slot_of_a_key_is_the_clusters(cluster: RedisCluster) -> None:
    keys = [
        b"",
        b"BTC",
        b"{tag}x",
        b"{}x",
        b"x{a}{b}",
        b"\x01\x00{\xff}",
        *map(str.encode, SYMBOLS),
    ]
    assert [key_slot(key) for key in keys] == [cluster.keyslot(key) for key in keys]


def test_a_cluster_that_is_not_there_is_one_clear_error(plan: ReadPlan) -> None:
    async def read_of_nobody() -> None:
        await OnlineReader(AsyncRedisCluster("127.0.0.1", 1), plan).read(["BTC"], now=NOW)

    with pytest.raises(StoreUnavailable, match="Expected Redis at the nodes of a cluster"):
        asyncio.run(read_of_nobody())
