"""Arrays, maps and tuples that are missing, which ClickHouse columns cannot say by themselves.

A table that we write has, beside each such column, one that tells where the value is missing. Who
reads the table through Feast gets a null there; who reads it with SQL sees an empty value and the
mark.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import pyarrow as pa
import pyarrow.compute as pc

from atlas.clickhouse.column_types import has_missing_value
from atlas.errors import InvalidInput

__all__ = ["is_container", "is_mark", "mark_of", "marks_of", "with_marks", "without_marks"]

# Feast takes no column for a feature that begins so.
_PREFIX = "__atlas_missing__"


def mark_of(column: str) -> str:
    """Return the name of the column that says where `column` is missing."""
    return f"{_PREFIX}{column}"


def is_mark(column: str) -> bool:
    """Say whether a column tells where another is missing."""
    return column.startswith(_PREFIX)


def marks_of(columns: Iterable[str], types: Mapping[str, str]) -> list[str]:
    """Return which of a table's columns tell where values of `columns` are missing."""
    return [
        mark_of(column)
        for column in columns
        if not has_missing_value(types[column]) and mark_of(column) in types
    ]


def is_container(arrow_type: pa.DataType) -> bool:
    """Say whether values of this type hold others."""
    return bool(pa.types.is_nested(arrow_type))


def with_marks(rows: pa.Table) -> pa.Table:
    """Add to each array, map or struct column the one that says where it is missing.

    Raises
    ------
    InvalidInput
        If one inside another is missing, which nothing could tell from an empty one.
    """
    for name in rows.column_names:
        column = rows[name]
        if not is_container(column.type):
            continue
        if any(_holds_missing_container(chunk) for chunk in column.chunks):
            raise InvalidInput(
                f"Expected column {name!r} to hold no missing list, map or struct inside another; "
                "found one, which ClickHouse would keep as an empty one. Leave it out, or fill it."
            )
        rows = rows.append_column(mark_of(name), pc.is_null(column))
    return rows


def without_marks(rows: pa.Table) -> pa.Table:
    """Make null what is marked as missing, and drop the marks."""
    for mark in [name for name in rows.column_names if name.startswith(_PREFIX)]:
        name = mark.removeprefix(_PREFIX)
        if name in rows.column_names:
            missing = rows[mark].fill_null(True)
            rows = rows.set_column(
                rows.column_names.index(name), name, _nulled(rows[name], missing)
            )
        rows = rows.drop_columns([mark])
    return rows


def _nulled(values: pa.ChunkedArray, missing: pa.ChunkedArray) -> pa.ChunkedArray:
    # A missing struct's elements are null too; in every piece of an answer, for it has one schema.
    values = values.cast(_with_nullable_elements(values.type))
    if not pc.any(missing).as_py():
        return values
    # if_else knows no maps; taking by an index that may be null knows every type.
    places = pa.array(range(len(values)), pa.int64())
    return values.take(pc.if_else(missing.combine_chunks(), None, places))


def _with_nullable_elements(arrow_type: pa.DataType) -> pa.DataType:
    if not pa.types.is_struct(arrow_type):
        return arrow_type
    return pa.struct(
        [
            element.with_type(_with_nullable_elements(element.type)).with_nullable(True)
            for element in arrow_type
        ]
    )


def _holds_missing_container(values: pa.Array) -> bool:
    values = values.drop_null()
    if pa.types.is_struct(values.type):
        inner = [values.field(place) for place in range(values.type.num_fields)]
    elif pa.types.is_map(values.type):
        inner = [values.items]
    else:
        inner = [values.flatten()]
    return any(
        is_container(element.type) and (element.null_count > 0 or _holds_missing_container(element))
        for element in inner
    )
