"""What the engines that look back on a window of rows have in common: learn, serve, keep, load."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from atlas.engines.dataset import Dataset, FloatArray, Task, check_task
from atlas.engines.device import check_device
from atlas.engines.features import check_width
from atlas.engines.lessons import prepare_lessons
from atlas.engines.net import Net
from atlas.engines.onnx_model import Weights, read_onnx
from atlas.engines.onnx_session import open_session
from atlas.errors import ArtifactCorrupt, AtlasError

__all__ = ["SequenceEngine"]

_OF_THE_MACHINE = frozenset({"n_threads", "device"})
_BATCH = 64


class SequenceEngine(ABC):
    """An engine whose score looks at the last rows of one symbol: a net, served as ONNX.

    Its rows are windows, shape (n_windows, window, n_features), that end at the decision; NaN is
    null, and stands in front where a symbol has fewer rows. A null counts as the feature's mean,
    and the share of nulls in a row is one more input. Learning needs torch; serving does not.
    """

    name: ClassVar[str]

    sequence: int
    dropout: float
    learning_rate: float
    batch_size: int
    epochs: int
    patience: int
    validation_share: float
    gradient_norm: float
    balanced: bool
    max_windows: int | None
    task: Task
    seed: int
    n_threads: int
    device: str

    _features: tuple[str, ...] = ()
    _model: bytes = b""
    _session: Any = None

    @abstractmethod
    def _net(self, n_features: int) -> Net:
        """Return the form that the hyperparameters ask for."""

    @property
    def window(self) -> int:
        """Rows that a score looks at."""
        return self.sequence

    @property
    def features_(self) -> tuple[str, ...]:
        """The features that it was trained on, in order."""
        return self._features

    @property
    def hyperparameters(self) -> Mapping[str, Any]:
        """The keyword arguments that would build this engine again."""
        names = type(self).__init__.__annotations__
        return {name: getattr(self, name) for name in names if name != "return"}

    def fit(self, dataset: Dataset) -> Self:
        """Learn from a dataset; equal data and hyperparameters give equal bytes on one machine.

        The later part of the rows tells when to stop; labels that reach into it are left out.

        Raises
        ------
        AtlasError
            If torch is not installed.
        NotEnoughData
            If the rows that carry weight have one label only, or are too few to part.
        """
        check_task(self.task)
        check_device(self.device)
        net = self._net(len(dataset.features))
        lessons = prepare_lessons(
            dataset,
            length=self.sequence,
            is_label=self.task == "direction",
            validation_share=self.validation_share,
            balanced=self.balanced,
            max_windows=self.max_windows,
        )
        try:
            from atlas.engines.descent import Course, descend
        except ModuleNotFoundError as error:
            raise AtlasError(
                f"Expected torch to train the engine {self.name!r}; found none. Install it with: "
                "pip install 'atlas-desk[deep]'. Loading and scoring work without it."
            ) from error
        course = Course(
            learning_rate=self.learning_rate,
            batch_size=self.batch_size,
            epochs=self.epochs,
            patience=self.patience,
            dropout=self.dropout,
            gradient_norm=self.gradient_norm,
            seed=self.seed,
            device=self.device,
        )
        weights = lessons.finish(descend(net, lessons, course))
        self._features = dataset.features
        self._model = self._encode(net, weights)
        self._session = open_session(self._model, n_threads=self.n_threads)
        return self

    def predict(self, X: FloatArray) -> NDArray[np.float64]:
        """Return the probabilities of down and up, or of a regressor the expected return.

        Returns
        -------
        (n_windows, 2) or (n_windows, 1)
            Rows of probabilities sum to 1.

        Raises
        ------
        FeatureMismatch
            If X is not of shape (n_windows, window, n_features).
        """
        with np.errstate(over="ignore"):
            rows = np.ascontiguousarray(X, dtype=np.float32)
        scores = self.score(rows).astype(np.float64)
        if self.task == "return":
            return scores[:, None]
        return np.column_stack((1.0 - scores, scores))

    def score(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the probability of up, or the expected return, of each window.

        Parameters
        ----------
        rows : (n_windows, window, n_features)

        Raises
        ------
        FeatureMismatch
            If the rows have another shape.
        """
        self._require_learned()
        check_width(self._features, rows.shape, window=self.sequence)
        scores = np.empty(len(rows), np.float32)
        for start in range(0, len(rows), _BATCH):
            part = np.ascontiguousarray(rows[start : start + _BATCH], dtype=np.float32)
            scores[start : start + _BATCH] = self._run(part)
        return scores

    def dump(self) -> bytes:
        """Return what was learned as ONNX, with features and hyperparameters in its metadata."""
        self._require_learned()
        return self._model

    @classmethod
    def load(cls, data: bytes, *, n_threads: int = 1) -> Self:
        """Rebuild an engine from `dump`; torch is not needed.

        The model is built again from its hyperparameters and weights, and must be the same bytes:
        so no foreign operator, file or code can reach the runtime.

        Raises
        ------
        ArtifactCorrupt
            If the bytes are not such a model.
        """
        text, weights = read_onnx(data)
        try:
            said = json.loads(text)
            recipe = {
                name: tuple(value) if isinstance(value, list) else value
                for name, value in said["hyperparameters"].items()
            }
            engine = cls(**{**recipe, "n_threads": n_threads})
            check_task(engine.task)
            engine._features = tuple(map(str, said["features"]))
            net = engine._net(len(engine._features))
            shapes = net.shapes()
            found = {name: weight.size for name, weight in weights.items() if name in shapes}
            if found != {name: int(np.prod(shape)) for name, shape in shapes.items()}:
                raise ValueError(f"weights of sizes {str(found)[:100]}")
            shaped = {name: weights[name].reshape(shape) for name, shape in shapes.items()}
            if not all(np.isfinite(weight).all() for weight in shaped.values()):
                raise ValueError("weights that are not finite")
            if engine._encode(net, shaped) != data:
                raise ValueError("other bytes than its weights and hyperparameters give")
        except (ArithmeticError, KeyError, TypeError, ValueError, RecursionError) as error:
            raise ArtifactCorrupt(
                f"Expected a model that {cls.__name__}.dump wrote; found {str(error)[:200]}. "
                "Fetch the blob again, or roll back to an earlier version."
            ) from error
        engine._model = data
        engine._session = open_session(data, n_threads=n_threads)
        return engine

    def _run(self, windows: NDArray[np.float32]) -> NDArray[np.float32]:
        scores: NDArray[np.float32] = self._session.run(["score"], {"rows": windows})[0]
        return scores

    def _encode(self, net: Net, weights: Weights) -> bytes:
        """Return the model's bytes; what a machine decides for itself is not part of them."""
        digest = hashlib.sha256()
        for name in net.shapes():
            digest.update(np.ascontiguousarray(weights[name], "<f4").data)
        said = {
            "digest": digest.hexdigest(),
            "engine": self.name,
            "features": self._features,
            "hyperparameters": {
                name: value
                for name, value in self.hyperparameters.items()
                if name not in _OF_THE_MACHINE
            },
        }
        graph = net.graph(weights, probability=self.task == "direction")
        return graph.encode(json.dumps(said, sort_keys=True))

    def _require_learned(self) -> None:
        if self._session is None:
            raise AtlasError("Expected a trained engine; this one has learned nothing. Call fit.")
