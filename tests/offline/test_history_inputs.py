"""Odd entity rows, bounds and answers of history: taken exactly as meant, or refused clearly."""

from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import UUID

import pandas as pd
import pyarrow as pa
import pytest
from clickhouse_connect.driver.client import Client
from feast import Entity, FeatureStore, FeatureView, Field, ValueType
from feast.types import Int64, String

from atlas.errors import InvalidInput
from atlas.offline import ClickHouseSource, SavedDatasetClickHouseStorage

DAY = datetime(2021, 1, 1, tzinfo=UTC)
BIG = 2**53 + 1


def view(
    store: FeatureStore,
    clickhouse: Client,
    name: str,
    key_type: str,
    key: str,
    value: tuple[str, str] = ("Int64", "7"),
) -> FeatureView:
    """Make a view of one row at midnight, whose feature is called as the view with `_x`."""
    clickhouse.command(
        f"CREATE TABLE {name} (k {key_type}, event_timestamp DateTime64(6, 'UTC'), "
        f"{name}_x {value[0]}) ENGINE = MergeTree ORDER BY tuple()"
    )
    clickhouse.command(f"INSERT INTO {name} VALUES ({key}, '2021-01-01', {value[1]})")
    entity = Entity(name="k", join_keys=["k"], value_type=ValueType.STRING)
    made = FeatureView(
        name=name,
        entities=[entity],
        schema=[
            Field(name="k", dtype=String),
            Field(name=f"{name}_x", dtype=Int64 if value[0] == "Int64" else String),
        ],
        source=ClickHouseSource(table=name, timestamp_field="event_timestamp"),
        ttl=timedelta(0),
    )
    store.apply([entity, made])
    return made


@pytest.mark.parametrize(
    ("key_type", "key"),
    [("Int64", "1"), ("String", "'1'"), ("UUID", "'00000000-0000-0000-0000-000000000005'")],
)
@pytest.mark.parametrize("dtype", ["float64", "object"])
def test_a_frame_of_empty_lists_gives_an_empty_answer_with_every_column(
    store: FeatureStore, clickhouse: Client, key_type: str, key: str, dtype: str
) -> None:
    view(store, clickhouse, "v", key_type, key)
    frame = pd.DataFrame({"k": [], "event_timestamp": []}, dtype=dtype)
    found = store.get_historical_features(frame, ["v:v_x"]).to_arrow()
    assert found.num_rows == 0
    assert found.column_names == ["k", "event_timestamp", "v_x"]
    assert found.schema.field("event_timestamp").type == pa.timestamp("ns", "UTC")
    assert found.schema.field("v_x").type == pa.int64()


@pytest.mark.parametrize("key_type", ["UUID", "String"])
def test_uuid_objects_are_keys_like_their_text(
    store: FeatureStore, clickhouse: Client, key_type: str
) -> None:
    key = UUID(int=5)
    view(store, clickhouse, "v", key_type, f"'{key}'")
    answers = [
        store.get_historical_features(
            pd.DataFrame({"k": keys, "event_timestamp": [DAY] * 3}), ["v:v_x"]
        ).to_arrow()
        for keys in ([key, None, UUID(int=6)], [str(key), None, str(UUID(int=6))])
    ]
    assert answers[0]["v_x"].to_pylist() == [7, None, None]
    assert answers[0] == answers[1]


@pytest.mark.parametrize(
    ("value", "expected", "dtype"), [(BIG, [BIG, pd.NA], "Int64"), (7, [7.0, None], "float64")]
)
def test_a_frame_keeps_long_integers_exact_and_others_as_they_were(
    store: FeatureStore, clickhouse: Client, value: int, expected: list[Any], dtype: str
) -> None:
    view(store, clickhouse, "v", "Int64", "1", ("Int64", str(value)))
    frame = pd.DataFrame({"k": [1, 2], "event_timestamp": [DAY, DAY]})
    found = store.get_historical_features(frame, ["v:v_x"]).to_df()
    pd.testing.assert_series_equal(found["v_x"], pd.Series(expected, dtype=dtype, name="v_x"))
    assert found["k"].tolist() == [1, 2]


@pytest.mark.filterwarnings("ignore:Saving dataset is an experimental:RuntimeWarning")
def test_a_missing_tuple_is_saved_and_read_back_as_missing(
    store: FeatureStore, clickhouse: Client
) -> None:
    view(store, clickhouse, "v", "Int64", "1", ("Tuple(a Int64, b Tuple(c String))", "(1, ('x'))"))
    frame = pd.DataFrame({"k": [1, 2], "event_timestamp": [DAY, DAY]})
    job = store.get_historical_features(frame, ["v:v_x"])
    expected = [{"a": 1, "b": {"c": "x"}}, None]
    assert job.to_arrow()["v_x"].to_pylist() == expected
    saved = store.create_saved_dataset(job, "kept", SavedDatasetClickHouseStorage("kept"))
    assert saved.to_arrow()["v_x"].to_pylist() == expected


def test_a_ranges_ends_may_be_dates_and_nothing_else_that_is_no_moment(
    store: FeatureStore, clickhouse: Client
) -> None:
    view(store, clickhouse, "v", "Int64", "1")
    span: dict[str, Any] = {"start_date": date(2021, 1, 1), "end_date": date(2021, 1, 2)}
    found = store.get_historical_features(None, ["v:v_x"], **span).to_arrow()
    assert found["v_x"].to_pylist() == [7]
    for name in span:
        with pytest.raises(InvalidInput, match=f"{name} to be a datetime or a date; found '2021"):
            store.get_historical_features(None, ["v:v_x"], **{**span, name: "2021-01-01"})


@pytest.mark.parametrize("other", ["UInt64", "String"])
def test_a_range_of_keys_in_types_with_nothing_in_common_is_refused(
    store: FeatureStore, clickhouse: Client, other: str
) -> None:
    view(store, clickhouse, "one", "Int64", "1")
    view(store, clickhouse, "two", other, "1" if other == "UInt64" else "'1'")
    with pytest.raises(InvalidInput, match=rf"one \(k Int64\) and two \(k {other}\)\. Cast"):
        store.get_historical_features(
            None, ["one:one_x", "two:two_x"], start_date=DAY, end_date=DAY
        )


@pytest.mark.parametrize("other", ["Int32", "UInt32", "Nullable(Int64)"])
def test_a_range_of_keys_whose_types_fit_together_is_one(
    store: FeatureStore, clickhouse: Client, other: str
) -> None:
    view(store, clickhouse, "one", "Int64", "1")
    view(store, clickhouse, "two", other, "1")
    found = store.get_historical_features(
        None, ["one:one_x", "two:two_x"], start_date=DAY, end_date=DAY
    ).to_arrow()
    assert found.to_pylist() == [{"k": 1, "event_timestamp": DAY, "one_x": 7, "two_x": 7}]
