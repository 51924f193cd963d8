"""The inner loops of the jump engine: rows brought to scale, windows filtered, streams moved on.

All of them take a row through the same two steps, so that a window, the rows of a window one by
one, and the training agree to the last bit.

Shapes: `rows` (n_rows, n_features) of 32-bit floats; `columns`, `mean` and `scale` (n_used,);
`centroids` (n_states, n_used).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
import numpy as np

from atlas.engines.jump_filter import UNKNOWN
from atlas.engines.jump_paths import step

__all__ = ["advance", "end_states", "standardise", "window_states"]

# Deviations from the mean beyond which a value says no more: as for the nets.
_FURTHEST = 8.0


def _kernel(function: Callable[..., Any]) -> Any:
    return numba.njit(cache=True, nogil=True)(function)


@_kernel
def _fill(row, columns, mean, scale, out):  # type: ignore[no-untyped-def]
    for j in range(columns.size):
        x = (np.float64(row[columns[j]]) - mean[j]) * scale[j]
        # NaN is neither, and stays.
        if x > _FURTHEST:
            x = _FURTHEST
        elif x < -_FURTHEST:
            x = -_FURTHEST
        out[j] = x


@_kernel
def standardise(rows, columns, mean, scale):  # type: ignore[no-untyped-def]
    """Return the chosen columns in deviations from their mean, (n_rows, n_used)."""
    out = np.empty((rows.shape[0], columns.size))
    for t in range(rows.shape[0]):
        _fill(rows[t], columns, mean, scale, out[t])
    return out


@_kernel
def end_states(scaled, begins, ends, centroids, penalty, out):  # type: ignore[no-untyped-def]
    """Write to `out` the state in which a cold filter over rows `begins[i]` to `ends[i]` ends.

    `scaled` is what `standardise` returned; both ends are inclusive.
    """
    values, room = np.empty(centroids.shape[0]), np.empty(centroids.shape[0])
    for i in range(ends.size):
        values[:] = 0.0
        state = UNKNOWN
        for t in range(begins[i], ends[i] + 1):
            found = step(scaled[t], centroids, penalty, values, room)
            if found != UNKNOWN:
                state = found
        out[i] = state


@_kernel
def window_states(windows, columns, mean, scale, centroids, penalty, out):  # type: ignore[no-untyped-def]
    """Write to `out` the state in which a cold filter over each window ends.

    `windows` is (n_windows, length, n_features).
    """
    values, room = np.empty(centroids.shape[0]), np.empty(centroids.shape[0])
    row = np.empty(columns.size)
    for i in range(windows.shape[0]):
        values[:] = 0.0
        state = UNKNOWN
        for t in range(windows.shape[1]):
            _fill(windows[i, t], columns, mean, scale, row)
            found = step(row, centroids, penalty, values, room)
            if found != UNKNOWN:
                state = found
        out[i] = state


@_kernel
def advance(rows, columns, mean, scale, centroids, penalty, told, states, scores):  # type: ignore[no-untyped-def]
    """Move each stream on by its row; return how many were: fewer if one has an odd state.

    Parameters
    ----------
    told : (n_states + 1,)
        Score of each state, and last of none.
    states : (n_streams, n_states + 1)
        Value vector and state of each stream; overwritten.
    scores : (n_streams,)
        Overwritten.
    """
    n_states = centroids.shape[0]
    room, row = np.empty(n_states), np.empty(columns.size)
    for i in range(rows.shape[0]):
        values = states[i, :n_states]
        state = states[i, n_states]
        known = state == UNKNOWN
        for k in range(n_states):
            if not values[k] >= 0.0:
                return i
            known = known or state == k
        if not known:
            return i
        _fill(rows[i], columns, mean, scale, row)
        found = step(row, centroids, penalty, values, room)
        if found != UNKNOWN:
            states[i, n_states] = found
            state = found
        scores[i] = told[int(state) if state != UNKNOWN else n_states]
    return rows.shape[0]
