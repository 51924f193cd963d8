"""How cells of every kind become arrays and columns, by the kinds that a plan says."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from atlas.errors import FeatureMismatch
from atlas.online.replies import Cells
from atlas.online.status import Status
from atlas.online.values import IN_FLOAT64, decode, decode_numbers, moment_of
from atlas.serving import ReadPlan, ValueKind

__all__ = ["columns_of"]

Places = npt.NDArray[np.int64]


def columns_of(
    plan: ReadPlan, reply: bytes, cells: Cells
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.uint8], dict[str, list[Any]]]:
    """Read the cells of n keys, whatever their age.

    Returns
    -------
    values : (n, n_features)
        NaN where there is none, and of the features in `columns`.
    status : (n, n_features)
    columns : dict
        By name, n values of each feature that float64 cannot carry; None where there is none.

    Raises
    ------
    FeatureMismatch
        If a cell is of another kind than the plan says.
    """
    data = np.frombuffer(reply, np.uint8)
    starts = cells.starts[:, 1:]
    # Without an event there is no row: what is left of one is not served.
    sizes = np.where(cells.sizes[:, :1] >= 0, cells.sizes[:, 1:], -1)
    status = np.full(sizes.shape, Status.PRESENT, np.uint8)
    status[sizes == 0] = Status.NULL
    status[sizes < 0] = Status.MISSING
    values = np.full(sizes.shape, np.nan)
    columns: dict[str, list[Any]] = {}
    wrong = []
    kinds = np.array(plan.kinds)
    for kind in IN_FLOAT64.intersection(plan.kinds):
        # Of all features at once, which is what makes one row fast to read.
        chosen = (sizes > 0) & (kinds == kind)
        try:
            values[chosen] = decode_numbers(kind, data, starts[chosen], sizes[chosen])
        except ValueError:
            wrong += _misfits(kind, data, starts, np.where(chosen, sizes, 0))
    for at, (name, kind) in enumerate(zip(plan.features, plan.kinds, strict=True)):
        if kind in IN_FLOAT64:
            continue
        written = np.flatnonzero(sizes[:, at] > 0)
        column: list[Any] = [None] * len(sizes)
        try:
            found = _values(kind, reply, data, starts[written, at], sizes[written, at])
        except ValueError:
            wrong.append(at)
            continue
        for row, value in zip(written.tolist(), found, strict=True):
            column[row] = value
            if value is None:
                status[row, at] = Status.NULL
        columns[name] = column
    if wrong:
        expected = ", ".join(f"{plan.features[at]} as {plan.kinds[at]}" for at in sorted(wrong))
        raise FeatureMismatch(
            f"Expected view {plan.view} to have in Redis {expected}; found another type. "
            "Declare what is written, or materialise again."
        )
    return values, status, columns


def _misfits(
    kind: ValueKind, data: npt.NDArray[np.uint8], starts: Places, sizes: Places
) -> list[int]:
    """Return which columns have a cell that is of another kind."""
    wrong = []
    for at in range(sizes.shape[1]):
        written = sizes[:, at] > 0
        try:
            decode_numbers(kind, data, starts[written, at], sizes[written, at])
        except ValueError:
            wrong.append(at)
    return wrong


def _values(
    kind: ValueKind, reply: bytes, data: npt.NDArray[np.uint8], starts: Places, sizes: Places
) -> list[Any]:
    if kind is ValueKind.INT64:
        whole: list[Any] = decode_numbers(kind, data, starts, sizes).tolist()
        return whole
    if kind is ValueKind.UNIX_TIMESTAMP:
        return [
            moment_of(seconds) for seconds in decode_numbers(kind, data, starts, sizes).tolist()
        ]
    return [
        decode(kind, reply[start : start + size])
        for start, size in zip(starts.tolist(), sizes.tolist(), strict=True)
    ]
