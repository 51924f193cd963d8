"""Feast's own conversion of values, for the types that are too rare for a way of their own."""

from __future__ import annotations

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
    protos = python_values_to_proto_values(
        values.to_numpy(zero_copy_only=False), ValueType[type_name]
    )
    return pa.array([proto.SerializeToString() for proto in protos], pa.binary())
