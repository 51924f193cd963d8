"""How much of a label is its own, when labels overlap in time."""

import numpy as np
from numpy.typing import ArrayLike

from atlas.stats.arguments import FloatArray, spans

__all__ = ["uniqueness_weights"]


def uniqueness_weights(intervals: ArrayLike) -> FloatArray:
    """Return each label's average uniqueness: the mean of `1 / labels alive` over its bars.

    A label that shares no bar weighs 1; ten labels on the same bars weigh 0.1 each. Labels of
    several symbols crowd each other when passed together: pass one symbol at a time otherwise.

    Parameters
    ----------
    intervals : (n, 2) int
        Closed label spans in bars, in any order.

    Returns
    -------
    (n,) weights in `(0, 1]`.

    References
    ----------
    López de Prado (2018), "Advances in Financial Machine Learning", ch. 4.
    """
    labels = spans(intervals)
    if not len(labels):
        return np.empty(0)
    # Between two bars at which some label starts or has ended, the number alive is constant.
    first, after = labels[:, 0], labels[:, 1] + 1
    edges, where = np.unique(np.concatenate([first, after]), return_inverse=True)
    begins, ends = where[: len(labels)], where[len(labels) :]
    n_edges = len(edges)
    alive = np.cumsum(np.bincount(begins, minlength=n_edges) - np.bincount(ends, minlength=n_edges))
    # After the last edge nobody is alive, and between labels there may be nobody either.
    share = np.zeros(n_edges)
    np.divide(np.diff(edges), alive[:-1], out=share[:-1], where=alive[:-1] > 0)
    # Each label sums its own pieces: a difference of running sums would lose digits to the past.
    # In order of start, for reduceat also sums from each end to the next start.
    order = np.argsort(begins, kind="stable")
    bounds = np.column_stack([begins[order], ends[order]]).ravel()
    weights = np.empty(len(labels))
    weights[order] = np.add.reduceat(share, bounds)[::2]
    weights /= after - first
    return weights
