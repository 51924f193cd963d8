"""Nets with drawn weights, as a trained engine would hold them; torch is not needed."""

from typing import Any

import numpy as np

from atlas.engines import LSTMEngine, TransformerEngine

FEATURES = ("a", "b", "c")
SMALL_LSTM: dict[str, Any] = {"sequence": 7, "units": (6, 4)}
SMALL_TRANSFORMER: dict[str, Any] = {
    "sequence": 7,
    "embed": 8,
    "heads": 2,
    "feed_forward": 6,
    "layers": 2,
}
SMALL = ((LSTMEngine, SMALL_LSTM), (TransformerEngine, SMALL_TRANSFORMER))


def untrained(build: Any, *, features: Any = FEATURES, noise: float = 0.3, **given: Any) -> Any:
    """Return an engine and its weights, all of them off their first values."""
    engine = build(**given)
    net = engine._net(len(features))
    random = np.random.default_rng(0)
    weights = {
        name: (weight + random.normal(0, noise, weight.shape)).astype(np.float32)
        for name, weight in net.initial(random).items()
    }
    engine._features = tuple(features)
    return build.load(engine._encode(net, weights)), weights


def market_windows(n: int, length: int, width: int, *, seed: int = 1) -> Any:
    """Return windows with nulls, rows of nulls in front, and wild values."""
    random = np.random.default_rng(seed)
    windows = random.normal(size=(n, length, width)).astype(np.float32)
    windows[random.random(windows.shape) < 0.1] = np.nan
    windows[0, : length // 2] = np.nan
    windows[1, -1, 0], windows[2, -1, 0] = np.inf, -3e38
    return windows
