"""Which number each state of a jump model bears, and how it keeps it through refits."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["by_former", "by_frequency"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def by_frequency(occupancy: NDArray[np.integer], centroids: Floats) -> Ints:
    """Return the states in the order of their names: the one with the most rows is 0.

    Of equally frequent states the one with the smaller first feature comes first, then the second.

    Parameters
    ----------
    occupancy : (n_states,)
        Rows in each state; states without any come last.
    centroids : (n_states, n_features)
    """
    keys = [*centroids.T[::-1], -occupancy]
    return np.lexsort(keys).astype(np.int64)


def by_former(centroids: Floats, former: Floats) -> Ints:
    """Return the states in the order of their names: each takes the name of the nearest former one.

    The sum of squared distances over all pairs is the least there is. A state takes a name that
    nobody bore before only when all others are taken.

    Parameters
    ----------
    centroids, former : (n_states, n_features)
        A row of NaN is a state without rows, or a name that nobody bore yet.

    References
    ----------
    Kuhn (1955), "The Hungarian method for the assignment problem".
    """
    from scipy.optimize import linear_sum_assignment

    gaps = ((former[:, None, :] - centroids[None, :, :]) ** 2).sum(axis=2)  # (name, state)
    idle, unborne = np.isnan(centroids[:, 0]), np.isnan(former[:, 0])
    largest = gaps.max(where=~np.isnan(gaps), initial=0.0)
    # In units of the largest gap a name that nobody bore costs more than all gaps together.
    gaps /= largest if largest > 0 else 1.0
    gaps[unborne, :] = len(gaps) + 1.0
    gaps[:, idle] = 0.0
    order: Ints = linear_sum_assignment(gaps)[1].astype(np.int64)
    return order
