"""An engine of somebody's own: odds along the line between the mean windows of both labels."""

import json
from collections.abc import Mapping
from typing import Any, ClassVar, Self

import numpy as np

from atlas.engines import Dataset, Task
from atlas.errors import ArtifactCorrupt, AtlasError, FeatureMismatch


class BetweenMeans:
    name: ClassVar[str] = "own_engine:BetweenMeans"
    task: ClassVar[Task] = "direction"
    window: ClassVar[int] = 2

    def __init__(self, *, steepness: float = 1.0, n_threads: int = 1) -> None:
        self.steepness = steepness
        self.n_threads = n_threads
        self.features_: tuple[str, ...] = ()

    @property
    def hyperparameters(self) -> Mapping[str, Any]:
        return {"steepness": self.steepness, "n_threads": self.n_threads}

    def fit(self, dataset: Dataset) -> Self:
        dataset.require_both_labels()
        dataset = dataset.take(dataset.weights > 0)
        windows = np.nan_to_num(dataset.windows(2)[:].astype(np.float64))
        means = [
            np.average(windows[dataset.y == y], axis=0, weights=dataset.weights[dataset.y == y])
            for y in (-1, 1)
        ]
        self.slope_ = means[1] - means[0]
        self.middle_ = float((self.slope_ * (means[0] + means[1])).sum() / 2)
        self.features_ = dataset.features
        return self

    def predict(self, X: Any) -> Any:
        with np.errstate(over="ignore"):
            up = self.score(np.asarray(X, np.float32)).astype(np.float64)
        return np.column_stack((1.0 - up, up))

    def score(self, rows: Any) -> Any:
        self._require_learned()
        if rows.ndim != 3 or rows.shape[1:] != self.slope_.shape:
            raise FeatureMismatch(f"Trained on {len(self.features_)} features; found {rows.shape}.")
        values = np.nan_to_num(np.ascontiguousarray(rows, np.float32)).astype(np.float64)
        along = (values * self.slope_).reshape(len(rows), self.slope_.size).sum(axis=1)
        odds = np.clip(self.steepness * (along - self.middle_), -30.0, 30.0)
        return (1.0 / (1.0 + np.exp(-odds))).astype(np.float32)

    def dump(self) -> bytes:
        self._require_learned()
        said = {
            "features": self.features_,
            "middle": self.middle_,
            "slope": self.slope_.tolist(),
            "steepness": self.steepness,
        }
        return json.dumps(said).encode()

    @classmethod
    def load(cls, data: bytes, *, n_threads: int = 1) -> Self:
        try:
            said = json.loads(data)
            engine = cls(steepness=said["steepness"], n_threads=n_threads)
            engine.slope_, engine.middle_ = np.array(said["slope"]), said["middle"]
            engine.features_ = tuple(said["features"])
        except (KeyError, TypeError, ValueError) as error:
            raise ArtifactCorrupt(f"Expected means; found {error}.") from error
        return engine

    def _require_learned(self) -> None:
        if not self.features_:
            raise AtlasError("It has learned nothing.")


class NoEngine:
    """Lacks most of what an engine is."""

    name = "own_engine:NoEngine"


class Misnamed(BetweenMeans):
    name = "own_engine:BetweenMeans"
