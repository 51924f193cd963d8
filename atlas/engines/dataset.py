"""What an engine learns from: rows of features, their labels, weights and label spans."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from atlas.engines.windows import History, Windows
from atlas.errors import InvalidInput, NotEnoughData

__all__ = ["Dataset", "FloatArray", "Task", "check_task"]

FloatArray = NDArray[np.floating[Any]]

Task = Literal["direction", "return"]
"""What an engine learns: which label, or the return over the label's span."""


def check_task(task: str) -> None:
    """Raise `InvalidInput` unless it is one."""
    if task not in get_args(Task):
        raise InvalidInput(f"Expected task to be direction or return; found {task!r}.")


_CHUNK = 65_536


@dataclass(frozen=True, slots=True, eq=False)
class Dataset:
    """Labelled rows, in any order; nobody changes the arrays after they were handed over.

    Parameters
    ----------
    X : (n_rows, n_features)
        Feature values; NaN is null. Infinity is refused.
    y : (n_rows,)
        −1 or +1: which barrier was touched first, or the sign of the return where none was.
    weights : (n_rows,)
        Not negative; 1 for all unless given.
    intervals : (n_rows, 2)
        First and last bar of each label's span, both inclusive.
    symbols : (n_rows,)
        Whose row it is.
    features : sequence of str
        Names of the columns of X, in order, each once.
    returns : (n_rows,), optional
        Return over each label's span as a fraction: what a regressor learns, and by what the jump
        model tells a regime's side. Finite.
    history : History, optional
        The rows that sequence engines look back on, at least those of X; unless given, the rows
        of X themselves, in order of the first bar of their spans. A fold keeps it whole: a test
        row looks back on rows that were trained on, as it would live.
    at : (n_rows,), optional
        Row number of each row of X in `history`; needed where that is given.

    Raises
    ------
    InvalidInput
        If shapes disagree, a name appears twice, or a value is not of those above.
    """

    X: FloatArray
    y: NDArray[np.integer[Any]]
    weights: FloatArray
    intervals: NDArray[np.integer[Any]]
    symbols: NDArray[Any]
    features: tuple[str, ...]
    returns: FloatArray | None
    history: History
    at: NDArray[np.integer[Any]]

    def __init__(
        self,
        X: FloatArray,
        y: NDArray[np.integer[Any]],
        *,
        features: Sequence[str],
        intervals: NDArray[np.integer[Any]],
        symbols: NDArray[Any] | Sequence[str],
        weights: FloatArray | None = None,
        returns: FloatArray | None = None,
        history: History | None = None,
        at: NDArray[np.integer[Any]] | None = None,
    ) -> None:
        if (history is None) != (at is None):
            raise InvalidInput("Expected a history together with each row's number in it.")
        fields = {
            "X": np.asarray(X),
            "y": np.asarray(y),
            "weights": np.ones(len(y)) if weights is None else np.asarray(weights),
            "intervals": np.asarray(intervals),
            "symbols": np.asarray(symbols),
            "features": tuple(features),
            "returns": None if returns is None else np.asarray(returns),
            "at": np.arange(len(y)) if at is None else np.asarray(at),
        }
        for name, value in fields.items():
            object.__setattr__(self, name, value)
        self._check()
        own = history is None
        if own:
            times = self.intervals[:, 0]
            history = History(self.X, symbols=self.symbols, times=times)
        object.__setattr__(self, "history", history)
        if not own:
            self._check_history()

    def __len__(self) -> int:
        return len(self.y)

    def take(self, rows: NDArray[Any]) -> Dataset:
        """Return the rows at these positions, or where this mask is true: a fold."""
        return Dataset(
            self.X[rows],
            self.y[rows],
            features=self.features,
            intervals=self.intervals[rows],
            symbols=self.symbols[rows],
            weights=self.weights[rows],
            returns=None if self.returns is None else self.returns[rows],
            history=self.history,
            at=self.at[rows],
        )

    def reweighted(self, weights: FloatArray) -> Dataset:
        """Return the same rows, which count otherwise."""
        return Dataset(
            self.X,
            self.y,
            features=self.features,
            intervals=self.intervals,
            symbols=self.symbols,
            weights=weights,
            returns=self.returns,
            history=self.history,
            at=self.at,
        )

    def windows(self, length: int) -> Windows:
        """Return, for each row, the rows of its symbol up to and including it.

        Raises
        ------
        InvalidInput
            If a symbol has two rows at one time.
        """
        return Windows(self.history, self.at, length)

    def require_both_labels(self) -> None:
        """Raise `NotEnoughData` unless rows of both labels carry weight."""
        carried = set(np.unique(self.y[self.weights > 0]).tolist())
        if carried != {-1, 1}:
            raise NotEnoughData(
                f"Expected rows of both labels, -1 and +1, to learn from; found {len(self)} rows "
                f"with labels {sorted(carried)}. Widen the data window or the barriers."
            )

    def require_returns(self) -> FloatArray:
        """Return the labels' returns; raise `InvalidInput` where there are none."""
        if self.returns is None:
            raise InvalidInput(
                "Expected the return of every label to learn from; found labels only. Give "
                "`returns`, which regressors and the jump model learn."
            )
        return self.returns

    def _check(self) -> None:
        n, k = len(self.y), len(self.features)
        expected = {
            "X": (n, k),
            "y": (n,),
            "weights": (n,),
            "intervals": (n, 2),
            "symbols": (n,),
            "at": (n,),
            **({} if self.returns is None else {"returns": (n,)}),
        }
        for name, shape in expected.items():
            found = getattr(self, name).shape
            if found != shape:
                raise InvalidInput(
                    f"Expected {name} of shape {shape} for {n} labels and {k} features; "
                    f"found {found}."
                )
        twice = sorted({name for name in self.features if self.features.count(name) > 1})
        if twice:
            raise InvalidInput(f"Expected each feature once; found twice: {', '.join(twice)}.")
        if not np.isin(self.y, (-1, 1)).all():
            odd = sorted(set(np.unique(self.y).tolist()) - {-1, 1})
            raise InvalidInput(
                f"Expected labels -1 and +1; found {odd[:5]}. Drop rows without a direction."
            )
        if not ((self.weights >= 0) & np.isfinite(self.weights)).all():
            raise InvalidInput("Expected finite weights that are not negative.")
        if self.returns is not None and not np.isfinite(self.returns).all():
            raise InvalidInput("Expected finite returns; found NaN or infinity.")
        infinite = np.isinf(self.X)
        if infinite.any():
            row, column = map(int, np.argwhere(infinite)[0])
            raise InvalidInput(
                f"Expected numbers or NaN for null; found {self.X[row, column]} in row {row} of "
                f"{self.features[column]!r}."
            )

    def _check_history(self) -> None:
        inside = (self.at >= 0) & (self.at < len(self.history))
        if not inside.all() or self.history.X.shape[1] != len(self.features):
            raise InvalidInput(
                f"Expected row numbers of a history of {len(self.features)} features; found a "
                f"history of shape {self.history.X.shape} and {(~inside).sum()} numbers outside it."
            )
        for start in range(0, len(self), _CHUNK):
            rows = slice(start, start + _CHUNK)
            there = self.at[rows]
            if not (
                np.array_equal(self.history.X[there], self.X[rows], equal_nan=True)
                and np.array_equal(self.history.symbols[there], self.symbols[rows])
            ):
                raise InvalidInput(
                    "Expected each row to stand in the history under its number; found another "
                    f"there, among rows {start} to {start + len(there) - 1}."
                )
