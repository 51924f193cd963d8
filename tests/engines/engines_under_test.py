"""The engines that the conformance checks run on, and a market that can be learned.

`ATLAS_TEST_ENGINE=package.module:Class pytest tests/engines/test_conformance.py` adds your own,
with its default hyperparameters.
"""

import importlib.util
import os
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from atlas.engines import Dataset, Engine, engine_class

needs_torch = pytest.mark.skipif(
    importlib.util.find_spec("torch") is None,
    reason="Training it needs torch: make setup EXTRAS=deep.",
)


@dataclass(frozen=True)
class Kind:
    """One engine under test: its name, and hyperparameters that make it quick."""

    name: str
    quick: dict[str, Any] = field(default_factory=dict)

    @property
    def build(self) -> Any:
        return engine_class(self.name)

    def new(self, **changes: Any) -> Engine:
        engine: Engine = self.build(**{**self.quick, **changes})
        return engine


TREES = {"n_rounds": 20, "max_depth": 3, "min_child_weight": 1.0}
COURSE = {"sequence": 3, "epochs": 8, "patience": 8, "dropout": 0.1, "batch_size": 32}
LSTM = {**COURSE, "units": (8, 6), "learning_rate": 0.03}
TRANSFORMER = {
    **COURSE,
    "embed": 8,
    "heads": 2,
    "feed_forward": 8,
    "layers": 2,
    "learning_rate": 0.01,
}
JUMP = {"sequence": 4, "penalty": 0.1, "columns": ("feature_0",), "n_starts": 2}
# A new engine is added here and inherits every check.
KINDS = {
    "xgboost": Kind("xgboost", TREES),
    "lstm": Kind("lstm", LSTM),
    "transformer": Kind("transformer", TRANSFORMER),
    "jump": Kind("jump", JUMP),
    "stacking": Kind(
        "ensemble",
        {"members": (("xgboost", TREES), ("own_engine:BetweenMeans", {})), "n_splits": 2},
    ),
    "weighted": Kind(
        "ensemble",
        {
            "members": (("xgboost", TREES), ("xgboost", {**TREES, "max_depth": 1})),
            "method": "weighted",
            "n_splits": 2,
        },
    ),
    "own": Kind("own_engine:BetweenMeans", {"steepness": 2.0}),
}
if "ATLAS_TEST_ENGINE" in os.environ:
    KINDS["yours"] = Kind(os.environ["ATLAS_TEST_ENGINE"])


def market(n_rows: int = 400, n_features: int = 5, *, seed: int = 0) -> Dataset:
    """Rows whose first feature tells the label three times out of four; a tenth is null."""
    random = np.random.default_rng(seed)
    X = random.normal(size=(n_rows, n_features))
    y = np.where(X[:, 0] + random.normal(scale=0.8, size=n_rows) > 0, 1, -1)
    X[random.random(X.shape) < 0.1] = np.nan
    starts = np.arange(n_rows)
    returns = np.where(y > 0, 0.01, -0.01) + random.normal(scale=0.002, size=n_rows)
    return Dataset(
        X,
        y,
        features=[f"feature_{i}" for i in range(n_features)],
        intervals=np.column_stack((starts, starts + 5)),
        symbols=np.where(starts % 2, "BTC_USDT", "ETH_USDT"),
        weights=random.uniform(0.2, 1.0, size=n_rows),
        returns=returns,
    )
