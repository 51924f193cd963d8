"""Arrow columns as Feast's values: what each declared type makes of what ClickHouse sent.

Null and NaN are null. A number that its declared type cannot hold is refused, never bent. A moment
counts whole seconds, rounded down, as Feast's type does; a missing one is Feast's own mark for it.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from atlas.errors import InvalidInput
from atlas.online.materialisation.cells import (
    Cells,
    boolean_cells,
    double_cells,
    float_cells,
    integer_cells,
    tagged_texts,
    text_cells,
)
from atlas.online.materialisation.number_fit import bent

__all__ = ["feature_cells", "join_key_values", "micros", "refuse_bent"]

_INT32, _INT64, _SECONDS = 0x18, 0x20, 0x40
_TEXTS = {"STRING": 0x12, "BYTES": 0x0A}
# What Feast writes for a missing moment.
_NO_MOMENT = -(1 << 63)
_PER_SECOND = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}


def feature_cells(
    name: str, values: pa.Array, type_name: str, *, where: str
) -> Cells | pa.BinaryArray:
    """Return a feature's cells, as `cells.join_rows` takes them.

    Parameters
    ----------
    type_name : str
        Feast's: DOUBLE, INT64, STRING_LIST, …
    where : str
        Column and view, as an error names them.

    Raises
    ------
    InvalidInput
        If a value does not fit the declared type.
    """
    refuse_bent(name, values, type_name, where=where)
    kind = values.type
    try:
        if type_name == "DOUBLE" and _is_number(kind):
            return double_cells(_doubles(values))
        if type_name == "FLOAT" and _is_number(kind):
            return float_cells(_doubles(values).astype(np.float32))
        if type_name in ("INT64", "INT32") and (_is_number(kind) or pa.types.is_boolean(kind)):
            tag, wanted = (_INT64, pa.int64()) if type_name == "INT64" else (_INT32, pa.int32())
            return integer_cells(tag, *_integers(values, wanted))
        if type_name == "BOOL" and (pa.types.is_boolean(kind) or pa.types.is_integer(kind)):
            truths = values.cast(pa.bool_())
            null = _nulls(truths)
            return boolean_cells(truths.fill_null(False).to_numpy(zero_copy_only=False), null)
        if type_name == "UNIX_TIMESTAMP" and _seconds_type(kind):
            return integer_cells(_SECONDS, _seconds(values), np.zeros(len(values), np.bool_))
        if type_name in _TEXTS and _is_text(kind):
            if type_name == "STRING":
                values = values.cast(pa.string())
                values.validate(full=True)
            return text_cells(tagged_texts(_TEXTS[type_name], values.cast(pa.binary())))
        # Feast's own conversion, value by value, for what is rare: lists, maps, decimals, …
        from atlas.online.materialisation.feast_values import serialised

        return text_cells(serialised(values, type_name))
    except (pa.ArrowInvalid, ValueError, TypeError, AssertionError) as error:
        raise _misfit(f"feature {name}", type_name, f"{kind} in {where}", error) from error


def refuse_bent(name: str, values: pa.Array, type_name: str, *, where: str) -> None:
    """Refuse a number that a feature's declared type would make another one.

    Raises
    ------
    InvalidInput
        If there is one.
    """
    found = bent(values, type_name)
    if found is not None:
        raise InvalidInput(
            f"Expected feature {name} to fit its declared type {type_name}; found {found!r} in "
            f"{where}, a {values.type}. Correct the declared type, or convert the column in the "
            "source."
        )


def join_key_values(name: str, values: pa.Array, type_name: str, *, where: str) -> pa.Array:
    """Return a join key's values as `entity_keys` takes them.

    Raises
    ------
    InvalidInput
        If a value does not fit the declared type.
    """
    try:
        if type_name in ("INT64", "INT32"):
            return values.cast(pa.int64() if type_name == "INT64" else pa.int32())
        if type_name == "UNIX_TIMESTAMP":
            return pa.array(_seconds(values))
        if type_name == "STRING":
            values = values.cast(pa.string())
            values.validate(full=True)
            return values
        return values.cast(pa.binary()) if type_name == "BYTES" else values
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        found = f"{values.type} in {where}"
        raise _misfit(f"join key {name}", type_name, found, error) from error


def micros(values: pa.Array, *, missing: npt.NDArray[np.int64] | int) -> npt.NDArray[np.int64]:
    """Return moments as microseconds since 1970, rounded down.

    Parameters
    ----------
    missing : (n,) or int
        What stands for null.
    """
    found = _ticks(values, 1_000_000)
    return np.where(_nulls(values), missing, found)


def _doubles(values: pa.Array) -> npt.NDArray[np.float64]:
    found: npt.NDArray[np.float64] = values.cast(pa.float64(), safe=False).to_numpy(
        zero_copy_only=False
    )
    return found


def _integers(
    values: pa.Array, wanted: pa.DataType
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    if pa.types.is_floating(values.type):
        values = pc.if_else(pc.is_nan(values), pa.scalar(None, values.type), values)
    fitted = values.cast(wanted)
    return (
        fitted.fill_null(0).to_numpy(zero_copy_only=False).astype(np.int64),
        _nulls(fitted),
    )


def _seconds(values: pa.Array) -> npt.NDArray[np.int64]:
    return np.where(_nulls(values), _NO_MOMENT, _ticks(values, 1))


def _ticks(values: pa.Array, per_second: int) -> npt.NDArray[np.int64]:
    """Return moments as whole ticks, rounded down; integers are seconds; null is 0."""
    kind = values.type
    if pa.types.is_date(kind):
        values, kind = values.cast(pa.timestamp("s")), pa.timestamp("s")
    unit = _PER_SECOND[kind.unit] if pa.types.is_timestamp(kind) else 1
    ticks: npt.NDArray[np.int64]
    ticks = values.cast(pa.int64()).fill_null(0).to_numpy(zero_copy_only=False)
    return ticks * (per_second // unit) if unit <= per_second else ticks // (unit // per_second)


def _nulls(values: pa.Array) -> npt.NDArray[np.bool_]:
    found: npt.NDArray[np.bool_] = values.is_null().to_numpy(zero_copy_only=False)
    return found


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_floating(kind) or pa.types.is_integer(kind))


def _is_text(kind: pa.DataType) -> bool:
    kinds = (pa.types.is_string, pa.types.is_binary, pa.types.is_large_string)
    return any(is_of(kind) for is_of in kinds)


def _seconds_type(kind: pa.DataType) -> bool:
    kinds = (pa.types.is_timestamp, pa.types.is_date, pa.types.is_integer)
    return any(is_of(kind) for is_of in kinds)


def _misfit(what: str, type_name: str, found: str, error: Exception) -> InvalidInput:
    return InvalidInput(
        f"Expected {what} to fit its declared type {type_name}; found {found}: "
        f"{str(error).splitlines()[0][:200] if str(error) else type(error).__name__}. Correct "
        "the declared type, or convert the column in the source."
    )
