"""Which numbers their declared types would bend: beyond the range, between two floats, no truth."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

__all__ = ["bent"]

_FLOATS: dict[str, Any] = {"DOUBLE": np.float64, "FLOAT": np.float32}


def bent(values: pa.Array, type_name: str) -> Any | None:
    """Return the first number that its declared type would make another one; None if none.

    A float rounds to a shorter one, as a decimal does to a float; an integer must stay what it is,
    nothing finite may become infinite, and of integers only 0 and 1 are truths. Of lists every
    number is looked at.

    Parameters
    ----------
    type_name : str
        Feast's: DOUBLE, FLOAT_LIST, BOOL, …; of those that are no floats or truths None is said.
    """
    while pa.types.is_list(values.type) or pa.types.is_large_list(values.type):
        values, type_name = values.flatten(), type_name.removesuffix("_LIST")
    kind = values.type
    if type_name == "BOOL" and pa.types.is_integer(kind):
        whole = _whole(values)
        return _first(values, (whole != 0) & (whole != 1))
    if type_name not in _FLOATS:
        return None
    if pa.types.is_integer(kind):
        return _first(values, _rounded(_whole(values), _FLOATS[type_name]))
    if type_name == "FLOAT" and (pa.types.is_floating(kind) or pa.types.is_decimal(kind)):
        doubles = pc.fill_null(values.cast(pa.float64(), safe=False), 0.0).to_numpy()
        with np.errstate(over="ignore"):
            return _first(values, np.isfinite(doubles) & np.isinf(doubles.astype(np.float32)))
    return None


def _whole(values: pa.Array) -> npt.NDArray[Any]:
    found: npt.NDArray[Any] = values.fill_null(0).to_numpy(zero_copy_only=False)
    return found


def _rounded(whole: npt.NDArray[Any], to: Any) -> npt.NDArray[np.bool_]:
    """Say which integers are no float of a type."""
    floats = whole.astype(to)
    # The integer type's last value rounds up to one that it does not have.
    beyond = floats >= to(2.0 ** (8 * whole.dtype.itemsize - (whole.dtype.kind == "i")))
    back = np.where(beyond, to(0), floats).astype(whole.dtype)
    return np.asarray(beyond | (back != whole))


def _first(values: pa.Array, wrong: npt.NDArray[np.bool_]) -> Any | None:
    return values[int(np.argmax(wrong))].as_py() if wrong.any() else None
