"""What every engine can do, and which engines there are."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from atlas.engines.boosting import XGBoostEngine
from atlas.engines.dataset import Dataset, FloatArray
from atlas.engines.features import check_features
from atlas.errors import InvalidInput

__all__ = ["ENGINES", "Engine", "load_engine"]


class Engine(Protocol):
    """A classifier of the market's next move.

    Hyperparameters are the keyword arguments of `__init__`, kept unchanged under the same names;
    what was learned ends in `_`. A row's scores depend on that row alone, bit for bit, so a row
    scored live equals the same row scored in a backtest.
    """

    @property
    def name(self) -> str:
        """The engine's name in manifests, such as `xgboost`."""
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
        """Return the probabilities of down and up, shape (n_rows, 2); rows sum to 1."""
        ...

    def score(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the probability of up, shape (n_rows,): the second column of `predict`, quick."""
        ...

    def dump(self) -> bytes:
        """Return what was learned in a native format whose loading runs no code."""
        ...


ENGINES: Mapping[str, Callable[..., Engine]] = MappingProxyType({XGBoostEngine.name: XGBoostEngine})
"""Name to class; each class has `load(data, *, n_threads)`, the inverse of `dump`."""

_LOADERS: Mapping[str, Callable[..., Engine]] = MappingProxyType(
    {XGBoostEngine.name: XGBoostEngine.load}
)


def load_engine(
    name: str,
    data: bytes,
    *,
    features: Sequence[str] | None = None,
    n_threads: int = 1,
) -> Engine:
    """Rebuild a trained engine from the bytes of its `dump`; no code of theirs is run.

    Parameters
    ----------
    features : sequence of str or None
        What the caller will feed it, in order; checked against what it was trained on.
    n_threads : int
        Threads of one prediction; one is quickest for few rows.

    Raises
    ------
    InvalidInput
        If there is no engine of that name.
    ArtifactCorrupt
        If the bytes are not a model of that engine.
    FeatureMismatch
        If the features differ from those that it was trained on.
    """
    if name not in _LOADERS:
        raise InvalidInput(f"Expected an engine among {', '.join(ENGINES)}; found {name!r}.")
    engine = _LOADERS[name](data, n_threads=n_threads)
    if features is not None:
        check_features(engine.features_, features)
    return engine
