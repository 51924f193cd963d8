"""A Feast project whose online store is the real Redis, with one view of three doubles."""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from feast import Entity, FeatureService, FeatureStore, FeatureView, Field, RepoConfig, ValueType
from feast.types import Float64
from redis import Redis

from atlas.offline import ClickHouseSource
from atlas.serving import ReadPlan

FEATURES = ("mid", "spread", "depth")


@pytest.fixture
def plan() -> ReadPlan:
    """The read plan of the view `book`, fresh for ten seconds."""
    return ReadPlan("desk", "book", "symbol", FEATURES, ttl_us=10_000_000)


@pytest.fixture
def project(redis: Redis, redis_port: int, tmp_path: Path) -> Callable[..., FeatureStore]:
    """Make a Feast project on the test's Redis, empty but for what is applied to it."""

    def make(name: str = "desk", **online_store: object) -> FeatureStore:
        return FeatureStore(
            config=RepoConfig(
                project=name,
                provider="local",
                registry={"registry_type": "file", "path": str(tmp_path / f"{name}.pb")},
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
