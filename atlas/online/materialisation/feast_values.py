"""Feast's own conversion of values, for the types that are too rare for a way of their own."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from feast import ValueType
from feast.type_map import python_values_to_proto_values

__all__ = ["serialised"]


def serialised(values: pa.Array, type_name: str) -> pa.BinaryArray:
    """Return each value serialised as a `feast.types.Value`; null is no bytes.

    Raises
    ------
    ValueError, TypeError, AssertionError
        If Feast cannot make the type of a value.
    """
    found = (
        # Feast knows maps as dictionaries; Arrow gives them as lists of pairs.
        np.fromiter(values.to_pylist(maps_as_pydicts="lossy"), object, len(values))
        if _has_maps(values.type)
        else values.to_numpy(zero_copy_only=False)
    )
    protos = python_values_to_proto_values(found, ValueType[type_name])
    return pa.array([proto.SerializeToString() for proto in protos], pa.binary())


def _has_maps(kind: pa.DataType) -> bool:
    elements = (kind.field(place).type for place in range(kind.num_fields))
    return pa.types.is_map(kind) or any(map(_has_maps, elements))
