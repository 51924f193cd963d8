"""Every column type, through every way in and out: history, both pulls, and writing back."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest
from clickhouse_connect.driver.client import Client
from feast import FeatureStore, FeatureView, ValueType

from atlas.errors import InvalidInput
from atlas.offline import ClickHouseOfflineStore, ClickHouseSource
from atlas.offline.feast_types import feast_type

DAY = datetime(2021, 1, 1, tzinfo=UTC)
UUIDS = ["61f0c404-5cb3-11e7-907b-a6006ad3dba0", "00000000-0000-0000-0000-000000000000"]


@dataclass(frozen=True)
class Case:
    """A column type, two values in SQL, and what they are to Arrow and to Feast."""

    column: str
    literals: tuple[str, str]
    arrow: pa.DataType
    values: tuple[Any, Any]
    feast: ValueType

    def __str__(self) -> str:
        return self.column


def micros(moment: str) -> datetime:
    return datetime.fromisoformat(moment).replace(tzinfo=UTC)


def nanos(moment: str) -> pd.Timestamp:
    return pd.Timestamp(moment, tz="UTC")


def integers(sign: str, bits: int, feast: ValueType) -> Case:
    least, most = (0, 2**bits - 1) if sign == "U" else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    kind = getattr(pa, f"{sign.lower()}int{bits}")()
    return Case(f"{sign}Int{bits}", (str(least), str(most)), kind, (least, most), feast)


SCALARS = [
    *(integers("", bits, ValueType.INT32) for bits in (8, 16, 32)),
    *(integers("U", bits, ValueType.INT32) for bits in (8, 16)),
    *(integers(*wide, ValueType.INT64) for wide in (("U", 32), ("", 64), ("U", 64))),
    *(
        Case(
            kind,
            (f"to{kind}('{least}')", f"to{kind}('{most}')"),
            pa.string(),
            (str(least), str(most)),
            ValueType.STRING,
        )
        for kind, least, most in (
            ("Int128", -(2**127), 2**127 - 1),
            ("UInt128", 0, 2**128 - 1),
            ("Int256", -(2**255), 2**255 - 1),
            ("UInt256", 0, 2**256 - 1),
        )
    ),
    Case(
        "Float32",
        ("0.1", "-inf"),
        pa.float32(),
        (0.10000000149011612, -float("inf")),
        ValueType.FLOAT,
    ),
    Case("Float64", ("0.1", "1e308"), pa.float64(), (0.1, 1e308), ValueType.DOUBLE),
    Case("BFloat16", ("1.5", "-2"), pa.float32(), (1.5, -2.0), ValueType.FLOAT),
    Case("Bool", ("true", "false"), pa.bool_(), (True, False), ValueType.BOOL),
    Case("String", ("'a\\'b'", "''"), pa.string(), ("a'b", ""), ValueType.STRING),
    Case("LowCardinality(String)", ("'a'", "'b'"), pa.string(), ("a", "b"), ValueType.STRING),
    Case("FixedString(4)", ("'ab'", "'abcd'"), pa.string(), ("ab", "abcd"), ValueType.STRING),
    Case(
        "Enum8('buy' = 1, 'it\\'s, (x)' = -2)",
        ("'buy'", "'it\\'s, (x)'"),
        pa.string(),
        ("buy", "it's, (x)"),
        ValueType.STRING,
    ),
    Case("Enum16('a' = 1000, 'b' = 2)", ("'a'", "'b'"), pa.string(), ("a", "b"), ValueType.STRING),
    Case("UUID", (f"'{UUIDS[0]}'", f"'{UUIDS[1]}'"), pa.string(), tuple(UUIDS), ValueType.STRING),
    Case("IPv4", ("'1.2.3.4'", "'0.0.0.0'"), pa.string(), ("1.2.3.4", "0.0.0.0"), ValueType.STRING),
    Case("IPv6", ("'::1'", "'2001:db8::2'"), pa.string(), ("::1", "2001:db8::2"), ValueType.STRING),
    *(
        Case(
            f"Decimal({digits}, {places})",
            (f"'{value}'", "'-1.5'"),
            (pa.decimal128 if digits <= 38 else pa.decimal256)(digits, places),
            (Decimal(value), Decimal("-1.5")),
            ValueType.DECIMAL,
        )
        for digits, places, value in (
            (9, 2, "1234567.89"),
            (18, 4, "12345678901234.5678"),
            (38, 18, "12345678901234567890.123456789012345678"),
            (76, 38, "1" * 38 + "." + "9" * 38),
        )
    ),
    Case(
        "Date",
        ("'2021-01-02'", "'2149-06-06'"),
        pa.date32(),
        (date(2021, 1, 2), date(2149, 6, 6)),
        ValueType.UNIX_TIMESTAMP,
    ),
    Case(
        "Date32",
        ("'1900-01-01'", "'2299-12-31'"),
        pa.date32(),
        (date(1900, 1, 1), date(2299, 12, 31)),
        ValueType.UNIX_TIMESTAMP,
    ),
    *(
        Case(
            kind,
            ("'2021-01-02 03:04:05'", "'2100-02-07 06:28:15'"),
            pa.timestamp("us", "UTC"),
            seconds,
            ValueType.UNIX_TIMESTAMP,
        )
        for kind, seconds in (
            ("DateTime('UTC')", (micros("2021-01-02T03:04:05"), micros("2100-02-07T06:28:15"))),
            (
                "DateTime('Asia/Tokyo')",
                (micros("2021-01-01T18:04:05"), micros("2100-02-06T21:28:15")),
            ),
        )
    ),
    *(
        Case(
            f"DateTime64({digits}, 'UTC')",
            (f"'2021-01-02 03:04:05.{'123456789'[:digits] or '0'}'", "'1970-01-01 00:00:00'"),
            pa.timestamp(unit, "UTC"),
            (nanos(f"2021-01-02 03:04:05.{'123456789'[:digits] or '0'}"), nanos("1970-01-01")),
            ValueType.UNIX_TIMESTAMP,
        )
        for digits, unit in enumerate(["s", "ms", "ms", "ms", "us", "us", "us", "ns", "ns", "ns"])
    ),
    Case(
        "DateTime64(6, 'America/New_York')",
        ("'2021-01-02 03:04:05.123456'", "'2021-07-02 03:04:05'"),
        pa.timestamp("us", "UTC"),
        (micros("2021-01-02T08:04:05.123456"), micros("2021-07-02T07:04:05")),
        ValueType.UNIX_TIMESTAMP,
    ),
]
CONTAINERS = [
    Case(
        "Array(Float64)",
        ("[1, 2.5]", "[]"),
        pa.list_(pa.float64()),
        ([1.0, 2.5], []),
        ValueType.DOUBLE_LIST,
    ),
    Case(
        "Array(Nullable(Int64))",
        ("[9007199254740993, NULL]", "[NULL]"),
        pa.list_(pa.int64()),
        ([9007199254740993, None], [None]),
        ValueType.INT64_LIST,
    ),
    Case(
        "Array(Enum8('a' = 1))",
        ("['a']", "[]"),
        pa.list_(pa.string()),
        (["a"], []),
        ValueType.STRING_LIST,
    ),
    Case(
        "Array(UUID)",
        (f"['{UUIDS[0]}']", "[]"),
        pa.list_(pa.string()),
        ([UUIDS[0]], []),
        ValueType.STRING_LIST,
    ),
    Case(
        "Array(Bool)",
        ("[true]", "[false]"),
        pa.list_(pa.bool_()),
        ([True], [False]),
        ValueType.BOOL_LIST,
    ),
    Case(
        "Array(DateTime('Asia/Tokyo'))",
        ("['2021-01-01 09:00:00']", "[]"),
        pa.list_(pa.timestamp("us", "UTC")),
        ([DAY], []),
        ValueType.UNIX_TIMESTAMP_LIST,
    ),
    Case(
        "Array(Decimal(18, 4))",
        ("['1.2345']", "[]"),
        pa.list_(pa.decimal128(18, 4)),
        ([Decimal("1.2345")], []),
        ValueType.DECIMAL_LIST,
    ),
    Case(
        "Array(Array(Int32))",
        ("[[1], [2, 3]]", "[[]]"),
        pa.list_(pa.list_(pa.int32())),
        ([[1], [2, 3]], [[]]),
        ValueType.VALUE_LIST,
    ),
    Case(
        "Tuple(side Enum8('buy' = 1), `at time` DateTime('UTC'))",
        ("('buy', '2021-01-01 00:00:00')", "('buy', '2021-01-01 00:00:00')"),
        pa.struct([("side", pa.string()), ("at time", pa.timestamp("us", "UTC"))]),
        ({"side": "buy", "at time": DAY}, {"side": "buy", "at time": DAY}),
        ValueType.STRUCT,
    ),
    Case(
        "Array(Tuple(price Float64, size UInt32))",
        ("[(1.5, 2)]", "[]"),
        pa.list_(pa.struct([("price", pa.float64()), ("size", pa.uint32())])),
        ([{"price": 1.5, "size": 2}], []),
        ValueType.STRUCT_LIST,
    ),
    Case(
        "Map(String, Float64)",
        ("{'a': 1.5}", "{}"),
        pa.map_(pa.string(), pa.float64()),
        ([("a", 1.5)], []),
        ValueType.MAP,
    ),
]
NULLABLE = [
    Case(
        f"LowCardinality(Nullable({case.column[15:-1]}))"
        if case.column.startswith("LowCardinality")
        else f"Nullable({case.column})",
        (case.literals[1], "NULL"),
        case.arrow,
        (case.values[1], None),
        case.feast,
    )
    for case in SCALARS
]
CASES = [*SCALARS, *NULLABLE, *CONTAINERS]


def same_type(found: pa.DataType, wanted: pa.DataType) -> bool:
    """Compare types, but for whether what is inside may be null."""
    if found.num_fields != wanted.num_fields:
        return False
    if pa.types.is_map(wanted):
        return same_type(found.key_type, wanted.key_type) and same_type(
            found.item_type, wanted.item_type
        )
    if found.num_fields:
        return found.id == wanted.id and all(
            same_type(found.field(n).type, wanted.field(n).type) for n in range(wanted.num_fields)
        )
    return bool(found == wanted)


@pytest.fixture
def typed(clickhouse: Client) -> Callable[[Case], ClickHouseSource]:
    """Make a table with the case's two values, and an empty twin of it."""

    def make(case: Case) -> ClickHouseSource:
        declared = (
            f"(symbol String, event_timestamp DateTime64(6, 'UTC'), v {case.column}) "
            "ENGINE = MergeTree ORDER BY symbol"
        )
        for table in ("typed", "twin"):
            clickhouse.command(f"CREATE TABLE {table} {declared}")
        first, second = case.literals
        clickhouse.command(
            f"INSERT INTO typed VALUES ('a', '2021-01-01', {first}), ('b', '2021-01-01', {second})"
        )
        return ClickHouseSource(table="typed", timestamp_field="event_timestamp")

    return make


def pulled(store: FeatureStore, source: ClickHouseSource, *, latest: bool) -> pa.Table:
    pull = (
        ClickHouseOfflineStore.pull_latest_from_table_or_query
        if latest
        else ClickHouseOfflineStore.pull_all_from_table_or_query
    )
    job = pull(store.config, source, ["symbol"], ["v"], "event_timestamp", None, DAY, DAY)
    return job.to_arrow().sort_by("symbol")


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_column_of_each_type_is_what_it_says(case: Case) -> None:
    assert feast_type(case.column) is case.feast


@pytest.mark.parametrize("case", CASES, ids=str)
def test_each_type_is_read_and_written_back_as_it_was(
    store: FeatureStore,
    clickhouse: Client,
    typed: Callable[[Case], ClickHouseSource],
    case: Case,
) -> None:
    source = typed(case)
    view = FeatureView(name="typed", entities=[], source=source)
    asked = pd.DataFrame({"symbol": ["a", "b", "c"], "event_timestamp": [DAY] * 3})
    symbol = symbol_entity()
    view = FeatureView(name="typed", entities=[symbol], source=source)
    store.apply([symbol, view])
    history = store.get_historical_features(asked, ["typed:v"]).to_arrow()
    latest, whole = pulled(store, source, latest=True), pulled(store, source, latest=False)

    assert history["v"].to_pylist() == [*case.values, None]
    assert same_type(history.schema.field("v").type, case.arrow)
    if not case.column.startswith("Map("):
        assert latest["v"].to_pylist() == whole["v"].to_pylist() == list(case.values)
        assert same_type(latest.schema.field("v").type, case.arrow)
        assert same_type(whole.schema.field("v").type, case.arrow)

    view.batch_source = ClickHouseSource(table="twin", timestamp_field="event_timestamp")
    ClickHouseOfflineStore.offline_write_batch(store.config, view, history.slice(0, 2), None)
    text = "SELECT * FROM {} ORDER BY symbol FORMAT TSV"
    assert clickhouse.raw_query(text.format("twin")) == clickhouse.raw_query(text.format("typed"))


def symbol_entity() -> Any:
    from feast import Entity

    return Entity(name="symbol", join_keys=["symbol"], value_type=ValueType.STRING)


@pytest.mark.parametrize(
    "column", ["AggregateFunction(sum, Float64)", "Dynamic", "Tuple(Int32, String)", "Time"]
)
def test_a_type_that_feast_has_none_for_is_refused_with_a_way_out(column: str) -> None:
    with pytest.raises(InvalidInput, match="Convert the column in a query"):
        feast_type(column)
