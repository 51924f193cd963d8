"""Feast projects whose online store is the real Redis, and a Redis Cluster."""

import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import pytest
from feast import Entity, FeatureService, FeatureStore, FeatureView, Field, RepoConfig, ValueType
from feast.types import Float64
from local_processes import end, free_port
from redis import Redis
from redis.cluster import RedisCluster
from redis.exceptions import RedisError

from atlas.offline import ClickHouseSource
from atlas.serving import ReadPlan

FEATURES = ("mid", "spread", "depth")


@pytest.fixture
def plan() -> ReadPlan:
    """The read plan of the view `book`, fresh for ten seconds."""
    return ReadPlan("desk", "book", ("symbol",), FEATURES, ttl_us=10_000_000)


@pytest.fixture
def project(redis: Redis, redis_port: int, tmp_path: Path) -> Callable[..., FeatureStore]:
    """Make a Feast project on the test's Redis, empty but for what is applied to it."""

    def make(
        name: str = "desk", registry: dict[str, object] | None = None, **online_store: object
    ) -> FeatureStore:
        return FeatureStore(
            config=RepoConfig(
                project=name,
                provider="local",
                registry=registry
                or {"registry_type": "file", "path": str(tmp_path / f"{name}.pb")},
                # Never asked: sources are checked only by the command line.
                offline_store={"type": "atlas.offline.ClickHouseOfflineStore"},
                online_store={
                    "type": "atlas.online.RedisOnlineStore",
                    "connection_string": f"127.0.0.1:{redis_port}",
                    **online_store,
                },
                entity_key_serialization_version=3,
                data_quality_monitoring={"auto_baseline": False},
            )
        )

    return make


@pytest.fixture
def book() -> Callable[..., list[object]]:
    """Make the objects to apply: the entity, a view and its service."""

    def make(
        name: str = "book", features: tuple[str, ...] = FEATURES, ttl_s: float = 10
    ) -> list[object]:
        symbol = Entity(name="symbol", join_keys=["symbol"], value_type=ValueType.STRING)
        view = FeatureView(
            name=name,
            entities=[symbol],
            schema=[Field(name=feature, dtype=Float64) for feature in features],
            source=ClickHouseSource(
                table=name,
                timestamp_field="event_timestamp",
                created_timestamp_column="known_at",
            ),
            ttl=timedelta(seconds=ttl_s),
        )
        return [symbol, view, FeatureService(name=f"direction_{name}", features=[view])]

    return make


@pytest.fixture
def store(project: Callable[..., FeatureStore], book: Callable[..., list[object]]) -> FeatureStore:
    """A Feast project with the view `book`."""
    store = project()
    store.apply(book())
    return store


NODES = 3
SLOTS = 16_384
BUS_OFFSET = 10_000


def _free_node_port() -> int:
    # Redis before 7 puts the nodes' own talk on the port so much above.
    while True:
        port = free_port()
        if port + BUS_OFFSET < 65_536:
            return port


@pytest.fixture(scope="session")
def cluster_ports(
    redis_binary: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[list[int]]:
    """The ports of a Redis Cluster of three nodes without replicas."""
    ports = [_free_node_port() for _ in range(NODES)]
    processes = []
    try:
        for port in ports:
            folder = tmp_path_factory.mktemp(f"node{port}")
            with (folder / "log").open("wb") as out:
                processes.append(
                    subprocess.Popen(
                        [
                            *(redis_binary, "--port", str(port), "--bind", "127.0.0.1"),
                            *("--dir", str(folder), "--save", "", "--appendonly", "no"),
                            *("--cluster-enabled", "yes", "--cluster-node-timeout", "5000"),
                        ],
                        stdout=out,
                        stderr=subprocess.STDOUT,
                    )
                )
        _join(ports)
        yield ports
    finally:
        for process in processes:
            end(process)


def _join(ports: list[int]) -> None:
    nodes = [Redis(port=port, decode_responses=True) for port in ports]
    deadline = time.monotonic() + 60
    for number, node in enumerate(nodes):
        while True:
            with suppress(RedisError):
                node.ping()
                break
            assert time.monotonic() < deadline
            time.sleep(0.05)
        slots = range(number * SLOTS // NODES, (number + 1) * SLOTS // NODES)
        node.execute_command("CLUSTER ADDSLOTS", *slots)
        node.execute_command("CLUSTER SET-CONFIG-EPOCH", number + 1)
        nodes[0].execute_command("CLUSTER MEET", "127.0.0.1", ports[number])
    while not all(_has_joined(node) for node in nodes):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    for node in nodes:
        node.close()


def _has_joined(node: Redis) -> bool:
    told = node.execute_command("CLUSTER INFO")
    return (told["cluster_state"], told["cluster_known_nodes"]) == ("ok", str(NODES))


@pytest.fixture
def cluster(cluster_ports: list[int]) -> Iterator[RedisCluster]:
    """A client of an empty Redis Cluster."""
    client = RedisCluster("127.0.0.1", cluster_ports[0])
    client.flushall(target_nodes=RedisCluster.PRIMARIES)
    yield client
    client.close()
