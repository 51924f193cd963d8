"""Work without stores: features, scores, statistics."""

from __future__ import annotations

import numpy as np

from atlas.engines import Dataset, XGBoostEngine
from atlas.features import feature_set
from atlas.ingest import MarketRecipe, simulate
from atlas.stats import overfitting_probability
from bench.measure import Measured, by_turns

__all__ = ["features_of_history", "overfitting_of", "score_one_row"]


def score_one_row() -> Measured:
    """One row through the engine, against the raw library call."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(2_000, 19))
    names = [f"f{i}" for i in range(19)]
    spans = np.column_stack([np.arange(2_000)] * 2)
    dataset = Dataset(
        X, np.where(X[:, 0] > 0, 1, -1), features=names, intervals=spans, symbols=["A"] * 2_000
    )
    engine = XGBoostEngine(n_rounds=100, max_depth=6).fit(dataset)
    row = X[:1].astype(np.float32)
    ours, raw = by_turns(
        lambda: engine.score(row),
        lambda: engine.booster_.inplace_predict(row, validate_features=False),
        times=2_000,
    )
    return Measured("score, 1 row", ours, raw, "xgboost inplace_predict", "<= 1.1 x")


def features_of_history() -> Measured:
    """Nineteen features over five symbols and thirty days of one-minute bars."""
    bars = simulate(MarketRecipe(days=30)).lazy()
    features = feature_set("ohlcv_1m")
    ours, _ = by_turns(lambda: features.compute(bars).collect(), None, times=3)
    return Measured("features, 216 k bars x 19", ours, None, "", "")


def overfitting_of(n_trials: int) -> Measured:
    """Probability of backtest overfitting at 16 blocks."""
    returns = np.random.default_rng(0).normal(0, 1e-3, (1_600, n_trials))
    ours, _ = by_turns(lambda: overfitting_probability(returns), None, times=3)
    aim = {20: "<= 0.1 s", 1_000: "<= 3.6 s"}[n_trials]
    return Measured(f"PBO, {n_trials} trials", ours, None, "", aim)
