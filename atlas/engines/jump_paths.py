"""The inner loops of the jump model: one tick, the online filter, the offline path, the descent.

A value vector holds, for each state, what the cheapest path that ends in it costs beyond the
cheapest path of all. The smallest entry is 0 after every row and an entry that a row starts from
is at most the penalty, so a stream may be endless: nothing grows, and rounding does not add up.

A null (NaN) says nothing: it adds no loss to any state and enters no mean. A row of nulls alone
leaves the vector and the state as they were. A state whose centroid is NaN cannot be reached.

Shapes: `X` is (n_rows, n_features) in C order, `centroids` (n_states, n_features), `values` and
`room` (n_states,), `room` being overwritten, `fresh` (n_rows,) of booleans.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numba
import numpy as np

from atlas.engines.jump_filter import UNKNOWN

__all__ = ["FAR", "descend", "follow", "pick_rows", "step", "trace"]

FAR = -2
"""Instead of a state: the row is infinite, or infinitely far from every centroid."""


def _kernel(function: Callable[..., Any]) -> Any:
    # No fastmath: it would let the compiler reorder sums. The cache spares later processes.
    return numba.njit(cache=True, nogil=True)(function)


@_kernel
def step(row, centroids, penalty, values, room):  # type: ignore[no-untyped-def]
    """Move `values` past one row; return the best state, UNKNOWN for a row of nulls, or FAR."""
    empty = True
    for x in row:
        if not math.isnan(x):
            empty = False
            break
    if empty:
        return UNKNOWN
    least = math.inf
    best = FAR
    for k in range(values.size):
        room[k] = min(values[k], penalty) + _loss(row, centroids, k)
        if room[k] < least:
            least = room[k]
            best = k
    if best != FAR:  # a refused row changes nothing
        for k in range(values.size):
            values[k] = room[k] - least
    return best


@_kernel
def follow(X, centroids, penalty, values, state, out):  # type: ignore[no-untyped-def]
    """Write the online state of each row to `out`, from `values` and `state` before the first.

    Return the number of rows done: fewer than there are if one is FAR.
    """
    room = np.empty_like(values)
    for t in range(X.shape[0]):
        found = step(X[t], centroids, penalty, values, room)
        if found == FAR:
            return t
        if found != UNKNOWN:
            state = found
        out[t] = state
    return X.shape[0]


@_kernel
def trace(X, fresh, centroids, penalty, out):  # type: ignore[no-untyped-def]
    """Write the states of the cheapest path to `out`; return its cost, infinite if a row is FAR.

    Of equally cheap ways into a state the one from the lowest state is taken. A row that is
    `fresh` follows no other: it may be in any state at no cost. It is no row of nulls.
    """
    n, n_states = X.shape[0], centroids.shape[0]
    jumped = np.zeros((n, n_states), np.bool_)
    source = np.zeros(n, np.uint8)
    values, room = np.zeros(n_states), np.empty(n_states)
    begun = False  # whether a row has said anything: before, any state may be the first
    total = 0.0
    lost = 0.0  # what the additions to the total rounded off (Neumaier)
    for t in range(n):
        best = np.argmin(values)
        source[t] = best
        for k in range(n_states):
            dear = values[k] > penalty or (values[k] == penalty and k > best)
            jumped[t, k] = begun and (k != best if fresh[t] else dear)
            room[k] = 0.0 if fresh[t] else min(values[k], penalty)
        least = _add_losses(X[t], centroids, room)
        if least < 0.0:
            jumped[t, :] = False
            continue
        if least == math.inf:
            return math.inf
        begun = True
        for k in range(n_states):
            values[k] = room[k] - least
        added = total + least
        lost += (total - added) + least if total >= least else (least - added) + total
        total = added
    if n > 0:
        state = np.argmin(values)
        for t in range(n - 1, -1, -1):
            out[t] = state
            if jumped[t, state]:
                state = source[t]
    return total + lost


@_kernel
def descend(X, fresh, centroids, penalty, means, max_iter, states):  # type: ignore[no-untyped-def]
    """Improve `centroids` and `states` in turn until neither changes; return the objective.

    A state that no row is in keeps its centroid while others may still move away from it.

    Parameters
    ----------
    means : (n_features,)
        Mean of each column: the centroid's entry where all of a state's rows are null.
    """
    former = np.full(X.shape[0], UNKNOWN, states.dtype)
    objective = math.inf
    for _ in range(max_iter):
        cost = trace(X, fresh, centroids, penalty, states)
        # Rounding may let two paths of one cost take turns for ever.
        if not cost < objective or np.array_equal(states, former):
            return min(cost, objective)
        objective = cost
        former[:] = states
        _centre(X, states, means, centroids)
    return trace(X, fresh, centroids, penalty, states)


@_kernel
def pick_rows(X, draws):  # type: ignore[no-untyped-def]
    """Pick a row for each state as far apart as k-means++ does, the best of several draws each.

    Parameters
    ----------
    draws : (n_states, n_tries)
        Uniform in [0, 1).

    Returns
    -------
    (n_states,)
        Row numbers, −1 where no row lies apart from those picked before.

    References
    ----------
    Arthur, Vassilvitskii (2007), "k-means++: The Advantages of Careful Seeding".
    """
    n = X.shape[0]
    n_states, n_tries = draws.shape
    rows = np.full(n_states, -1, np.int64)
    apart = np.full(n, 1.0)  # the first row is drawn evenly
    nearer, least = np.empty(n), np.empty(n)
    for k in range(n_states):
        up_to = np.cumsum(apart)
        if not up_to[-1] > 0.0:
            break
        smallest = math.inf
        for i in range(n_tries if k > 0 else 1):
            row = min(np.searchsorted(up_to, draws[k, i] * up_to[-1], side="right"), n - 1)
            left = 0.0
            for t in range(n):
                gap = 2.0 * _loss(X[t], X, row)
                nearer[t] = gap if k == 0 else min(apart[t], gap)
                left += nearer[t]
            if left < smallest:
                smallest, rows[k] = left, row
                least[:] = nearer
        apart[:] = least
    return rows


@_kernel
def _loss(row, centroids, k):  # type: ignore[no-untyped-def]
    if math.isnan(centroids[k, 0]):
        return math.inf
    total = 0.0
    for j in range(row.size):
        if not math.isnan(row[j]):
            gap = row[j] - centroids[k, j]
            total += gap * gap
    return 0.5 * total


@_kernel
def _add_losses(row, centroids, room):  # type: ignore[no-untyped-def]
    """Add the row's losses to `room`; return the smallest entry, or −1 for a row of nulls."""
    empty = True
    for x in row:
        if not math.isnan(x):
            empty = False
            break
    if empty:
        return -1.0
    least = math.inf
    for k in range(room.size):
        room[k] += _loss(row, centroids, k)
        least = min(least, room[k])
    return least


@_kernel
def _centre(X, states, means, centroids):  # type: ignore[no-untyped-def]
    n_states, n_features = centroids.shape
    firsts = np.zeros((n_states, n_features))
    sums = np.zeros((n_states, n_features))
    counts = np.zeros((n_states, n_features), np.int64)
    rows = np.zeros(n_states, np.int64)
    for t in range(X.shape[0]):
        k = states[t]
        rows[k] += 1
        for j in range(n_features):
            if not math.isnan(X[t, j]):
                if counts[k, j] == 0:
                    firsts[k, j] = X[t, j]
                # Sums of differences keep the bits that sums of prices would lose.
                sums[k, j] += X[t, j] - firsts[k, j]
                counts[k, j] += 1
    for k in range(n_states):
        if rows[k] > 0:
            for j in range(n_features):
                centroids[k, j] = means[j]
                if counts[k, j] > 0:
                    centroids[k, j] = firsts[k, j] + sums[k, j] / counts[k, j]
