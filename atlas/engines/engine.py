"""What every engine can do, and how the rows of a dataset are put before it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from atlas.engines.dataset import Dataset, FloatArray, Task

__all__ = ["Engine", "StreamingEngine", "predict_rows"]

_CHUNK = 1_024


class Engine(Protocol):
    """A forecast of the market's next move: the odds of its direction, or the return.

    Hyperparameters are the keyword arguments of `__init__`, kept unchanged under the same names;
    what was learned ends in `_`. A score depends on what it looks at alone, bit for bit: on its
    row, or on the window of one symbol's rows that ends with it. So a row scored live equals the
    same row scored in a backtest. `load(data, *, n_threads)`, a class method, is the inverse of
    `dump`.

    A user's own engine is any class of this form whose `name` is its dotted path.
    """

    @property
    def name(self) -> str:
        """The engine's name in manifests, such as `xgboost`, or `package.module:Class`."""
        ...

    @property
    def task(self) -> Task:
        """Whether it tells the direction or the return."""
        ...

    @property
    def window(self) -> int:
        """Rows of a symbol that a score looks at; 1 for one that sees the last row alone.

        Above 1, what is scored has shape (n_rows, window, n_features); NaN stands in front where a
        symbol has fewer rows.
        """
        ...

    @property
    def features_(self) -> tuple[str, ...]:
        """The features that it was trained on, in order."""
        ...

    @property
    def hyperparameters(self) -> Mapping[str, Any]:
        """The keyword arguments that would build this engine again."""
        ...

    def fit(self, dataset: Dataset) -> Self:
        """Learn from a dataset; equal data and hyperparameters give equal bytes."""
        ...

    def predict(self, X: FloatArray) -> NDArray[np.float64]:
        """Return the probabilities of down and up, shape (n_rows, 2); rows sum to 1.

        A regressor returns the expected return, shape (n_rows, 1).
        """
        ...

    def score(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the last column of `predict`, shape (n_rows,), quick."""
        ...

    def dump(self) -> bytes:
        """Return what was learned in a native format whose loading runs no code."""
        ...


class StreamingEngine(Engine, Protocol):
    """An engine that can also be fed one row at a time.

    After the rows of a window, one by one from no state, a stream's score is that of the window, to
    the last bit. The state is a plain array of floats, one row a stream, that may be stored.
    """

    def step(
        self, rows: NDArray[np.float32], state: NDArray[Any] | None = None
    ) -> tuple[NDArray[np.float32], NDArray[Any]]:
        """Score the next row of each stream, (n_streams, n_features); return scores and state."""
        ...


def predict_rows(engine: Engine, dataset: Dataset) -> NDArray[np.float64]:
    """Return what `engine.predict` says of each row of a dataset, in bounded memory.

    An engine that looks back is given windows, cut from the dataset's history.
    """
    if engine.window == 1:
        return engine.predict(dataset.X)
    windows = dataset.windows(engine.window)
    parts = [
        engine.predict(windows[start : start + _CHUNK])
        for start in range(0, max(len(windows), 1), _CHUNK)
    ]
    return np.concatenate(parts)
