"""A number that its declared type would make another one is refused, never bent."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from clickhouse_connect.driver.client import Client
from feast import Entity, FeatureStore, FeatureView, Field, ValueType
from feast.types import Array, Bool, Float32, Float64
from hypothesis import given
from hypothesis import strategies as st
from online_rows import EVER, T0, rows_of
from redis import Redis

from atlas.errors import InvalidInput
from atlas.offline import ClickHouseSource
from atlas.online.materialisation.number_fit import bent
from atlas.serving import DEPTH_TAG

Desk = Callable[..., FeatureStore]
CASES = [
    ("Float64", "1e300", Float32, "1e+300"),
    ("UInt64", "9007199254740993", Float64, "9007199254740993"),
    ("Nullable(Int64)", "9007199254740993", Float64, "9007199254740993"),
    ("Int64", "9223372036854775807", Float64, "9223372036854775807"),
    ("Int32", "16777217", Float32, "16777217"),
    ("UInt8", "2", Bool, "2"),
    ("Array(Float64)", "[1, 1e300]", Array(Float32), "1e+300"),
    ("Decimal(60, 0)", "toDecimal256('1' || repeat('0', 40), 0)", Float32, "Decimal"),
]


def view(kind: Any, *, depth: int = 0) -> list[Any]:
    entity = Entity(name="id", join_keys=["id"], value_type=ValueType.STRING)
    source = ClickHouseSource(table="odd", timestamp_field="at", field_mapping={"stored": "number"})
    fields = [Field(name="number", dtype=kind)]
    tags = {DEPTH_TAG: str(depth)} if depth else {}
    return [
        entity,
        FeatureView(name="odd", entities=[entity], schema=fields, source=source, tags=tags),
    ]


@pytest.mark.parametrize(("column", "value", "kind", "told"), CASES)
@pytest.mark.parametrize("depth", [0, 2])
def test_it_is_refused_by_view_column_and_value(
    desk: Desk,
    clickhouse: Client,
    redis: Redis,
    column: str,
    value: str,
    kind: Any,
    told: str,
    depth: int,
) -> None:
    if depth and isinstance(kind, Array):
        pytest.skip("a sequence has no lists")
    clickhouse.command(
        f"CREATE TABLE odd (id String, at DateTime, stored {column}) ENGINE = MergeTree ORDER BY id"
    )
    clickhouse.command(f"INSERT INTO odd SELECT 'A', '2021-06-01 00:00:00', {value}")
    store = desk()
    store.apply(view(kind, depth=depth))
    with pytest.raises(InvalidInput, match="feature number to fit its declared type") as found:
        store.materialize(EVER, T0, feature_views=["odd"])
    for part in (f"found {told}", "column stored of view odd", "Correct the declared type"):
        assert part in str(found.value)
    assert rows_of(redis) == {}
    assert list(redis.scan_iter(b"atlas:history:*")) == []


@given(
    st.sampled_from([np.int8, np.uint8, np.int32, np.uint32, np.int64, np.uint64]),
    st.sampled_from(["DOUBLE", "FLOAT", "BOOL"]),
    st.data(),
)
def test_an_integer_is_refused_exactly_if_it_would_be_another(
    kind: Any, type_name: str, data: st.DataObject
) -> None:
    ends = np.iinfo(kind)
    near = [0, 1, 2, *(side * 2**n + d for n in range(65) for d in (-1, 0, 1) for side in (-1, 1))]
    number = data.draw(
        st.one_of(
            st.integers(int(ends.min), int(ends.max)),
            st.sampled_from([n for n in near if ends.min <= n <= ends.max]),
        )
    )
    stays = {
        "DOUBLE": lambda: int(float(number)) == number,
        "FLOAT": lambda: int(np.float32(number)) == number,
        "BOOL": lambda: number in (0, 1),
    }[type_name]()
    column = pa.array([None, 1, number], pa.from_numpy_dtype(kind))
    assert bent(column, type_name) == (None if stays else number)


def test_a_float_may_round_and_be_infinite_but_not_become_so() -> None:
    largest = float(np.finfo(np.float32).max)
    fits = pa.array([0.1, None, float("nan"), float("inf"), -float("inf"), 1e-300, largest])
    assert bent(fits, "FLOAT") is None
    assert bent(pa.array([largest, -largest * 1.1]), "FLOAT") == -largest * 1.1
    assert bent(pa.array([1e300]), "DOUBLE") is None
