"""What the engine writes is what Feast's own engine and store write, byte for byte."""

import math
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pyarrow as pa
import pytest
from clickhouse_connect.driver.client import Client
from feast import Entity, FeatureStore, FeatureView, Field, FileSource, RepoConfig, ValueType
from feast.infra.online_stores.redis import RedisOnlineStore as FeastsStore
from feast.infra.online_stores.redis import RedisOnlineStoreConfig as FeastsConfig
from feast.types import (
    Array,
    Bool,
    Bytes,
    Float32,
    Float64,
    Int32,
    Int64,
    Map,
    String,
    UnixTimestamp,
)
from feast.utils import _convert_arrow_to_proto
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from online_rows import EVER, T0, rows_of
from redis import Redis

from atlas.errors import InvalidInput
from atlas.offline import ClickHouseSource
from atlas.online.landing import Landing
from atlas.online.materialisation.batch import encode
from atlas.online.materialisation.pipe import LandingPipe
from atlas.online.materialisation.view_plan import Column, ViewPlan

_MOMENTS = st.datetimes(datetime(1900, 1, 1), datetime(2261, 1, 1)).map(
    lambda moment: moment.replace(tzinfo=UTC)
)
_US = pa.timestamp("us", tz="UTC")
INT32, INT64 = st.integers(-(2**31), 2**31 - 1), st.integers(-(2**63), 2**63 - 1)
# Feast's type, Arrow's, and values.
TYPES: list[tuple[Any, pa.DataType, st.SearchStrategy[Any]]] = [
    (Float64, pa.float64(), st.floats(width=64)),
    (Float32, pa.float32(), st.floats(width=32)),
    # What a short float cannot hold is refused.
    (Float32, pa.float64(), st.floats(-3e38, 3e38) | st.sampled_from([math.nan, math.inf])),
    (Float64, pa.int64(), st.integers(-(2**53), 2**53)),
    (Int64, pa.int64(), INT64),
    (Int32, pa.int32(), INT32),
    (Int64, pa.uint8(), st.integers(0, 255)),
    (Bool, pa.bool_(), st.booleans()),
    (String, pa.string(), st.text(max_size=70)),
    (Bytes, pa.binary(), st.binary(max_size=70)),
    (UnixTimestamp, _US, _MOMENTS),
    (UnixTimestamp, pa.date32(), st.dates(date(1900, 1, 1), date(2200, 1, 1))),
    (Array(Float64), pa.list_(pa.float64()), st.lists(st.floats(width=64), max_size=5)),
    (Array(Int64), pa.list_(pa.int64()), st.lists(INT64, max_size=5)),
    (Array(String), pa.list_(pa.string()), st.lists(st.text(max_size=5), max_size=5)),
    (Array(Bool), pa.list_(pa.bool_()), st.lists(st.booleans(), max_size=5)),
]
KEYS: list[tuple[Any, pa.DataType, st.SearchStrategy[Any]]] = [
    (String, pa.string(), st.text(max_size=40)),
    (Int64, pa.int64(), INT64),
    (Int32, pa.int32(), INT32),
]
VALUE_TYPES = {String: ValueType.STRING, Int64: ValueType.INT64, Int32: ValueType.INT32}


@st.composite
def tables(draw: st.DrawFn) -> tuple[list[Any], list[Any], pa.RecordBatch]:
    """Draw key types, feature types and rows with distinct keys."""
    keys = draw(st.lists(st.sampled_from(KEYS), max_size=3))
    features = draw(st.lists(st.sampled_from(TYPES), min_size=1, max_size=5))
    n = draw(st.integers(1, 6))
    names = [f"k{i}" for i in range(len(keys))]
    found = draw(
        st.lists(
            st.tuples(*(values for _, _, values in keys)),
            min_size=n,
            max_size=n,
            unique=True,
        )
        if keys
        else st.just([()])
    )
    n = len(found)
    columns = {
        name: pa.array([row[at] for row in found], kind)
        for at, (name, (_, kind, _)) in enumerate(zip(names, keys, strict=True))
    }
    for at, (declared, kind, values) in enumerate(features):
        cells = draw(st.lists(st.one_of(st.none(), values), min_size=n, max_size=n))
        # Feast takes empty texts for null if its whole batch has no other; ours stay texts.
        assume(declared not in (String, Bytes) or any(cells) or cells.count(None) == n)
        # Feast rounds whole numbers beyond 2^53 if there is a null beside them; ours stay exact.
        assume(declared != Int64 or None not in cells or all(abs(n or 0) <= 2**53 for n in cells))
        columns[f"f{at}"] = pa.array(cells, kind)
    for name in ("event", "known"):
        columns[name] = pa.array(draw(st.lists(_MOMENTS, min_size=n, max_size=n)), _US)
    return [f for f, _, _ in keys], [f for f, _, _ in features], pa.RecordBatch.from_pydict(columns)


def view_of(keys: Sequence[Any], features: Sequence[Any]) -> FeatureView:
    entities = [
        Entity(name=f"e{at}", join_keys=[f"k{at}"], value_type=VALUE_TYPES[kind])
        for at, kind in enumerate(keys)
    ]
    return FeatureView(
        name="odd",
        entities=entities,
        schema=[
            *(Field(name=f"k{at}", dtype=kind) for at, kind in enumerate(keys)),
            *(Field(name=f"f{at}", dtype=kind) for at, kind in enumerate(features)),
        ],
        source=FileSource(
            path="none.parquet", timestamp_field="event", created_timestamp_column="known"
        ),
    )


def plan_of(keys: Sequence[Any], features: Sequence[Any]) -> ViewPlan:
    columns = tuple(
        Column(f"k{at}", f"k{at}", kind.to_value_type().name) for at, kind in enumerate(keys)
    )
    return ViewPlan(
        project="desk",
        name="odd",
        stored_name="odd",
        source="odd",
        types={},
        keys=columns,
        features=tuple(
            Column(f"f{at}", f"f{at}", kind.to_value_type().name)
            for at, kind in enumerate(features)
        ),
        event="event",
        created="known",
        written=None,
        all_keys=columns or (Column("__dummy_id", "__dummy_id", "STRING"),),
    )


def land(redis: Redis, plan: ViewPlan, batch: pa.RecordBatch) -> int:
    landing = Landing("odd", [feature.name for feature in plan.features])
    pipe = LandingPipe(redis, landing)
    encoded = encode(plan, landing, batch)
    try:
        pipe.send(encoded.keys, encoded.rows)
        return pipe.finish()
    finally:
        pipe.close()


@settings(
    max_examples=150,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(tables())
def test_every_type_and_key_has_feasts_bytes(
    redis: Redis, redis_port: int, drawn: tuple[list[Any], list[Any], pa.RecordBatch]
) -> None:
    keys, features, batch = drawn
    view = view_of(keys, features)
    table = pa.Table.from_batches([batch])
    if not keys:
        table = table.append_column("__dummy_id", pa.array([""] * batch.num_rows))
    config = RepoConfig(
        project="desk",
        provider="local",
        registry="unused.db",
        online_store=FeastsConfig(connection_string=f"127.0.0.1:{redis_port}"),
        entity_key_serialization_version=3,
    )
    redis.flushall()
    joined = {column.name: column.dtype.to_value_type() for column in view.entity_columns}
    rows = _convert_arrow_to_proto(table, view, joined or {"__dummy_id": ValueType.STRING})
    FeastsStore().online_write_batch(config, view, rows, None)
    theirs = rows_of(redis)
    redis.flushall()
    landed = land(redis, plan_of(keys, features), batch)
    assert (landed, rows_of(redis, with_known=False)) == (batch.num_rows, theirs)


COLUMNS = {
    "venue": "LowCardinality(String)",
    "id": "Int64",
    "lot": "Int32",
    "at": "DateTime64(9, 'UTC')",
    "made": "DateTime",
    "price": "Float64",
    "size": "Nullable(Float64)",
    "thin": "Float32",
    "count": "Int64",
    "few": "UInt8",
    "up": "Bool",
    "side": "Enum8('buy' = 1, 'sell' = 2)",
    "code": "UUID",
    "day": "Date",
    "seen": "DateTime64(3, 'UTC')",
    "levels": "Array(Float64)",
    "words": "Array(String)",
    "cost": "Decimal(18, 4)",
    "fees": "Map(String, Float64)",
}
FIELDS = {
    "price": Float64,
    "volume": Float64,
    "thin": Float32,
    "count": Int64,
    "few": Int32,
    "up": Bool,
    "side": String,
    "code": String,
    "day": UnixTimestamp,
    "seen": UnixTimestamp,
    "levels": Array(Float64),
    "words": Array(String),
    "cost": Float64,
    "fees": Map,
}


def odd_view(keys: Sequence[str]) -> list[Any]:
    types = {"venue": String, "id": Int64, "lot": Int32}
    entities = [
        Entity(name=key, join_keys=[key], value_type=VALUE_TYPES[types[key]]) for key in keys
    ]
    view = FeatureView(
        name="odd",
        entities=entities,
        schema=[
            *(Field(name=key, dtype=types[key]) for key in keys),
            *(Field(name=name, dtype=kind) for name, kind in FIELDS.items()),
        ],
        source=ClickHouseSource(
            table="odd",
            timestamp_field="at",
            created_timestamp_column="made",
            field_mapping={"size": "volume"},
        ),
        ttl=timedelta(days=1),
    )
    return [*entities, view]


# Feast's own engine says so of times to the nanosecond; both keep microseconds online.
@pytest.mark.filterwarnings("ignore:Discarding nonzero nanoseconds")
@pytest.mark.parametrize("keys", [("venue", "lot", "id"), ("id",), ()])
def test_clickhouses_types_come_online_as_feasts_own_engine_and_store_write_them(
    desk: Callable[..., FeatureStore], clickhouse: Client, redis: Redis, keys: tuple[str, ...]
) -> None:
    columns = ", ".join(f"{name} {kind}" for name, kind in COLUMNS.items())
    clickhouse.command(f"CREATE TABLE odd ({columns}) ENGINE = MergeTree ORDER BY id")
    clickhouse.command(
        "INSERT INTO odd SELECT ['X', 'Y'][number % 2 + 1], number % 5, number % 3, "
        "toDateTime64('2021-06-01 11:00:00', 9, 'UTC') + toIntervalNanosecond(number * 1234567891),"
        " toDateTime('2021-06-01 12:00:00', 'UTC') + number, number / 7, "
        "if(number % 4 = 0, NULL, number), number / 3, number * 1000003, number % 250, "
        "number % 2, number % 2 + 1, toUUID(concat('00000000-0000-0000-0000-', "
        "leftPad(toString(number), 12, '0'))), toDate('2021-01-01') + number, "
        "toDateTime64('2021-06-01 11:00:00.5', 3, 'UTC') + number, [number, 1.5], ['a', 'ü'], "
        "number / 8, map('maker', number + 0.5) FROM numbers(90)"
    )
    ours, theirs = desk(), desk(feasts_own=True)
    found = []
    for store in (theirs, ours):
        store.apply(odd_view(keys))
        redis.flushall()
        store.materialize(EVER, T0, feature_views=["odd"])
        found.append(rows_of(redis, with_known=False))
    assert len(found[0]) == {3: 30, 1: 5, 0: 1}[len(keys)]
    assert found[1] == found[0]


def test_text_that_is_no_utf8_is_refused_for_a_string(
    desk: Callable[..., FeatureStore], clickhouse: Client, redis: Redis
) -> None:
    clickhouse.command(
        "CREATE TABLE odd (id Int64, at DateTime, name String) ENGINE = MergeTree ORDER BY id"
    )
    clickhouse.command("INSERT INTO odd VALUES (1, '2021-06-01 00:00:00', unhex('ff'))")
    entity = Entity(name="id", join_keys=["id"], value_type=ValueType.INT64)
    source = ClickHouseSource(table="odd", timestamp_field="at")
    store = desk()

    def view(kind: Any) -> list[Any]:
        fields = [Field(name="id", dtype=Int64), Field(name="name", dtype=kind)]
        return [entity, FeatureView(name="odd", entities=[entity], schema=fields, source=source)]

    store.apply(view(String))
    with pytest.raises(InvalidInput, match="feature name to fit its declared type STRING"):
        store.materialize(EVER, T0, feature_views=["odd"])
    store.apply(view(Bytes))
    store.materialize(EVER, T0, feature_views=["odd"])
    [row] = rows_of(redis).values()
    assert b"\n\x01\xff" in row.values()
