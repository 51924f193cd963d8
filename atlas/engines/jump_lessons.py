"""Which rows of a history a jump model may learn its regimes from, and in which stretches."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from atlas.engines.dataset import Dataset
from atlas.errors import InvalidInput, NotEnoughData

__all__ = ["Stretches", "find_stretches"]

Places = NDArray[np.intp]


@dataclass(frozen=True, slots=True, eq=False)
class Stretches:
    """Rows of a history, in its order of symbol and time, and the labelled ones among them.

    Parameters
    ----------
    places : (n_rows,)
        Places in `History.sorted_rows`, ascending.
    fresh : (n_rows,)
        The first row of each stretch; the others follow the one before them.
    taught : (n_labels,)
        Which of those rows each label that teaches belongs to, ascending.
    labels : (n_labels,)
        The row of the dataset that each of them is.
    begins : (n_labels,)
        The first row of the stretch that it is in.
    """

    places: Places
    fresh: NDArray[np.bool_]
    taught: Places
    labels: Places
    begins: Places


def find_stretches(dataset: Dataset) -> Stretches:
    """Return the labelled rows that carry weight, and what lies between them.

    The rows between two labels of one symbol belong to the training where every bar from the one to
    the other is in the span of some label that is trained on. A test block shares no bar with such
    a span, purged as it is, so none of its rows is ever among them, nor a row of the embargo, nor
    one before the first or after the last label. Elsewhere a new stretch begins.

    Raises
    ------
    NotEnoughData
        If no row carries weight.
    InvalidInput
        If the labels of a symbol start in another order than its rows.
    """
    place, first = dataset.history.places
    labels = np.flatnonzero(dataset.weights > 0)
    if not len(labels):
        raise NotEnoughData("Expected rows that carry weight to learn from; found none.")
    labels = labels[np.argsort(place[dataset.at[labels]], kind="stable")]
    at, symbol = place[dataset.at[labels]], first[dataset.at[labels]]
    starts, ends = dataset.intervals[labels].T
    alike = np.diff(symbol) == 0
    if (alike & (np.diff(starts) < 0)).any():
        raise InvalidInput(
            "Expected the labels of a symbol to start in the order of its rows' times; found "
            "others. Give times and intervals of one calendar."
        )
    followed = alike & (np.diff(_covered(starts, ends)) == 0)
    opens = np.concatenate(([True], ~followed))
    numbers = np.cumsum(opens) - 1
    firsts = at[opens]
    lasts = at[np.concatenate((~followed, [True]))]
    # A stretch ends before the next one begins, so the marks of two never cancel.
    marks = np.zeros(len(dataset.history) + 1, np.intp)
    marks[firsts] += 1
    marks[lasts + 1] -= 1
    places = np.flatnonzero(np.cumsum(marks[:-1]))
    begins = np.searchsorted(places, firsts)
    fresh = np.zeros(len(places), np.bool_)
    fresh[begins] = True
    return Stretches(places, fresh, np.searchsorted(places, at), labels, begins[numbers])


def _covered(starts: NDArray[np.integer], ends: NDArray[np.integer]) -> Places:
    """Return for each label the number of the span of time, without a gap, that it lies in."""
    by_time = np.argsort(starts, kind="stable")
    reach = np.maximum.accumulate(ends[by_time])
    number = np.empty(len(starts), np.intp)
    number[by_time] = np.cumsum(np.concatenate(([True], starts[by_time][1:] > reach[:-1] + 1)))
    return number
