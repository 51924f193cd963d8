"""The search for the centroids of a jump model: many starts, each descended to the bottom."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Descent", "search"]

Floats = NDArray[np.float64]

# Objectives closer than this are one optimum, its states numbered in another order.
_SAME = 1e-12


@dataclass(frozen=True, slots=True, eq=False)
class Descent:
    """Where one start ended.

    `objective`, `centroids` (n_states, n_features) and `states` (n_rows,), the cheapest path.
    """

    objective: float
    centroids: Floats
    states: NDArray[np.int32]


def search(
    X: Floats,
    fresh: NDArray[np.bool_],
    *,
    n_states: int,
    penalty: float,
    n_starts: int,
    max_iter: int,
    seed: int,
) -> Descent:
    """Return the best of `3 n_starts + 1` descents.

    One starts from a single state. Of the others a third start from rows picked as k-means++ picks
    them; a third from the best so far with one state moved to a stretch that it explains badly; and
    a third from the best so far, shaken. The objective is infinite if rows lie infinitely far
    apart.

    Parameters
    ----------
    X : (n_rows, n_features)
        In C order; NaN is null; every column has a value.
    fresh : (n_rows,)
        Rows that follow no other, none of them without a value.
    """
    random = np.random.default_rng(seed)
    means = np.nanmean(X, axis=0)
    n_tries = 2 + int(math.log(n_states))
    alone = np.full((n_states, X.shape[1]), np.nan)
    alone[0] = means

    def descend(start: Floats) -> Descent:
        return _descend(X, fresh, start, penalty, means, max_iter)

    best = descend(alone)
    if n_states == 1 or not math.isfinite(best.objective):
        return best
    for _ in range(n_starts):
        start = _apart(X, means, random.random((n_states, n_tries)))
        best = _better(best, descend(start))
    for _ in range(n_starts):
        start = _relocated(X, best, means, random)
        best = _better(best, descend(start))
    for _ in range(n_starts):
        start = _shaken(X, best, random)
        best = _better(best, descend(start))
    return best


def _descend(
    X: Floats,
    fresh: NDArray[np.bool_],
    start: Floats,
    penalty: float,
    means: Floats,
    max_iter: int,
) -> Descent:
    from atlas.engines.jump_paths import descend

    states = np.zeros(len(X), np.int32)
    objective = float(descend(X, fresh, start, penalty, means, max_iter, states))
    return Descent(objective, start, states)


def _better(best: Descent, other: Descent) -> Descent:
    return other if other.objective < best.objective * (1 - _SAME) else best


def _apart(X: Floats, means: Floats, draws: Floats) -> Floats:
    from atlas.engines.jump_paths import pick_rows

    rows: NDArray[Any] = pick_rows(X, draws)
    start = np.where(np.isnan(X[rows]), means, X[rows])
    start[rows < 0] = np.nan
    return start


def _relocated(X: Floats, best: Descent, means: Floats, random: np.random.Generator) -> Floats:
    start = best.centroids.copy()
    n_states = len(start)
    idle = np.flatnonzero(np.bincount(best.states, minlength=n_states) == 0)
    moved = int(idle[0]) if idle.size else int(random.integers(n_states))
    # A row that is explained badly, and a stretch of any length about it: with a high penalty the
    # best centroid is often a mean of rows that are not alike.
    up_to = np.nansum((X - start[best.states]) ** 2, axis=1).cumsum()
    row = int(np.searchsorted(up_to, random.random() * up_to[-1], side="right"))
    before, after = np.exp(random.random(2) * math.log(len(X))).astype(int).tolist()
    stretch = np.zeros(len(X), np.bool_)
    stretch[max(row - before + 1, 0) : row + after] = True
    start[moved] = _mean(X[stretch], means)
    for k in set(range(n_states)) - {moved, *idle.tolist()}:
        start[k] = _mean(X[(best.states == k) & ~stretch], means)
    return start


def _shaken(X: Floats, best: Descent, random: np.random.Generator) -> Floats:
    # Optima that differ in a few rows lie close together, at no distance known beforehand.
    scale = math.sqrt(2 * best.objective / X.size) * math.exp(-5 * random.random())
    shaken: Floats = best.centroids + scale * random.normal(size=best.centroids.shape)
    return shaken


def _mean(X: Floats, means: Floats) -> Floats:
    told = ~np.isnan(X)
    sums = np.where(told, X - means, 0.0).sum(axis=0)
    centre: Floats = means + sums / np.maximum(told.sum(axis=0), 1)
    return centre
