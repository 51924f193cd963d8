"""Redis keys of many entities at once, in Feast's serialisation 3.

The number of join keys, then their names, then for each value its type, size and bytes, in the
order of the names; the project's name ends the key.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from atlas.errors import InvalidInput
from atlas.online.materialisation.cells import Cells, constant_cells, join_rows
from atlas.online.wire import key_prefix

__all__ = ["entity_keys"]

_BYTES, _STRING, _INT32, _INT64, _MOMENT = 1, 2, 3, 4, 8
_WIDTHS = {_INT32: "<i4", _INT64: "<i8", _MOMENT: "<i8"}
_TYPES = {
    "BYTES": _BYTES,
    "STRING": _STRING,
    "INT32": _INT32,
    "INT64": _INT64,
    "UNIX_TIMESTAMP": _MOMENT,
}


def entity_keys(columns: Mapping[str, tuple[pa.Array, str]], project: str) -> pa.BinaryArray:
    """Return the Redis key of each row.

    Parameters
    ----------
    columns : mapping
        Values and Feast's type name (STRING, INT64, …) of each join key, without nulls; moments
        as seconds.

    Raises
    ------
    InvalidInput
        If a join key is of a type that Feast does not serialise.
    """
    n = len(next(iter(columns.values()))[0])
    parts: list[Cells | pa.BinaryArray] = [constant_cells(n, key_prefix(list(columns)))]
    for name in sorted(columns):
        values, type_name = columns[name]
        if type_name not in _TYPES:
            raise InvalidInput(
                f"Expected join key {name} to be a string, bytes, an integer or a moment; found "
                f"{type_name}. Feast serialises no other type: convert it in the source."
            )
        code = _TYPES[type_name]
        if code in _WIDTHS:
            numbers = values.to_numpy(zero_copy_only=False).astype(_WIDTHS[code])
            size = numbers.dtype.itemsize
            parts.append(constant_cells(n, struct.pack("<II", code, size)))
            parts.append(Cells(numbers.view(np.uint8).reshape(n, size)))
        else:
            sizes = pc.binary_length(values).to_numpy(zero_copy_only=False).astype("<u4")
            parts.append(constant_cells(n, struct.pack("<I", code)))
            parts.append(Cells(sizes.view(np.uint8).reshape(n, 4)))
            parts.append(values.cast(pa.binary()))
    parts.append(constant_cells(n, project.encode()))
    return join_rows(parts)
