"""Values and keys of every kind: what Feast writes and reads, the reader and the writer do too."""

import asyncio
import math
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from feast import Entity, FeatureStore, FeatureView, Field, ValueType
from feast import types as feast_types
from feast.protos.feast.serving.ServingService_pb2 import FieldStatus
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.protos.feast.types.Value_pb2 import Value
from feast.type_map import python_values_to_proto_values
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis import Redis

from atlas.bus import connect_async, set_replay
from atlas.clock import ReplayState, to_micros
from atlas.errors import FeatureMismatch, InvalidInput
from atlas.offline import ClickHouseSource
from atlas.online import OnlineReader, OnlineWriter, Status, Vectors, compile_plan
from atlas.online.values import IN_FLOAT64, decode, encode
from atlas.serving import ReadPlan, ValueKind

NOW = datetime(2021, 6, 1, 12, tzinfo=UTC)
NOW_US = to_micros(NOW)
TTL = timedelta(seconds=10)

# Feast writes an empty text or list as null or as itself, by what else is in the column.
SCALARS: dict[ValueKind, st.SearchStrategy[Any]] = {
    ValueKind.DOUBLE: st.floats(),
    ValueKind.FLOAT: st.floats(width=32),
    ValueKind.INT32: st.integers(-(2**31), 2**31 - 1),
    ValueKind.INT64: st.integers(-(2**63), 2**63 - 1),
    ValueKind.BOOL: st.booleans(),
    ValueKind.STRING: st.text(min_size=1, max_size=300),
    ValueKind.BYTES: st.binary(min_size=1, max_size=300),
    ValueKind.UNIX_TIMESTAMP: st.datetimes(
        datetime(1950, 1, 1), datetime(2200, 1, 1), timezones=st.just(UTC)
    ),
}
FEAST_TYPE = {
    ValueKind.DOUBLE: feast_types.Float64,
    ValueKind.FLOAT: feast_types.Float32,
    ValueKind.INT32: feast_types.Int32,
    ValueKind.INT64: feast_types.Int64,
    ValueKind.BOOL: feast_types.Bool,
    ValueKind.STRING: feast_types.String,
    ValueKind.BYTES: feast_types.Bytes,
    ValueKind.UNIX_TIMESTAMP: feast_types.UnixTimestamp,
}
# Without NaN, which Feast takes for a null inside a list or not, by kind.
LISTS = {
    ValueKind(f"{kind}_list"): st.lists(
        values.filter(lambda value: value == value),
        min_size=1,
        max_size=40,
    )
    for kind, values in SCALARS.items()
}
KINDS = (*SCALARS, *LISTS)
VALUES = {kind: st.none() | values for kind, values in (SCALARS | LISTS).items()}
KEYS = st.tuples(
    st.text(max_size=20), st.integers(-(2**63), 2**63 - 1), st.integers(-(2**31), 2**31 - 1)
)
# An age in microseconds, around the end of the time to live.
AGES = st.integers(-2, 2).map(lambda off: TTL // timedelta(microseconds=1) + off)
ROWS = st.dictionaries(
    KEYS, st.tuples(AGES, st.tuples(*(VALUES[kind] for kind in KINDS))), min_size=1, max_size=4
)
checked = settings(
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def feast_type(kind: ValueKind) -> Any:
    if kind in SCALARS:
        return FEAST_TYPE[kind]
    return feast_types.Array(FEAST_TYPE[ValueKind(kind.removesuffix("_list"))])


@pytest.fixture
def wide(project: Callable[..., FeatureStore]) -> FeatureStore:
    """A project with a view of a feature of each kind, under three join keys."""
    store = project()
    entities = [
        Entity(name=name, join_keys=[name], value_type=value_type)
        # Not in the order in which Feast sorts them.
        for name, value_type in (
            ("venue", ValueType.STRING),
            ("account", ValueType.INT64),
            ("leg", ValueType.INT32),
        )
    ]
    view = FeatureView(
        name="wide",
        entities=entities,
        schema=[
            Field(name="venue", dtype=feast_types.String),
            Field(name="account", dtype=feast_types.Int64),
            Field(name="leg", dtype=feast_types.Int32),
            *(Field(name=f"a_{kind}", dtype=feast_type(kind)) for kind in KINDS),
        ],
        source=ClickHouseSource(
            table="wide", timestamp_field="event_timestamp", created_timestamp_column="known_at"
        ),
        ttl=TTL,
    )
    store.apply([*entities, view])
    return store


def read(port: int, plan: ReadPlan, keys: list[Any], now: datetime = NOW) -> Vectors:
    async def once() -> Vectors:
        async with connect_async(port=port) as redis:
            return await OnlineReader(redis, plan).read(keys, now=now)

    return asyncio.run(once())


def feasts_rows(store: FeatureStore, rows: dict[Any, Any]) -> list[Any]:
    columns = [
        python_values_to_proto_values(
            [values[at] for _, values in rows.values()],
            feast_type(kind).to_value_type(),
        )
        for at, kind in enumerate(KINDS)
    ]
    names = [f"a_{kind}" for kind in KINDS]
    return [
        (
            EntityKey(
                join_keys=["venue", "account", "leg"],
                entity_values=[
                    Value(string_val=venue),
                    Value(int64_val=account),
                    Value(int32_val=leg),
                ],
            ),
            dict(zip(names, cells, strict=True)),
            NOW - timedelta(microseconds=age),
            NOW,
        )
        for ((venue, account, leg), (age, _)), *cells in zip(rows.items(), *columns, strict=True)
    ]


def as_feast_says(vectors: Vectors, plan: ReadPlan) -> dict[str, list[Any]]:
    """The values as `to_dict()` gives them."""
    answer = {}
    for at, (name, kind) in enumerate(zip(plan.features, plan.kinds, strict=True)):
        if kind in IN_FLOAT64:
            column = [None if math.isnan(v) else v for v in vectors.values[:, at].tolist()]
        else:
            column = vectors.columns[name]
        answer[name] = column
    return answer


STATUS = {
    FieldStatus.PRESENT: Status.PRESENT,
    FieldStatus.NULL_VALUE: Status.NULL,
    FieldStatus.OUTSIDE_MAX_AGE: Status.STALE,
    FieldStatus.NOT_FOUND: Status.MISSING,
}


@checked
@given(rows=ROWS, unknown=KEYS)
def test_the_reader_gives_feasts_values_and_statuses_of_every_kind(
    wide: FeatureStore, redis: Redis, redis_port: int, rows: dict[Any, Any], unknown: Any
) -> None:
    redis.flushall()
    set_replay(redis, ReplayState(NOW_US, 0, 1.0, NOW_US))
    plan = compile_plan(wide, "wide")
    view = wide.get_feature_view("wide")
    wide._get_provider().online_write_batch(wide.config, view, feasts_rows(wide, rows), None)
    keys = [*rows, unknown, next(iter(rows))]
    response = wide.get_online_features(
        [f"wide:{name}" for name in plan.features],
        [dict(zip(plan.join_keys, key, strict=True)) for key in keys],
    )
    ours = read(redis_port, plan, keys)
    theirs = response.to_dict()
    assert repr(as_feast_says(ours, plan)) == repr(
        {
            name: [float(v) if kind in IN_FLOAT64 and v is not None else v for v in theirs[name]]
            for name, kind in zip(plan.features, plan.kinds, strict=True)
        }
    )
    statuses = dict(
        zip(response.proto.metadata.feature_names.val, response.proto.results, strict=True)
    )
    assert ours.status.T.tolist() == [
        [STATUS[status] for status in statuses[name].statuses] for name in plan.features
    ]


@checked
@given(rows=ROWS)
def test_the_writer_writes_feasts_bytes_of_every_kind(
    wide: FeatureStore, redis: Redis, rows: dict[Any, Any]
) -> None:
    plan = compile_plan(wide, "wide")
    view = wide.get_feature_view("wide")
    redis.flushall()
    wide._get_provider().online_write_batch(wide.config, view, feasts_rows(wide, rows), None)
    theirs = {key: redis.hgetall(key) for key in redis.scan_iter()}
    redis.flushall()
    columns = {
        name: [values[at] for _, values in rows.values()] for at, name in enumerate(plan.features)
    }
    OnlineWriter(redis, plan).write(
        list(rows),
        [NOW_US - age for age, _ in rows.values()],
        [NOW_US] * len(rows),
        np.empty((len(rows), len(KINDS))),
        columns,
    )
    assert {key: redis.hgetall(key) for key in redis.scan_iter()} == theirs


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_written_of_a_kind_is_read_again(kind: ValueKind) -> None:
    element = ValueKind(kind.removesuffix("_list"))
    some = {
        ValueKind.DOUBLE: -0.0,
        ValueKind.FLOAT: 0.5,
        ValueKind.INT32: -1,
        ValueKind.INT64: 2**53 + 1,
        ValueKind.BOOL: False,
        ValueKind.STRING: "",
        ValueKind.BYTES: b"\r\n",
        ValueKind.UNIX_TIMESTAMP: NOW,
    }[element]
    values = [[], [some, some]] if kind in LISTS else [some]
    assert repr([decode(kind, cell) for cell in encode(kind, values)]) == repr(values)


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (ValueKind.INT32, 2**31),
        (ValueKind.INT32, 0.5),
        (ValueKind.INT64, -(2**63) - 1),
        (ValueKind.INT64, "1"),
        (ValueKind.BOOL, 2),
        (ValueKind.STRING, b"x"),
        (ValueKind.BYTES, "x"),
        (ValueKind.DOUBLE, "x"),
        (ValueKind.FLOAT, 1e300),
        (ValueKind.UNIX_TIMESTAMP, "2021"),
        (ValueKind.INT64_LIST, [None]),
        (ValueKind.DOUBLE_LIST, 1.0),
    ],
)
def test_a_value_of_another_kind_is_not_written(kind: ValueKind, value: Any) -> None:
    with pytest.raises(InvalidInput, match=f"Expected a value of kind {kind}"):
        encode(kind, [value])


@pytest.mark.parametrize("kind", KINDS)
def test_a_feature_of_another_kind_is_named_and_not_read(
    kind: ValueKind, wide: FeatureStore, redis: Redis, redis_port: int
) -> None:
    other = ValueKind.STRING if kind is not ValueKind.STRING else ValueKind.BYTES_LIST
    plan = replace(compile_plan(wide, "wide"), features=("here",), kinds=(other,))
    value: Any = "text" if other is ValueKind.STRING else [b"bytes"]
    key = ("X", 1, 2)
    OnlineWriter(redis, plan).write([key], [NOW_US], [NOW_US], np.empty((1, 1)), {"here": [value]})
    with pytest.raises(FeatureMismatch, match=f"have in Redis here as {kind};"):
        read(redis_port, replace(plan, kinds=(kind,)), [key])


@pytest.mark.parametrize(
    "key",
    ["X", ("X", 1), ("X", 1, 2, 3), (b"X", 1, 2), ("X", "1", 2), ("X", 1, 2**31), ("X", True, 2)],
)
def test_a_key_of_another_kind_is_refused(
    key: Any, wide: FeatureStore, redis: Redis, redis_port: int
) -> None:
    plan = compile_plan(wide, "wide")
    known = ("X", 1, 2)
    columns = {name: [None] for name in plan.features}
    OnlineWriter(redis, plan).write([known], [NOW_US], [NOW_US], np.empty((1, len(KINDS))), columns)
    with pytest.raises(InvalidInput):
        read(redis_port, plan, [known, key])


def test_a_feature_that_float64_cannot_carry_needs_its_column(
    wide: FeatureStore, redis: Redis
) -> None:
    plan = compile_plan(wide, "wide")
    with pytest.raises(InvalidInput, match="a_int64 in columns"):
        OnlineWriter(redis, plan).write(
            [("X", 1, 2)], [NOW_US], [NOW_US], np.zeros((1, len(KINDS)))
        )


def test_a_timestamp_feature_has_whole_seconds_and_an_event_time_microseconds(
    wide: FeatureStore, redis: Redis, redis_port: int
) -> None:
    plan = replace(compile_plan(wide, "wide"), features=("at",), kinds=(ValueKind.UNIX_TIMESTAMP,))
    event = NOW - timedelta(microseconds=1)
    OnlineWriter(redis, plan).write(
        [("X", 1, 2)], [to_micros(event)], [NOW_US], np.empty((1, 1)), {"at": [event]}
    )
    found = read(redis_port, plan, [("X", 1, 2)])
    assert (found.columns["at"], found.event_ts.tolist()) == (
        [NOW - timedelta(seconds=1)],
        [NOW_US - 1],
    )
