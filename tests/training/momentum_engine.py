"""An engine of somebody's own that looks back: the mean of one feature over a window, as odds."""

import json
from collections.abc import Mapping
from typing import Any, ClassVar, Self

import numpy as np
import optuna

from atlas.engines import Dataset, Task
from atlas.errors import ArtifactCorrupt


class Momentum:
    name: ClassVar[str] = "momentum_engine:Momentum"
    task: ClassVar[Task] = "direction"
    window: ClassVar[int] = 4

    def __init__(self, *, steepness: float = 1.0, n_threads: int = 1) -> None:
        self.steepness = steepness
        self.n_threads = n_threads
        self.features_: tuple[str, ...] = ()

    @staticmethod
    def suggest(trial: optuna.Trial) -> dict[str, Any]:
        return {"steepness": trial.suggest_float("steepness", 0.5, 2.0)}

    @property
    def hyperparameters(self) -> Mapping[str, Any]:
        return {"steepness": self.steepness, "n_threads": self.n_threads}

    def fit(self, dataset: Dataset) -> Self:
        dataset.require_both_labels()
        means = self._means(dataset.windows(self.window)[:])
        self.scale_ = float(np.std(means)) or 1.0
        self.features_ = dataset.features
        return self

    def predict(self, X: Any) -> Any:
        up = self.score(np.asarray(X, np.float32)).astype(np.float64)
        return np.column_stack((1.0 - up, up))

    def score(self, rows: Any) -> Any:
        odds = np.clip(self.steepness * self._means(rows) / self.scale_, -30.0, 30.0)
        return (1.0 / (1.0 + np.exp(-odds))).astype(np.float32)

    def dump(self) -> bytes:
        said = {"features": self.features_, "scale": self.scale_, "steepness": self.steepness}
        return json.dumps(said, sort_keys=True).encode()

    @classmethod
    def load(cls, data: bytes, *, n_threads: int = 1) -> Self:
        try:
            said = json.loads(data)
            engine = cls(steepness=said["steepness"], n_threads=n_threads)
            engine.features_, engine.scale_ = tuple(said["features"]), said["scale"]
        except (ValueError, KeyError) as error:
            raise ArtifactCorrupt(f"Expected Momentum.dump's bytes; found {error}.") from error
        return engine

    @staticmethod
    def _means(windows: Any) -> Any:
        return np.nan_to_num(windows[:, :, 0].astype(np.float64)).mean(axis=1)
