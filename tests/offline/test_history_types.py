"""Keys, times and values of every type, on plain tables: equal means equal, and nothing rounds."""

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from clickhouse_connect.driver.client import Client
from feast import Entity, FeatureStore, FeatureView, Field, ValueType
from feast.types import Float64, String

from atlas.errors import InvalidInput
from atlas.offline import ClickHouseSource

Asked = Callable[..., pd.DataFrame]
KEY = Entity(name="key", join_keys=["key"], value_type=ValueType.STRING)
NOON = pd.Timestamp("2021-01-01 12:00:00", tz="UTC")


def view_of(
    store: FeatureStore, *features: str, ttl: timedelta | None = None, **source: Any
) -> list[str]:
    """Apply a view of table `kept` on `key`, and return its feature references."""
    view = FeatureView(
        name="kept",
        entities=[KEY],
        schema=[Field(name=name, dtype=Float64) for name in features],
        source=ClickHouseSource(table="kept", timestamp_field="at", **source),
        ttl=ttl,
    )
    # Without inference of types, which is not what these tests are about.
    view.entity_columns = [Field(name="key", dtype=String)]
    store.registry.apply_entity(KEY, store.project)
    store.registry.apply_feature_view(view, store.project)
    return [f"kept:{name}" for name in features]


def values_for(
    store: FeatureStore, clickhouse: Client, key_type: str, stored: list[str], keys: Any
) -> list[float | None]:
    """Keep one row a key, valued 0, 1, … in order, and ask for `keys`."""
    clickhouse.command(
        f"CREATE TABLE kept (key {key_type}, at DateTime('UTC'), value Float64) "
        "ENGINE = MergeTree ORDER BY at SETTINGS allow_nullable_key = 1"
    )
    rows = ", ".join(f"({key}, '2021-01-01', {value})" for value, key in enumerate(stored))
    clickhouse.command(f"INSERT INTO kept VALUES {rows}")
    refs = view_of(store, "value")
    entities = pd.DataFrame({"key": keys, "event_timestamp": NOON})
    found: list[float | None] = (
        store.get_historical_features(entities, refs).to_arrow()["value"].to_pylist()
    )
    return found


UUID = "61f0c404-5cb3-11e7-907b-a6006ad3dba0"


@pytest.mark.parametrize(
    ("key_type", "stored", "keys", "expected"),
    [
        ("UInt8", ["1", "255"], np.array([255, 256, -1], "int64"), [1, None, None]),
        ("Int16", ["-1", "2"], np.array([65535, 2], "uint16"), [None, 1]),
        ("UInt64", ["18446744073709551615"], np.array([2**64 - 1], "uint64"), [0]),
        ("Int64", ["9007199254740993"], [9007199254740993, 9007199254740992], [0, None]),
        ("Int64", ["5"], [5.0, 5.5, None], [0, None, None]),
        ("Int64", ["5"], [Decimal("5.00"), Decimal("5.50")], [0, None]),
        ("Int64", ["5"], ["5", "05", "five", ""], [0, None, None, None]),
        ("Int128", ["170141183460469231731687303715884105727"], [str(2**127 - 1)], [0]),
        ("String", ["'5'", "''"], [5, 6], [0, None]),
        ("String", ["'a'", "''"], ["", None, "a "], [1, None, None]),
        ("LowCardinality(Nullable(String))", ["'a'", "NULL"], ["a", None], [0, None]),
        ("Nullable(Int32)", ["1", "NULL"], [1, None], [0, None]),
        ("FixedString(3)", ["'ab'", "'abc'"], ["ab", "abc", "abcd"], [0, 1, None]),
        (
            "Enum8('buy' = 1, 'sell' = 2)",
            ["'buy'", "'sell'"],
            ["sell", "hold", "1"],
            [1, None, None],
        ),
        ("UUID", [f"'{UUID}'"], [UUID, UUID.upper(), "no"], [0, 0, None]),
        ("Bool", ["true", "false"], [True, False, None], [0, 1, None]),
        ("Date", ["'2021-01-01'"], [date(2021, 1, 1), date(1960, 1, 1)], [0, None]),
        (
            "DateTime('UTC')",
            ["'2021-01-01 00:00:00'"],
            pd.to_datetime(["2021-01-01", "2021-01-01 00:00:00.5"], format="ISO8601", utc=True),
            [0, None],
        ),
        ("Decimal(9, 2)", ["5.12"], [Decimal("5.120"), Decimal("5.123")], [0, None]),
        ("IPv4", ["'10.0.0.1'"], ["10.0.0.1", "10.0.0.2", "ten"], [0, None, None]),
        ("String", ["'a'"], pd.Categorical(["a", "b", None]), [0, None, None]),
        ("String", ["'a'"], pd.array(["a", None], "string[pyarrow]"), [0, None]),
        ("Int64", ["7"], pd.array([7, None], "Int64"), [0, None]),
        ("Int64", ["7"], [None, None], [None, None]),
    ],
)
def test_a_key_equals_only_the_same_value(
    store: FeatureStore,
    clickhouse: Client,
    key_type: str,
    stored: list[str],
    keys: Any,
    expected: list[float | None],
) -> None:
    assert values_for(store, clickhouse, key_type, stored, keys) == expected


def test_a_key_that_is_a_list_is_refused(store: FeatureStore, clickhouse: Client) -> None:
    with pytest.raises(InvalidInput, match="key 'key' to hold numbers, text or moments"):
        values_for(store, clickhouse, "String", ["'a'"], [["a"], ["b"]])


@pytest.mark.parametrize(
    ("time_type", "stored", "step"),
    [
        *(
            (
                f"DateTime64({digits}, 'UTC')",
                "'2021-01-01 12:00:00'",
                pd.Timedelta(10 ** (9 - digits)),
            )
            for digits in range(10)
        ),
        ("DateTime64(3, 'America/New_York')", "'2021-01-01 07:00:00'", pd.Timedelta("1ms")),
        ("DateTime('Asia/Tokyo')", "'2021-01-01 21:00:00'", pd.Timedelta("1s")),
        ("DateTime", "1609502400", pd.Timedelta("1s")),
        ("Nullable(DateTime64(6, 'UTC'))", "'2021-01-01 12:00:00'", pd.Timedelta("1us")),
        ("LowCardinality(DateTime)", "1609502400", pd.Timedelta("1s")),
    ],
)
def test_an_event_is_known_from_its_own_moment_on(
    store: FeatureStore, clickhouse: Client, time_type: str, stored: str, step: pd.Timedelta
) -> None:
    clickhouse.command(
        f"CREATE TABLE kept (key String, at {time_type}, seen {time_type}, value Float64) "
        "ENGINE = MergeTree ORDER BY key SETTINGS allow_suspicious_low_cardinality_types = 1",
        settings={"allow_suspicious_low_cardinality_types": 1},
    )
    clickhouse.command(f"INSERT INTO kept VALUES ('a', {stored}, {stored}, 1)")
    refs = view_of(store, "value", "seen", ttl=timedelta(seconds=1))
    second = pd.Timedelta("1s")
    moments = [NOON - pd.Timedelta("1ns"), NOON, NOON + second, NOON + second + pd.Timedelta("1ns")]
    entities = pd.DataFrame({"key": "a", "event_timestamp": moments})
    found = store.get_historical_features(entities, refs).to_arrow()
    assert found["value"].to_pylist() == [None, 1.0, 1.0, None]
    assert found["seen"].cast(pa.timestamp("ns", "UTC")).to_pandas().to_list() == [
        pd.NaT,
        NOON,
        NOON,
        pd.NaT,
    ]
    assert found["event_timestamp"].to_pandas().to_list() == moments


def test_a_day_begins_at_midnight_in_utc(store: FeatureStore, clickhouse: Client) -> None:
    clickhouse.command(
        "CREATE TABLE kept (key String, at Date, value Float64) ENGINE = MergeTree ORDER BY key"
    )
    clickhouse.command("INSERT INTO kept VALUES ('a', '2021-01-01', 1)")
    midnight = pd.Timestamp("2021-01-01", tz="UTC")
    entities = pd.DataFrame(
        {"key": "a", "event_timestamp": [midnight - pd.Timedelta("1ns"), midnight]}
    )
    found = store.get_historical_features(entities, view_of(store, "value")).to_arrow()
    assert found["value"].to_pylist() == [None, 1.0]


@pytest.mark.parametrize(
    "moments",
    [
        pd.Series(pd.to_datetime(["2021-01-01 12:00:00.000000001"])),
        pd.Series(pd.to_datetime(["2021-01-01 13:00:00.000000001"]).tz_localize("Europe/Berlin")),
        pd.Series(
            pd.to_datetime(["2021-01-01 14:00:00.000000001"]).tz_localize(
                timezone(timedelta(hours=2))
            )
        ),
        pd.Series(pd.to_datetime(["2021-01-01 12:00:01"]).astype("datetime64[s]")),
        pd.Series([datetime(2021, 1, 1, 12, 0, 1, tzinfo=timezone(timedelta(0)))], dtype=object),
        pd.Series(["2021-01-01T14:00:01+02:00"], dtype=object),
    ],
)
def test_moments_of_every_zone_and_unit_ask_about_the_same_instant(
    store: FeatureStore, prices: FeatureView, clickhouse: Client, moments: pd.Series
) -> None:
    clickhouse.command("INSERT INTO prices VALUES ('XRP', '2021-01-01 12:00:00', 0, 7, NULL)")
    clickhouse.command("INSERT INTO prices VALUES ('XRP', '2021-01-01 12:00:02', 0, 8, NULL)")
    entities = pd.DataFrame({"symbol": ["XRP"], "event_timestamp": moments})
    found = store.get_historical_features(entities, ["prices:close"]).to_arrow()
    assert found["close"].to_pylist() == [7.0]


@pytest.mark.parametrize("moments", [[1_609_502_400], ["noon"], ["2021"]])
def test_what_is_no_moment_is_refused(
    store: FeatureStore, prices: FeatureView, moments: list[Any]
) -> None:
    entities = pd.DataFrame({"symbol": ["ETH"], "event_timestamp": moments})
    if moments == ["2021"]:
        assert store.get_historical_features(entities, ["prices:close"]).to_arrow().num_rows == 1
        return
    with pytest.raises(InvalidInput, match="hold moments between 1678 and 2262"):
        store.get_historical_features(entities, ["prices:close"])


def test_every_kind_of_value_is_null_where_nothing_is_found(
    store: FeatureStore, clickhouse: Client
) -> None:
    columns = {
        "flag": "Bool",
        "label": "Enum8('up' = 1)",
        "id": "UUID",
        "path": "Array(Int64)",
        "nested": "Array(Array(Nullable(Float64)))",
        "words": "Array(String)",
        "depth": "Map(String, Float64)",
        "pair": "Tuple(bid Float64, ask Float64)",
        "small": "UInt8",
        "day": "Date",
        "text": "LowCardinality(String)",
    }
    described = ", ".join(f"{name} {kind}" for name, kind in columns.items())
    clickhouse.command(
        f"CREATE TABLE kept (key String, at DateTime64(6, 'UTC'), {described}) "
        "ENGINE = MergeTree ORDER BY key"
    )
    clickhouse.command(
        f"INSERT INTO kept VALUES ('a', '2021-01-01', true, 'up', '{UUID}', [1], [[1, NULL], []], "
        "['x', ''], map('b', 1), (1, 2), 3, '2021-01-02', 't')"
    )
    refs = view_of(store, *columns, ttl=timedelta(days=1))
    moments = [NOON, NOON + pd.Timedelta("1d"), NOON]
    entities = pd.DataFrame({"key": ["a", "a", "b"], "event_timestamp": moments})
    found = store.get_historical_features(entities, refs).to_arrow().select(list(columns))
    nothing = dict.fromkeys(columns)
    assert found.to_pylist() == [
        {
            "flag": True,
            "label": "up",
            "id": UUID,
            "path": [1],
            "nested": [[1.0, None], []],
            "words": ["x", ""],
            "depth": [("b", 1.0)],
            "pair": {"bid": 1.0, "ask": 2.0},
            "small": 3,
            "day": date(2021, 1, 2),
            "text": "t",
        },
        nothing,
        nothing,
    ]


def test_an_empty_frame_has_the_types_of_a_full_one(
    store: FeatureStore, prices: FeatureView, asked: Asked
) -> None:
    refs = ["prices:close", "prices:volume"]
    full = store.get_historical_features(asked(("ETH", "00:02:00")), refs).to_arrow()
    empty = store.get_historical_features(asked(("ETH", "00:02:00")).iloc[:0], refs).to_arrow()
    assert (empty.num_rows, empty.schema.types) == (0, full.schema.types)


def test_a_version_of_the_far_future_is_the_latest(store: FeatureStore, clickhouse: Client) -> None:
    clickhouse.command(
        "CREATE TABLE kept (key String, at DateTime64(6, 'UTC'), known DateTime64(6, 'UTC'), "
        "value Float64) ENGINE = MergeTree ORDER BY key"
    )
    clickhouse.command(
        "INSERT INTO kept VALUES ('a', '2021-01-01', '2021-01-01', 1), "
        "('a', '2021-01-01', '2299-12-31', 2), ('a', '2270-01-01', '2021-01-01', 3)"
    )
    refs = view_of(store, "value", created_timestamp_column="known")
    entities = pd.DataFrame({"key": ["a"], "event_timestamp": [NOON]})
    found = store.get_historical_features(entities, refs).to_arrow()
    known = store.get_historical_features(
        entities, refs, filter_by_created_timestamp=True
    ).to_arrow()
    assert (found["value"].to_pylist(), known["value"].to_pylist()) == ([2.0], [1.0])


def test_columns_of_any_dtype_come_back_as_they_were(
    store: FeatureStore, prices: FeatureView, asked: Asked
) -> None:
    entities = asked(("ETH", "00:02:00"), ("BTC", "00:02:00")).assign(
        big=np.array([2**64 - 1, 0], dtype="uint64"),
        day=pd.array([date(2021, 1, 1), None], dtype=pd.ArrowDtype(pa.date32())),
        side=pd.Categorical(["buy", None]),
        note=pd.array(["x", None], dtype=pd.ArrowDtype(pa.large_string())),
        size=[Decimal("1.10"), None],
        path=[[1, 2], None],
        seen=pd.to_datetime(["2021-01-01 01:00", None]).tz_localize("Asia/Tokyo"),
    )
    given = entities.columns.drop(["event_timestamp", "seen"]).to_list()
    found = store.get_historical_features(entities, ["prices:close"]).to_arrow()
    assert found.select(given).equals(pa.Table.from_pandas(entities[given], preserve_index=False))
    assert found["seen"].to_pylist()[0].astimezone(UTC) == datetime(2020, 12, 31, 16, tzinfo=UTC)
