"""Which integers pandas must not turn into doubles, told in an Arrow schema's own words.

pandas makes doubles of an integer column that has a null, and doubles hold integers only up to
2^53: beyond it they would be rounded without a word.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

import pyarrow as pa
import pyarrow.compute as pc

__all__ = ["kept_exact", "kept_integers"]

_DOUBLES_HOLD = 2**53
_KINDS = {pa.int64(): "Int64", pa.uint64(): "UInt64"}


def kept_exact(rows: pa.Table) -> pa.Table:
    """Keep the columns as integers in pandas that would lose digits as doubles, and no others."""
    return kept_integers(
        rows,
        {
            name: _KINDS[column.type]
            for name, column in zip(rows.column_names, rows.columns, strict=True)
            if column.type in _KINDS and _would_be_rounded(column)
        },
    )


def kept_integers(rows: pa.Table, kinds: Mapping[str, str]) -> pa.Table:
    """Say in the schema which columns become pandas' own `Int64` or `UInt64`."""
    if not kinds:
        return rows
    known = dict(rows.schema.metadata or {})
    told = json.loads(known.get(b"pandas", b"{}"))
    columns = [each for each in told.get("columns", []) if each["name"] not in kinds]
    columns += [
        {
            "name": name,
            "field_name": name,
            "pandas_type": kind.lower(),
            "numpy_type": kind,
            "metadata": None,
        }
        for name, kind in kinds.items()
    ]
    told = {"index_columns": [], "column_indexes": [], **told, "columns": columns}
    return rows.replace_schema_metadata({**known, b"pandas": json.dumps(told).encode()})


def _would_be_rounded(column: pa.ChunkedArray) -> bool:
    if not 0 < column.null_count < len(column):
        return False
    ends = pc.min_max(column).as_py()
    return bool(ends["min"] < -_DOUBLES_HOLD or ends["max"] > _DOUBLES_HOLD)
