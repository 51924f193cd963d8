"""The engines that the conformance checks run on, and a market that can be learned."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from atlas.engines import Dataset, Engine, XGBoostEngine


@dataclass(frozen=True)
class Kind:
    """One engine under test: its class, and hyperparameters that make it quick."""

    build: Callable[..., Engine]
    quick: dict[str, Any]

    def new(self, **changes: Any) -> Engine:
        return self.build(**{**self.quick, **changes})


# A new engine is added here and inherits every check.
KINDS = {
    "xgboost": Kind(XGBoostEngine, {"n_rounds": 20, "max_depth": 3, "min_child_weight": 1.0}),
}


def market(n_rows: int = 400, n_features: int = 5, *, seed: int = 0) -> Dataset:
    """Rows whose first feature tells the label three times out of four; a tenth is null."""
    random = np.random.default_rng(seed)
    X = random.normal(size=(n_rows, n_features))
    y = np.where(X[:, 0] + random.normal(scale=0.8, size=n_rows) > 0, 1, -1)
    X[random.random(X.shape) < 0.1] = np.nan
    starts = np.arange(n_rows)
    return Dataset(
        X,
        y,
        features=[f"feature_{i}" for i in range(n_features)],
        intervals=np.column_stack((starts, starts + 5)),
        symbols=np.where(starts % 2, "BTC_USDT", "ETH_USDT"),
        weights=random.uniform(0.2, 1.0, size=n_rows),
    )


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> Kind:
    return KINDS[request.param]


@pytest.fixture(scope="session")
def dataset() -> Dataset:
    return market()


@pytest.fixture(scope="session")
def unseen() -> Dataset:
    return market(seed=1)
