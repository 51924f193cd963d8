"""The gradient-boosted trees of XGBoost as an engine: nulls are branches of their own.

XGBoost is imported when an engine first learns or loads, never with this module, so that a serving
process can keep pandas and scikit-learn out (`import_xgboost_alone`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from atlas.engines.dataset import Dataset, FloatArray, Task, check_task
from atlas.engines.device import check_device, has_gpu
from atlas.engines.features import check_width
from atlas.engines.forest import check_forest
from atlas.errors import ArtifactCorrupt, AtlasError, InvalidInput

__all__ = ["XGBoostEngine"]

_ATTRIBUTE = "atlas_hyperparameters"
_OBJECTIVES = {"direction": "binary:logistic", "return": "reg:squarederror"}
_FLOAT32 = np.dtype(np.float32)
_OF_THE_MACHINE = frozenset({"n_threads", "device"})


class XGBoostEngine:
    """Trees that are added one by one, each fitted to what the former ones miss.

    NaN is null and takes the branch that training found better; nothing is imputed. Values are
    rounded to 32-bit floats, in training as in serving.

    Parameters
    ----------
    n_rounds : int
        Number of trees.
    learning_rate : float
        Share of each tree that is added.
    max_depth : int
        Questions that one tree asks of a row.
    min_child_weight : float
        Least sum of Hessians (weight x p x (1 - p)) in a leaf.
    subsample, column_sample : float
        Share of the rows and of the features that each tree sees.
    reg_lambda, reg_alpha, gamma : float
        Penalties: squared and absolute leaf values, and each further leaf.
    max_bin : int
        Histogram bins a feature.
    task : str
        `direction` for a classifier, `return` for a regressor.
    seed : int
        Of the sampling of rows and features.
    n_threads : int
        Threads for learning and predicting; 0 takes all cores. It does not change the result.
    device : str
        Where it learns: `cpu`, `cuda`, or `auto` for the second where there is one and the build
        of XGBoost can use it. Scores come from the processor, which is quicker for few rows.
    """

    name: ClassVar[str] = "xgboost"
    window: ClassVar[int] = 1

    def __init__(
        self,
        *,
        n_rounds: int = 200,
        learning_rate: float = 0.05,
        max_depth: int = 4,
        min_child_weight: float = 10.0,
        subsample: float = 0.8,
        column_sample: float = 0.8,
        reg_lambda: float = 1.0,
        reg_alpha: float = 0.0,
        gamma: float = 0.0,
        max_bin: int = 256,
        task: Task = "direction",
        seed: int = 0,
        n_threads: int = 1,
        device: str = "auto",
    ) -> None:
        self.n_rounds = n_rounds
        self.learning_rate = learning_rate
        self.max_depth = max_depth
        self.min_child_weight = min_child_weight
        self.subsample = subsample
        self.column_sample = column_sample
        self.reg_lambda = reg_lambda
        self.reg_alpha = reg_alpha
        self.gamma = gamma
        self.max_bin = max_bin
        self.task = task
        self.seed = seed
        self.n_threads = n_threads
        self.device = device
        self.booster_: Any = None
        self._features: tuple[str, ...] = ()

    @property
    def features_(self) -> tuple[str, ...]:
        """The features that it was trained on, in order."""
        return self._features

    @property
    def hyperparameters(self) -> Mapping[str, Any]:
        """The keyword arguments that would build this engine again."""
        return {name: value for name, value in vars(self).items() if name in _HYPERPARAMETERS}

    def fit(self, dataset: Dataset) -> Self:
        """Learn from a dataset; equal data and hyperparameters give equal bytes.

        Raises
        ------
        NotEnoughData
            If the rows that carry weight have one label only.
        InvalidInput
            If the device is none, or is not here.
        """
        import xgboost

        check_task(self.task)
        device = self._device()
        if self.task == "direction":
            dataset.require_both_labels()
            targets: NDArray[Any] = dataset.y > 0
        else:
            targets = dataset.require_returns()
        matrix = xgboost.QuantileDMatrix(
            dataset.X,
            label=targets.astype(np.float32),
            weight=dataset.weights,
            feature_names=list(dataset.features),
            max_bin=self.max_bin,
            nthread=self.n_threads,
        )
        parameters = {**self._parameters(), "device": device}
        booster = xgboost.train(parameters, matrix, num_boost_round=self.n_rounds)
        booster.set_param({"device": "cpu"})
        recipe = {k: v for k, v in self.hyperparameters.items() if k not in _OF_THE_MACHINE}
        booster.set_attr(**{_ATTRIBUTE: json.dumps(recipe, sort_keys=True)})
        self.booster_ = booster
        self._features = dataset.features
        return self

    def predict(self, X: FloatArray) -> NDArray[np.float64]:
        """Return the probabilities of down and up, or of a regressor the expected return.

        Returns
        -------
        (n_rows, 2) or (n_rows, 1)
            Rows of probabilities sum to 1.

        Raises
        ------
        FeatureMismatch
            If X does not have a column a feature.
        """
        # Values beyond a 32-bit float become infinite, which lies on the right side of any split.
        with np.errstate(over="ignore"):
            rows = np.ascontiguousarray(X, dtype=np.float32)
        scores = self.score(rows).astype(np.float64)
        if self.task == "return":
            return scores[:, None]
        return np.column_stack((1.0 - scores, scores))

    def score(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the probability of up, or the expected return, without copying the rows.

        Parameters
        ----------
        rows : (n_rows, n_features)

        Raises
        ------
        FeatureMismatch
            If the rows do not have a column a feature.
        """
        if self.booster_ is None:
            raise AtlasError("Expected a trained engine; this one has learned nothing. Call fit.")
        # XGBoost reads a narrower row as if its last features were null.
        if rows.ndim != 2 or rows.shape[1] != len(self._features):
            check_width(self._features, rows.shape)
        if rows.dtype != _FLOAT32:
            rows = rows.astype(_FLOAT32)
        if not len(rows):  # of none, XGBoost 3.4 gives one score
            return np.empty(0, _FLOAT32)
        scores: NDArray[np.float32] = self.booster_.inplace_predict(rows, validate_features=False)
        return scores

    def dump(self) -> bytes:
        """Return what was learned as XGBoost's UBJSON, with features and hyperparameters."""
        if self.booster_ is None:
            raise AtlasError("Expected a trained engine; this one has learned nothing. Call fit.")
        return bytes(self.booster_.save_raw("ubj"))

    @classmethod
    def load(cls, data: bytes, *, n_threads: int = 1) -> Self:
        """Rebuild an engine from `dump`.

        Raises
        ------
        ArtifactCorrupt
            If the bytes are not such a model.
        """
        import xgboost

        objective = check_forest(data)
        booster = xgboost.Booster({"nthread": n_threads})
        try:
            booster.load_model(bytearray(data))
            recipe = json.loads(booster.attr(_ATTRIBUTE) or "")
            features = tuple(booster.feature_names)
            engine = cls(**recipe, n_threads=n_threads)
            if _OBJECTIVES[engine.task] != objective:
                raise ValueError(f"task {engine.task} with {objective}")
        except (xgboost.core.XGBoostError, KeyError, ValueError, TypeError) as error:
            raise ArtifactCorrupt(
                "Expected a model that XGBoostEngine.dump wrote; found: "
                f"{str(error).strip().splitlines()[0][:200]}. Fetch the blob again, or roll back "
                "to an earlier version."
            ) from error
        engine.booster_ = booster
        engine._features = features
        return engine

    def _device(self) -> str:
        import xgboost

        check_device(self.device)
        if self.device == "cpu":
            return "cpu"
        able = bool(xgboost.build_info().get("USE_CUDA")) and has_gpu()
        if self.device == "cuda" and not able:
            raise InvalidInput(
                "Expected a GPU and a build of XGBoost that uses it, as device says cuda; found "
                "none. Install xgboost instead of xgboost-cpu, or take auto."
            )
        return "cuda" if able else "cpu"

    def _parameters(self) -> dict[str, Any]:
        return {
            "objective": _OBJECTIVES[self.task],
            "tree_method": "hist",
            "learning_rate": self.learning_rate,
            "max_depth": self.max_depth,
            "min_child_weight": self.min_child_weight,
            "subsample": self.subsample,
            "colsample_bytree": self.column_sample,
            "reg_lambda": self.reg_lambda,
            "reg_alpha": self.reg_alpha,
            "gamma": self.gamma,
            "max_bin": self.max_bin,
            "seed": self.seed,
            "nthread": self.n_threads,
            "verbosity": 0,
        }


_HYPERPARAMETERS = frozenset(XGBoostEngine.__init__.__annotations__) - {"return"}
