"""The join against a slow, obvious oracle, on random bitemporal data in plain MergeTree tables."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest
from clickhouse_connect.driver.client import Client
from feast import Entity, FeatureStore, FeatureView, Field, RepoConfig, ValueType
from feast.types import Float64, String
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from atlas.clickhouse import connect
from atlas.offline import ClickHouseSource

START = datetime(2021, 3, 1, tzinfo=UTC)
TTLS = {
    "endless": None,
    "half": timedelta(milliseconds=500),
    "instant": timedelta(microseconds=1),
}
# With a creation time, and without.
KINDS = ("versioned", "plain")
# Around the limits of age, where an inclusive end and an exclusive one differ.
OFFSETS = st.sampled_from(
    [0, 1, 2, 499_999, 500_000, 500_001, 999_999, 1_000_000, 1_000_001, 1_500_000, 2_000_000]
)
# Joined without a mark between them, the first two look the same.
PAIRS = st.sampled_from([("1", "23"), ("12", "3"), ("", "1,23")])
VALUES = st.sampled_from([0.0, -1.5, 2.0, 3.25])


@dataclass(frozen=True)
class Stored:
    left: str
    right: str
    event_us: int
    known_us: int
    price: float
    size: float | None


STORED = st.builds(
    lambda pair, event_us, late_us, price, size: Stored(
        *pair, event_us, event_us + late_us, price, size
    ),
    PAIRS,
    OFFSETS,
    # Known before its own event, at once, late, or very late.
    st.sampled_from([-1, 0, 1, 500_000, 1_000_000]),
    VALUES,
    st.none() | VALUES,
)
ASKED = st.builds(
    lambda pair, at_us: (*pair, at_us),
    PAIRS | st.just((None, "23")),
    OFFSETS | st.none(),
)


def candidates(
    rows: list[Stored],
    asked: tuple[str | None, str, int | None],
    ttl: timedelta | None,
    *,
    versioned: bool,
    as_known_then: bool,
) -> set[tuple[float | None, float | None]]:
    """Return the answers that are right: one, or those of rows that nothing orders."""
    left, right, at_us = asked
    if at_us is None:
        return {(None, None)}
    oldest = -1 if ttl is None else at_us - ttl // timedelta(microseconds=1)
    seen = [
        row
        for row in rows
        if (row.left, row.right) == (left, right)
        and oldest <= row.event_us <= at_us
        and (not (versioned and as_known_then) or row.known_us <= at_us)
    ]
    if not seen:
        return {(None, None)}

    def order(row: Stored) -> tuple[int, int]:
        return row.event_us, row.known_us if versioned else 0

    last = max(map(order, seen))
    return {(row.price, row.size) for row in seen if order(row) == last}


@pytest.fixture(scope="module")
def client(clickhouse_port: int) -> Iterator[Client]:
    with connect(port=clickhouse_port) as client:
        client.command("CREATE DATABASE oracle")
        client.database = "oracle"
        client.command(
            "CREATE TABLE ticks (left LowCardinality(String), right String, "
            "event_timestamp DateTime64(6, 'UTC'), known_at DateTime64(6, 'UTC'), "
            "price Float64, size Nullable(Float64)) "
            "ENGINE = MergeTree ORDER BY (left, right, event_timestamp)"
        )
        yield client
        client.command("DROP DATABASE oracle SYNC")


@pytest.fixture(scope="module")
def store(
    client: Client, clickhouse_port: int, tmp_path_factory: pytest.TempPathFactory
) -> FeatureStore:
    folder = tmp_path_factory.mktemp("oracle")
    store = FeatureStore(
        config=RepoConfig(
            project="oracle",
            provider="local",
            registry={"registry_type": "file", "path": str(folder / "registry.pb")},
            offline_store={
                "type": "atlas.offline.ClickHouseOfflineStore",
                "port": clickhouse_port,
                "database": "oracle",
            },
            online_store={"type": "sqlite", "path": str(folder / "online.db")},
            entity_key_serialization_version=3,
            data_quality_monitoring={"auto_baseline": False},
        )
    )
    left = Entity(name="left", join_keys=["left"], value_type=ValueType.STRING)
    right = Entity(name="right", join_keys=["right"], value_type=ValueType.STRING)
    views = [
        FeatureView(
            name=f"{kind}_{name}",
            entities=[left, right],
            schema=[
                Field(name="left", dtype=String),
                Field(name="right", dtype=String),
                Field(name="price", dtype=Float64),
                Field(name="size", dtype=Float64),
            ],
            source=ClickHouseSource(
                f"{kind}_{name}",
                table="ticks",
                timestamp_field="event_timestamp",
                created_timestamp_column="known_at" if kind == "versioned" else "",
            ),
            ttl=ttl,
        )
        for kind in KINDS
        for name, ttl in TTLS.items()
    ]
    store.apply([left, right, *views])
    return store


def moments(offsets: list[int | None]) -> list[datetime | None]:
    return [None if us is None else START + timedelta(microseconds=us) for us in offsets]


def write(client: Client, rows: list[Stored], blocks: int) -> None:
    client.command("TRUNCATE TABLE ticks")
    utc = pa.timestamp("us", "UTC")
    for block in range(blocks):
        part = rows[block::blocks]
        if part:
            client.insert_arrow(
                "ticks",
                pa.table(
                    {
                        "left": [row.left for row in part],
                        "right": [row.right for row in part],
                        "event_timestamp": pa.array(moments([r.event_us for r in part]), utc),
                        "known_at": pa.array(moments([r.known_us for r in part]), utc),
                        "price": pa.array([row.price for row in part], pa.float64()),
                        "size": pa.array([row.size for row in part], pa.float64()),
                    }
                ),
            )


def retrieve(
    store: FeatureStore, asked: list[tuple[str | None, str, int | None]], as_known_then: bool
) -> dict[str, list[Any]]:
    entities = pd.DataFrame(
        {
            "left": [row[0] for row in asked],
            "right": [row[1] for row in asked],
            "event_timestamp": pd.to_datetime(moments([row[2] for row in asked]), utc=True),
        }
    )
    names = [f"{kind}_{name}" for kind in KINDS for name in TTLS]
    found: dict[str, list[Any]] = (
        store.get_historical_features(
            entities,
            [f"{name}:{feature}" for name in names for feature in ("price", "size")],
            full_feature_names=True,
            filter_by_created_timestamp=as_known_then,
        )
        .to_arrow()
        .to_pydict()
    )
    return found


def check(
    store: FeatureStore,
    client: Client,
    rows: list[Stored],
    asked: list[tuple[str | None, str, int | None]],
    as_known_then: bool,
) -> None:
    write(client, rows, blocks=2)
    found = retrieve(store, asked, as_known_then)
    assert list(zip(found["left"], found["right"], strict=True)) == [row[:2] for row in asked]
    wrong = [
        (kind, name, row, got, right)
        for kind in KINDS
        for name, ttl in TTLS.items()
        for row, *got in zip(
            asked, found[f"{kind}_{name}__price"], found[f"{kind}_{name}__size"], strict=True
        )
        if tuple(got)
        not in (
            right := candidates(
                rows, row, ttl, versioned=kind == "versioned", as_known_then=as_known_then
            )
        )
    ]
    assert wrong == []
    # The same rows, stored in another order, give the very same answer: ties included.
    write(client, rows[::-1], blocks=3)
    assert retrieve(store, asked, as_known_then) == found


few = settings(
    max_examples=25,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
many = settings(few, max_examples=1_000)
history = {
    "rows": st.lists(STORED, max_size=40) | st.lists(STORED, min_size=20, max_size=40),
    "asked": st.lists(ASKED, min_size=10, max_size=30),
}


@pytest.mark.parametrize("as_known_then", [False, True])
@few
@given(**history)
def test_every_answer_is_the_oracles(
    store: FeatureStore,
    client: Client,
    as_known_then: bool,
    rows: list[Stored],
    asked: list[tuple[str | None, str, int | None]],
) -> None:
    check(store, client, rows, asked, as_known_then)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("as_known_then", [False, True])
@many
@given(**history)
def test_every_answer_is_the_oracles_two_thousand_times(
    store: FeatureStore,
    client: Client,
    as_known_then: bool,
    rows: list[Stored],
    asked: list[tuple[str | None, str, int | None]],
) -> None:
    check(store, client, rows, asked, as_known_then)
