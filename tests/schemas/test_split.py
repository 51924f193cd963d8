"""Our split against pandera's own verdict on random frames."""

import math
from datetime import UTC, datetime, timedelta

import pandera.polars as pa
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pandera.errors import SchemaErrors
from pandera.typing.polars import Series

from atlas.errors import InvalidInput
from atlas.market import BAR_COLUMNS, interval_of
from atlas.schemas import OhlcvFeatures, candles_at, find_faults, joined_schema, split_valid

NOW = datetime(2024, 1, 1, 0, 5, tzinfo=UTC)
CANDLES = candles_at(interval_of("1m"), now=NOW)


class Odd(pa.DataFrameModel):
    """Rules of every kind that a model may have."""

    label: Series[pl.String] = pa.Field(isin=["a", "b"])
    note: Series[pl.String] = pa.Field(nullable=True, str_matches="^x")
    ratio: Series[pl.Float64] = pa.Field(nullable=True, ge=0.0)
    level: Series[pl.Float64] = pa.Field(nullable=True, gt=0.0, lt=10.0)
    count: Series[pl.Int64] = pa.Field(nullable=True, le=3, ne=2)
    strict_count: Series[pl.Int64] = pa.Field(nullable=True, ge=0, ignore_na=False)

    @pa.check("level", name="not_seven")
    def not_seven(cls, data):  # noqa: N805
        return data.lazyframe.select(pl.col(data.key) != 7.0)

    @pa.dataframe_check(error="ratio above level")
    def ratio_below_level(cls, data):  # noqa: N805
        return data.lazyframe.select(pl.col("ratio") <= pl.col("level"))


def pandera_verdict(schema, frame):
    """Return the numbers of the rows that pandera refuses."""
    try:
        schema.validate(frame, lazy=True)
    except SchemaErrors as errors:
        outputs = [error.check_output for error in errors.schema_errors]
        assert all(output.height == frame.height for output in outputs)
        return sorted(
            {row for output in outputs for row in (~output.to_series()).arg_true().to_list()}
        )
    return []


def our_verdict(schema, frame):
    return find_faults(schema, frame).is_not_null().arg_true().to_list()


floats = st.sampled_from(
    [None, math.nan, math.inf, -math.inf, 0.0, -0.0, -1.0, 0.5, 1.0, 2.0, 7.0, 10.0, 1e13]
)
texts = st.sampled_from([None, "", "a", "b", "x", "xy", "BTC_USDT", "btc", "A" * 33, "A\n"])
integers = st.sampled_from([None, -1, 0, 1, 2, 3, 4])
moments = st.sampled_from(
    [
        None,
        datetime(1899, 12, 31, tzinfo=UTC),
        datetime(2024, 1, 1, 0, 0, 30, tzinfo=UTC),
        *(NOW + timedelta(minutes=minutes) for minutes in (-2, -1, 0, 1)),
    ]
)
MOMENT = pl.Datetime("us", "UTC")


def frames(columns):
    """Strategy for frames of up to six rows of the given columns: name to (type, values)."""
    return st.integers(0, 6).flatmap(
        lambda n: st.fixed_dictionaries(
            {
                name: st.lists(values, min_size=n, max_size=n)
                for name, (_, values) in columns.items()
            }
        ).map(
            lambda found: pl.DataFrame(
                found, schema={name: kind for name, (kind, _) in columns.items()}
            )
        )
    )


KEY = {
    "symbol": (pl.String, texts),
    "event_timestamp": (MOMENT, moments),
    "known_at": (MOMENT, moments),
}
SCHEMAS = {
    "candles": (
        CANDLES,
        frames(KEY | dict.fromkeys(BAR_COLUMNS[3:], (pl.Float64, floats))),
    ),
    "features": (
        OhlcvFeatures,
        frames(
            KEY | dict.fromkeys(list(OhlcvFeatures.to_schema().columns)[3:], (pl.Float64, floats))
        ),
    ),
    "odd": (
        Odd,
        frames(
            {
                "label": (pl.String, texts),
                "note": (pl.String, texts),
                "ratio": (pl.Float64, floats),
                "level": (pl.Float64, floats),
                "count": (pl.Int64, integers),
                "strict_count": (pl.Int64, integers),
            }
        ),
    ),
}


@pytest.mark.parametrize("name", SCHEMAS)
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_the_rows_refused_are_those_that_pandera_refuses(name, data):
    schema, strategy = SCHEMAS[name]
    frame = data.draw(strategy)
    assert our_verdict(schema, frame) == pandera_verdict(schema, frame)


@settings(max_examples=25, deadline=None)
@given(frame=SCHEMAS["odd"][1])
def test_a_split_loses_no_row_and_keeps_the_order(frame):
    numbered = frame.with_row_index()
    faults = find_faults(Odd, frame)
    good, bad = split_valid(Odd, frame)
    assert good.equals(numbered.filter(faults.is_null()).drop("index"))
    assert bad.drop("reason").equals(numbered.filter(faults.is_not_null()).drop("index"))
    assert bad["reason"].to_list() == faults.drop_nulls().to_list()


def test_each_reason_names_the_column_and_what_is_wrong():
    frame = pl.DataFrame(
        {
            "label": ["c", None, "a", "a", "a", "a", "b"],
            "note": ["x", "x", "y", None, "x", "x", "x"],
            "ratio": [0.0, 0.0, 0.0, math.nan, -1.0, 0.0, 2.0],
            "level": [1.0, 1.0, 1.0, 1.0, 1.0, 7.0, 1.0],
            "count": [0, 0, 0, 0, 2, 4, 0],
            "strict_count": [0, 0, 0, 0, 0, None, 0],
        }
    )
    assert find_faults(Odd, frame).to_list() == [
        "label: isin(['a', 'b'])",
        "label is missing",
        "note is not like ^x",
        "ratio above level",
        "ratio is below 0.0; count: not_equal_to(2)",
        "count is above 3; level: not_seven; strict_count: greater_than_or_equal_to(0)",
        "ratio above level",
    ]


def test_a_nan_is_called_nan_once_whatever_it_breaks():
    class Bounded(pa.DataFrameModel):
        level: Series[pl.Float64] = pa.Field(gt=0.0, lt=5.0)

    assert find_faults(Bounded, pl.DataFrame({"level": [math.nan, 9.0]})).to_list() == [
        "level is NaN",
        "level is not below 5.0",
    ]


@pytest.mark.parametrize(
    ("frame", "told"),
    [
        (pl.DataFrame({"level": [1]}), "level Float64 (found Int64)"),
        (pl.DataFrame({"other": [1.0]}), "level Float64 (missing); no column other"),
    ],
)
def test_a_frame_of_other_columns_cannot_be_judged(frame, told):
    class Level(pa.DataFrameModel):
        level: Series[pl.Float64]

    with pytest.raises(InvalidInput) as error:
        split_valid(Level, frame)
    assert told in str(error.value)


def test_columns_in_another_order_are_refused():
    class Pair(pa.DataFrameModel):
        one: Series[pl.Float64]
        two: Series[pl.Float64]

    with pytest.raises(InvalidInput, match="in the schema's order"):
        find_faults(Pair, pl.DataFrame({"two": [1.0], "one": [1.0]}))


def test_a_schema_that_does_not_judge_row_by_row_is_refused():
    class Unique(pa.DataFrameModel):
        key: Series[pl.Int64] = pa.Field(unique=True)

    class Total(pa.DataFrameModel):
        share: Series[pl.Float64]

        @pa.dataframe_check
        def sums_to_one(cls, data):  # noqa: N805
            return data.lazyframe.select(pl.col("share").sum() == 1.0)

    with pytest.raises(InvalidInput, match="row by row"):
        find_faults(Unique, pl.DataFrame({"key": [1]}))
    with pytest.raises(InvalidInput, match="row by row"):
        find_faults(Total, pl.DataFrame({"share": [0.5, 0.5]}))


def feature_row(**changed):
    """One row of features that are all null, sound but for what is said."""
    row = {"symbol": "BTC_USDT", "event_timestamp": NOW, "known_at": NOW} | changed
    kinds = {"symbol": pl.String, "event_timestamp": MOMENT, "known_at": MOMENT}
    features = list(OhlcvFeatures.to_schema().columns)[3:]
    return pl.DataFrame([row], schema=kinds | dict.fromkeys(features, pl.Float64))


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({}, None),
        ({"known_at": NOW - timedelta(microseconds=1)}, "known_at is before event_timestamp"),
        ({"symbol": "btc"}, "symbol is not like ^[A-Z0-9][A-Z0-9._-]{0,31}$"),
        (
            {"event_timestamp": datetime(1899, 12, 31, tzinfo=UTC)},
            "event_timestamp is below 1900-01-01 00:00:00+00:00",
        ),
        (
            {"known_at": datetime(2262, 1, 1, tzinfo=UTC)},
            "known_at is not below 2262-01-01 00:00:00+00:00",
        ),
    ],
)
def test_a_feature_row_has_a_key_and_times_that_can_be_kept(changed, told):
    assert find_faults(OhlcvFeatures, feature_row(**changed)).item() == told


def test_a_joined_row_is_judged_without_the_time_it_was_known():
    joined = feature_row().drop("known_at")
    assert find_faults(joined_schema(OhlcvFeatures), joined).item() is None
