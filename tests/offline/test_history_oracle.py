"""The join against a slow, obvious oracle, on random bitemporal data in plain MergeTree tables.

Every example is a case of its own, told apart by a key, so that none has to clear the table.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any
from unittest.mock import patch

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from clickhouse_connect.driver.client import Client
from feast import Entity, FeatureStore, FeatureView, Field, RepoConfig, ValueType
from feast.types import Array, Float64, Int64, String
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from atlas.clickhouse import connect
from atlas.offline import ClickHouseSource
from atlas.offline import point_in_time as limits

START = int(datetime(2021, 3, 1, tzinfo=UTC).timestamp()) * 10**9
# Cases lie so far apart that a range holds one of them.
CASE_NANOS = 10 * 10**9
TTLS = {
    "endless": None,
    "half": timedelta(milliseconds=500),
    "instant": timedelta(microseconds=1),
}
# With a creation time, and without.
KINDS = ("versioned", "plain")
FEATURES = ("price", "size", "legs")
# Around the limits of age, where an inclusive end and an exclusive one differ.
OFFSETS = st.sampled_from(
    [0, 1, 999, 1_000, 1_001, 499_999_999, 500_000_000, 500_000_001, 1_000_000_000, 1_500_000_001]
)
# Joined without a mark between them, the first two look the same.
PAIRS = st.sampled_from([("1", "23"), ("12", "3"), ("", "1,23")])
VALUES = st.sampled_from([0.0, -1.5, 2.0])

Answer = tuple[float | None, float | None, tuple[float, ...] | None]
NOTHING: Answer = (None, None, None)


@dataclass(frozen=True)
class Stored:
    left: str
    right: str
    event: int
    known: int
    price: float
    size: float | None
    legs: tuple[float, ...]

    @property
    def answer(self) -> Answer:
        return self.price, self.size, self.legs


@dataclass(frozen=True)
class Asked:
    left: str | None
    right: str
    at: int | None


@dataclass(frozen=True)
class Limits:
    """How small the pieces are in which a question is asked."""

    block_rows: int = 2_000_000
    part_rows: int = 500_000
    few_rows: int = 2_000


STORED = st.builds(
    lambda pair, event, late, price, size, legs: Stored(
        pair[0], pair[1], event, event + late, price, size, legs
    ),
    PAIRS,
    OFFSETS,
    # Known before its own event, at once, late, or very late.
    st.sampled_from([-1, 0, 1, 500_000_000, 1_000_000_000]),
    VALUES,
    st.none() | VALUES,
    st.sampled_from([(), (1.0,), (1.0, 2.0)]),
)
ASKED = st.builds(
    lambda pair, at: Asked(pair[0], pair[1], at), PAIRS | st.just((None, "23")), OFFSETS | st.none()
)
LIMITS = st.sampled_from([Limits()] * 3 + [Limits(few_rows=1, part_rows=2), Limits(block_rows=7)])


def candidates(
    rows: list[Stored], asked: Asked, ttl: timedelta | None, *, versioned: bool, then: bool
) -> set[Answer]:
    """Return the answers that are right: one, or those of rows that nothing orders."""
    if asked.at is None:
        return {NOTHING}
    oldest = -(10**18) if ttl is None else asked.at - ttl // timedelta(microseconds=1) * 1_000
    seen = [
        row
        for row in rows
        if (row.left, row.right) == (asked.left, asked.right)
        and oldest <= row.event <= asked.at
        and (not (versioned and then) or row.known <= asked.at)
    ]
    if not seen:
        return {NOTHING}

    def order(row: Stored) -> tuple[int, int]:
        return row.event, row.known if versioned else 0

    last = max(map(order, seen))
    return {row.answer for row in seen if order(row) == last}


@pytest.fixture(scope="module")
def client(clickhouse_port: int) -> Iterator[Client]:
    with connect(port=clickhouse_port) as client:
        client.command("CREATE DATABASE oracle")
        client.database = "oracle"
        client.command(
            "CREATE TABLE ticks (case Int32, left LowCardinality(String), right String, "
            "event_timestamp DateTime64(9, 'UTC'), known_at DateTime64(9, 'UTC'), "
            "price Float64, size Nullable(Float64), legs Array(Float64)) "
            "ENGINE = MergeTree ORDER BY (case, left, right, event_timestamp)"
        )
        yield client
        client.command("DROP DATABASE oracle SYNC")


@pytest.fixture(scope="module")
def cases() -> Iterator[int]:
    return count(1)


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
    case = Entity(name="case", join_keys=["case"], value_type=ValueType.INT64)
    left = Entity(name="left", join_keys=["left"], value_type=ValueType.STRING)
    right = Entity(name="right", join_keys=["right"], value_type=ValueType.STRING)
    views = [
        FeatureView(
            name=f"{kind}_{name}",
            entities=[case, left, right],
            schema=[
                Field(name="case", dtype=Int64),
                Field(name="left", dtype=String),
                Field(name="right", dtype=String),
                Field(name="price", dtype=Float64),
                Field(name="size", dtype=Float64),
                Field(name="legs", dtype=Array(Float64)),
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
    store.apply([case, left, right, *views])
    return store


def begin(case: int) -> int:
    return START + case * CASE_NANOS


def write(client: Client, case: int, rows: list[Stored]) -> None:
    if not rows:
        return
    moments = pa.timestamp("ns", "UTC")
    client.insert_arrow(
        "ticks",
        pa.table(
            {
                "case": pa.array([case] * len(rows), pa.int32()),
                "left": [row.left for row in rows],
                "right": [row.right for row in rows],
                "event_timestamp": pa.array([begin(case) + row.event for row in rows], moments),
                "known_at": pa.array([begin(case) + row.known for row in rows], moments),
                "price": pa.array([row.price for row in rows], pa.float64()),
                "size": pa.array([row.size for row in rows], pa.float64()),
                "legs": pa.array([row.legs for row in rows], pa.list_(pa.float64())),
            }
        ),
    )


def retrieve(store: FeatureStore, entities: Any, ttl: str, then: bool, **span: Any) -> pa.Table:
    return store.get_historical_features(
        entities,
        [f"{kind}_{ttl}:{feature}" for kind in KINDS for feature in FEATURES],
        full_feature_names=True,
        filter_by_created_timestamp=then,
        **span,
    ).to_arrow()


def answers(found: pa.Table, kind: str, ttl: str) -> list[Answer]:
    price, size, legs = (found[f"{kind}_{ttl}__{name}"].to_pylist() for name in FEATURES)
    return [
        (p, s, None if many is None else tuple(many))
        for p, s, many in zip(price, size, legs, strict=True)
    ]


def entity_rows(cases: tuple[int, ...], asked: list[Asked]) -> pd.DataFrame:
    moments = [
        np.datetime64("NaT") if row.at is None else np.datetime64(begin(case) + row.at, "ns")
        for case in cases
        for row in asked
    ]
    return pd.DataFrame(
        {
            "case": np.repeat(cases, len(asked)),
            "left": [row.left for row in asked] * len(cases),
            "right": [row.right for row in asked] * len(cases),
            "event_timestamp": pd.to_datetime(np.array(moments, dtype="datetime64[ns]"), utc=True),
        }
    )


def check_rows(
    store: FeatureStore,
    client: Client,
    cases: Iterator[int],
    rows: list[Stored],
    asked: list[Asked],
    ttl: str,
    then: bool,
    pieces: Limits,
) -> None:
    one, other = next(cases), next(cases)
    write(client, one, rows)
    # The same rows, stored in another order and in two parts.
    write(client, other, rows[::-1][::2])
    write(client, other, rows[::-1][1::2])
    entities = entity_rows((one, other), asked)
    with (
        patch.object(limits, "_MAX_BLOCK_ROWS", pieces.block_rows),
        patch.object(limits, "_PART_ROWS", pieces.part_rows),
        patch.object(limits, "_FEW_ROWS", pieces.few_rows),
    ):
        found = retrieve(store, entities, ttl, then)
    given_back = found.select(entities.columns.to_list())
    assert given_back == pa.Table.from_pandas(entities, given_back.schema, preserve_index=False)
    for kind in KINDS:
        got = answers(found, kind, ttl)
        wrong = [
            (kind, row, answer, right)
            for row, answer in zip(asked, got[: len(asked)], strict=True)
            if answer
            not in (
                right := candidates(rows, row, TTLS[ttl], versioned=kind == "versioned", then=then)
            )
        ]
        assert wrong == []
        # Whatever the order in which they were stored: ties included.
        assert got[len(asked) :] == got[: len(asked)]


def check_range(
    store: FeatureStore,
    client: Client,
    cases: Iterator[int],
    rows: list[Stored],
    span: tuple[int, int],
    ttl: str,
    then: bool,
) -> None:
    case = next(cases)
    write(client, case, rows)
    first, last = span
    start, end = (
        datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=(begin(case) + ns) // 1_000)
        for ns in (first, last)
    )
    found = retrieve(store, None, ttl, then, start_date=start, end_date=end)
    expected = sorted(
        {
            (row.event, row.left, row.right)
            for row in rows
            if first // 1_000 * 1_000 <= row.event <= last // 1_000 * 1_000
        }
    )
    assert found.column_names[:4] == ["case", "left", "right", "event_timestamp"]
    times = found["event_timestamp"].cast(pa.int64()).to_pylist()
    texts = (found[name].to_pylist() for name in ("left", "right"))
    assert [
        (time - begin(case), left, right) for time, left, right in zip(times, *texts, strict=True)
    ] == expected
    for kind in KINDS:
        wrong = [
            (kind, row, answer, right)
            for row, answer in zip(expected, answers(found, kind, ttl), strict=True)
            if answer
            not in (
                right := candidates(
                    rows,
                    Asked(row[1], row[2], row[0]),
                    TTLS[ttl],
                    versioned=kind == "versioned",
                    then=then,
                )
            )
        ]
        assert wrong == []


few = settings(
    max_examples=200,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
fewer = settings(few, max_examples=50)
# Shrinking thousands of examples would outlast the night.
many = settings(few, max_examples=2_000, phases=[Phase.generate])

rows_of = st.lists(STORED, max_size=30) | st.lists(STORED, min_size=15, max_size=30)
row_questions = {
    "rows": rows_of,
    "asked": st.lists(ASKED, min_size=5, max_size=20),
    "ttl": st.sampled_from(list(TTLS)),
    "then": st.booleans(),
    "pieces": LIMITS,
}
range_questions = {
    "rows": rows_of,
    "span": st.tuples(OFFSETS, OFFSETS).map(sorted),
    "ttl": st.sampled_from(list(TTLS)),
    "then": st.booleans(),
}


@few
@given(**row_questions)
def test_every_answer_is_the_oracles(
    store: FeatureStore, client: Client, cases: Iterator[int], **question: Any
) -> None:
    check_rows(store, client, cases, **question)


@fewer
@given(**range_questions)
def test_every_range_is_the_oracles(
    store: FeatureStore,
    client: Client,
    cases: Iterator[int],
    rows: list[Stored],
    span: list[int],
    ttl: str,
    then: bool,
) -> None:
    check_range(store, client, cases, rows, (span[0], span[1]), ttl, then)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@many
@given(**row_questions)
def test_every_answer_is_the_oracles_two_thousand_times(
    store: FeatureStore, client: Client, cases: Iterator[int], **question: Any
) -> None:
    check_rows(store, client, cases, **question)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@many
@given(**range_questions)
def test_every_range_is_the_oracles_two_thousand_times(
    store: FeatureStore,
    client: Client,
    cases: Iterator[int],
    rows: list[Stored],
    span: list[int],
    ttl: str,
    then: bool,
) -> None:
    check_range(store, client, cases, rows, (span[0], span[1]), ttl, then)
