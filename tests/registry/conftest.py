"""Manifests to register, and a log of the test's own."""

from collections.abc import Callable

import pytest

from atlas.registry import DeploymentLog, HaltLog
from atlas.serving import Manifest, ReadPlan, Stage, feature_hash


@pytest.fixture(scope="session")
def manifest() -> Callable[..., Manifest]:
    """Build the manifest of a version of a model."""

    def build(version: int, model: str = "direction_ohlcv_1m") -> Manifest:
        plan = ReadPlan("atlas", "ohlcv_1m", ("symbol",), ("rsi_14", "return_24h"), 600_000_000)
        return Manifest(
            model=model,
            version=version,
            stage=Stage.REGISTERED,
            generation=0,
            engine="xgboost",
            blob=f"{version:064x}",
            plan=plan,
            feature_hash=feature_hash(plan.view, plan.features),
            interval="1m",
            threshold=0.05,
            decision_bars=5,
            golden_rows=((1 / 3, None),),
            golden_scores=(0.1 + 0.2,),
        )

    return build


@pytest.fixture
def url(database_url: str) -> str:
    return database_url


@pytest.fixture
def log(url: str) -> DeploymentLog:
    return DeploymentLog(url)


@pytest.fixture
def halts(url: str) -> HaltLog:
    return HaltLog(url)
