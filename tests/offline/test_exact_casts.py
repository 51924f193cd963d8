"""Values that go into a column exactly, or not at all."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest

from atlas.errors import InvalidInput
from atlas.offline.exact_casts import exact

DAY = datetime(2021, 1, 1, tzinfo=UTC)
ID = "61f0c404-5cb3-11e7-907b-a6006ad3dba0"
NANOS = pa.array([1_000_000_001], pa.timestamp("ns", "UTC"))


@pytest.mark.parametrize(
    ("column", "values", "expected"),
    [
        ("Float64", pa.array([1, 2**53]), [1.0, float(2**53)]),
        ("Float32", pa.array([0.1]), [0.10000000149011612]),
        ("Float64", pa.array([Decimal("0.1")]), [0.1]),
        ("Nullable(Int64)", pa.array([3.0, None]), [3, None]),
        ("UInt8", pa.array([255]), [255]),
        ("Bool", pa.array([1, 0]), [True, False]),
        ("DateTime64(6, 'UTC')", pa.array([DAY.replace(tzinfo=None)]), [DAY]),
        ("DateTime", pa.array([DAY]), [DAY]),
        ("Date", pa.array([DAY]), [DAY.date()]),
        ("Decimal(18, 4)", pa.array(["1.5"]), [Decimal("1.5000")]),
        ("Decimal(18, 4)", pa.array([7]), [Decimal("7.0000")]),
        ("UInt256", pa.array([7]), ["7"]),
        (
            "LowCardinality(Nullable(String))",
            pa.array(["a", None]).dictionary_encode(),
            ["a", None],
        ),
        ("Array(Float32)", pa.array([[1], [], [2, 3]]), [[1.0], [], [2.0, 3.0]]),
        ("Map(String, Float64)", pa.array([{"a": 1.0}]), [[("a", 1.0)]]),
        ("String", pa.array([{"a": 1, "b": None}]), ['{"a": 1}']),
        ("JSON", pa.array(['{"a": 1}']), ['{"a": 1}']),
        (r"Enum8('a, b' = 1, 'it\'s' = 2)", pa.array(["it's", "a, b"]), ["it's", "a, b"]),
        ("Nullable(Enum16('a' = 1))", pa.array([None, "a"]), [None, "a"]),
        ("UUID", pa.array([ID, ID.upper()]), [ID, ID.upper()]),
        ("IPv6", pa.array(["::1", "10.0.0.1"]), ["::1", "10.0.0.1"]),
        ("Nullable(Float64)", pa.nulls(2), [None, None]),
    ],
    ids=str,
)
def test_a_value_that_a_column_can_hold_is_kept(
    column: str, values: pa.Array, expected: list[Any]
) -> None:
    assert exact(values, column).to_pylist() == expected


@pytest.mark.parametrize(
    ("column", "values", "told"),
    [
        ("Float64", pa.array(["1.5"]), "string. Convert"),
        ("Float64", pa.array([2**53 + 1]), "9007199254740993"),
        ("Float32", pa.array([1e300]), "too big for Float32"),
        ("Float64", pa.array([1.0, None]), "1 missing"),
        ("Int32", pa.array([2**31]), "2147483648"),
        ("UInt8", pa.array([-1]), "-1"),
        ("Int64", pa.array([1.5]), "1.5"),
        ("Int64", pa.array(["1"]), "string. Convert"),
        ("Bool", pa.array([2]), "other than 0 and 1"),
        ("String", pa.array([1]), "int64. Convert"),
        ("Enum8('a' = 1)", pa.array([1]), "int64. Convert"),
        ("Enum8('a' = 1, 'b' = 2)", pa.array(["a", "c"]), "'c', not one of a, b"),
        ("UUID", pa.array([ID, "7"]), "'7', not a UUID"),
        ("IPv4", pa.array(["10.0.0.1", "::1"]), "'::1', not IPv4"),
        ("Decimal(18, 4)", pa.array([0.1]), "double. Convert"),
        ("Decimal(18, 4)", pa.array([Decimal("1.23456")]), "data loss"),
        ("DateTime", NANOS, "1000000001"),
        ("DateTime64(6)", NANOS, "1000000001"),
        ("DateTime64(8)", NANOS, "more digits than"),
        ("DateTime", pa.array([DAY.replace(year=2107)]), "2107-01-01 00:00:00, outside 1970"),
        ("DateTime64(6)", pa.array([DAY.replace(year=1800)]), "outside 1900-01-01"),
        ("DateTime64(9)", pa.array([DAY.replace(year=2290)], pa.timestamp("us")), "out of bounds"),
        ("DateTime64(6)", pa.array(["2021-01-01"]), "string. Convert"),
        ("Date", pa.array([DAY.replace(hour=1)]), "within a day"),
        ("Array(UInt8)", pa.array([[1, 256]]), "256"),
        ("Array(UInt8)", pa.array([[1], None]), "1 missing"),
        ("Map(String, UInt8)", pa.array([{"a": 256}]), "256"),
        ("Tuple(a UInt8)", pa.array([{"a": 256}]), "256"),
        ("Tuple(a UInt8)", pa.array([{"b": 1}]), "structs of b for a"),
    ],
    ids=str,
)
def test_a_value_that_would_change_is_refused(column: str, values: pa.Array, told: str) -> None:
    with pytest.raises(InvalidInput, match=told):
        exact(values, column)
