"""What an engine learns from: rows of features, their labels, weights and label spans."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from atlas.errors import InvalidInput, NotEnoughData

__all__ = ["Dataset", "FloatArray"]

FloatArray = NDArray[np.floating[Any]]


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

    def __init__(
        self,
        X: FloatArray,
        y: NDArray[np.integer[Any]],
        *,
        features: Sequence[str],
        intervals: NDArray[np.integer[Any]],
        symbols: NDArray[Any] | Sequence[str],
        weights: FloatArray | None = None,
    ) -> None:
        fields = {
            "X": np.asarray(X),
            "y": np.asarray(y),
            "weights": np.ones(len(y)) if weights is None else np.asarray(weights),
            "intervals": np.asarray(intervals),
            "symbols": np.asarray(symbols),
            "features": tuple(features),
        }
        for name, value in fields.items():
            object.__setattr__(self, name, value)
        self._check()

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
        )

    def require_both_labels(self) -> None:
        """Raise `NotEnoughData` unless rows of both labels carry weight."""
        carried = set(np.unique(self.y[self.weights > 0]).tolist())
        if carried != {-1, 1}:
            raise NotEnoughData(
                f"Expected rows of both labels, -1 and +1, to learn from; found {len(self)} rows "
                f"with labels {sorted(carried)}. Widen the data window or the barriers."
            )

    def _check(self) -> None:
        n, k = len(self.y), len(self.features)
        expected = {
            "X": (n, k),
            "y": (n,),
            "weights": (n,),
            "intervals": (n, 2),
            "symbols": (n,),
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
        infinite = np.isinf(self.X)
        if infinite.any():
            row, column = map(int, np.argwhere(infinite)[0])
            raise InvalidInput(
                f"Expected numbers or NaN for null; found {self.X[row, column]} in row {row} of "
                f"{self.features[column]!r}."
            )
