"""The bounds of all float columns at once, against pandera's verdict on each."""

import math

import pandera.polars as pa
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pandera.errors import SchemaErrors

from atlas.schemas import find_faults
from atlas.schemas.split import _rules_of

EDGES = [-1.0, -0.0, 0.0, 5e-324, 1.0, 10.0, math.nextafter(10.0, 0), math.nextafter(10.0, 11)]
values = st.sampled_from([None, math.nan, math.inf, -math.inf, *EDGES]) | st.sampled_from(EDGES)
bounds = st.fixed_dictionaries(
    {},
    optional={
        name: st.sampled_from([-1.0, 0.0, 1, 10.0, math.inf, -math.inf])
        for name in ("gt", "ge", "lt", "le")
    },
)
makers = {"gt": pa.Check.gt, "ge": pa.Check.ge, "lt": pa.Check.lt, "le": pa.Check.le}


@st.composite
def cases(draw):
    """Draw a schema of one to three float columns, and a frame of them."""
    n = draw(st.integers(1, 3))
    schema, frame = {}, {}
    for name in ("a", "b", "c")[: draw(st.integers(1, 3))]:
        checks = [makers[kind](limit) for kind, limit in draw(bounds).items()]
        schema[name] = pa.Column(pl.Float64, checks, nullable=draw(st.booleans()))
        frame[name] = pl.Series(draw(st.lists(values, min_size=n, max_size=n)), dtype=pl.Float64)
    return pa.DataFrameSchema(schema), pl.DataFrame(frame)


def pandera_accepts(schema, frame):
    try:
        schema.validate(frame, lazy=True)
    except SchemaErrors:
        return False
    return True


@settings(max_examples=300, deadline=None)
@given(case=cases())
def test_bounds_hold_only_where_pandera_accepts_and_always_where_it_does_without_nan(case):
    schema, frame = case
    held = _rules_of(schema).floats.hold(frame)
    accepted = pandera_accepts(schema, frame)
    has_nan = frame.select(pl.any_horizontal(pl.all().is_nan().any())).item()
    assert find_faults(schema, frame).is_null().all() == accepted
    if held:
        assert accepted
    elif not has_nan:
        assert not accepted


@pytest.mark.parametrize(("rows", "looked"), [(0, False), (10_000, True), (10_001, False)])
def test_only_small_frames_are_looked_at_so(rows, looked):
    schema = pa.DataFrameSchema({"a": pa.Column(pl.Float64, pa.Check.ge(0.0))})
    frame = pl.DataFrame({"a": [1.0] * rows}, schema={"a": pl.Float64})
    assert _rules_of(schema).floats.hold(frame) is looked
