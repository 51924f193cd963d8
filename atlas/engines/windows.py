"""Which rows a score may look back on: windows of one symbol's rows that end at the decision."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from atlas.errors import InvalidInput

__all__ = ["History", "Windows"]


class History:
    """Rows of every symbol, in any order, that windows are cut from.

    It may hold more rows than are labelled: a bar between two decisions belongs in the window of
    the second. Nobody changes the arrays after they were handed over.

    Parameters
    ----------
    X : (n_bars, n_features)
        Feature values; NaN is null.
    symbols : (n_bars,)
        Whose row it is.
    times : (n_bars,)
        When it became known, in any whole unit; no symbol has two rows at one time.

    Raises
    ------
    InvalidInput
        If lengths disagree.
    """

    def __init__(
        self,
        X: NDArray[np.floating[Any]],
        *,
        symbols: NDArray[Any],
        times: NDArray[np.integer[Any]],
    ) -> None:
        self.X, self.symbols, self.times = np.asarray(X), np.asarray(symbols), np.asarray(times)
        if self.X.ndim != 2 or not len(self.X) == len(self.symbols) == len(self.times):
            raise InvalidInput(
                f"Expected rows, symbols and times of one length; found {self.X.shape}, "
                f"{self.symbols.shape} and {self.times.shape}."
            )

    def __len__(self) -> int:
        return len(self.X)

    @cached_property
    def order(self) -> NDArray[np.intp]:
        """Row numbers by symbol and, within a symbol, by time.

        Raises
        ------
        InvalidInput
            If a symbol has two rows at one time: which came last is not said.
        """
        codes = np.unique(self.symbols, return_inverse=True)[1]
        order = np.lexsort((self.times, codes))
        same = (np.diff(codes[order]) == 0) & (np.diff(self.times[order]) == 0)
        if same.any():
            row = order[np.flatnonzero(same)[0]]
            raise InvalidInput(
                f"Expected one row a symbol and time to cut windows from; found two of "
                f"{self.symbols[row]} at {self.times[row]}. Drop the superseded one."
            )
        return order

    @cached_property
    def sorted_rows(self) -> NDArray[np.float32]:
        """The values in that order, as the engines read them."""
        with np.errstate(over="ignore"):
            return np.asarray(self.X[self.order], dtype=np.float32, order="C")

    @cached_property
    def places(self) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """For each row, its place in that order and the place of its symbol's first row."""
        place = np.empty(len(self), np.intp)
        place[self.order] = np.arange(len(self))
        ordered = self.symbols[self.order]
        starts = np.ones(len(self), np.bool_)
        starts[1:] = ordered[1:] != ordered[:-1]
        first = np.maximum.accumulate(np.where(starts, np.arange(len(self)), 0))
        return place, first[place]


class Windows:
    """Windows that end at chosen rows of a history; each is gathered when it is asked for.

    Where a symbol has fewer rows before, NaN stands in front. `windows[10:20]` or
    `windows[positions]` is an array (n_chosen, length, n_features) of 32-bit floats.

    Parameters
    ----------
    rows : (n_windows,)
        Row numbers of the history: the last row of each window.
    length : int
        Rows of a window, the last included.
    """

    def __init__(self, history: History, rows: NDArray[np.integer[Any]], length: int) -> None:
        if length < 1:
            raise InvalidInput(f"Expected windows of at least one row; found {length}.")
        place, first = history.places
        self._values = history.sorted_rows
        self._last, self._first = place[rows], first[rows]
        self._length = length

    @property
    def shape(self) -> tuple[int, int, int]:
        """Number of windows, rows of each, features."""
        return len(self._last), self._length, self._values.shape[1]

    def __len__(self) -> int:
        return len(self._last)

    def __getitem__(self, chosen: slice | NDArray[Any]) -> NDArray[np.float32]:
        back = np.arange(1 - self._length, 1)
        at = self._last[chosen, None] + back
        before = at < self._first[chosen, None]
        found = self._values[np.where(before, 0, at)]
        found[before] = np.nan
        return found
