"""What scoring costs: each engine against its floor, and against the library call beneath it.

A floor is what an earlier system reached on two cores. A row of a sequence engine is one step with
carried state; `_require_equal` shows that steps give what windows of the same rows give.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from atlas.engines import (
    Dataset,
    EnsembleEngine,
    JumpEngine,
    LSTMEngine,
    TransformerEngine,
    XGBoostEngine,
)
from bench.measure import Measured, by_turns, memory_growth

__all__ = ["engine_scores"]

_ROWS = 100_000
_FEATURES = tuple(f"f{i}" for i in range(19))
_STREAMS = 128
_THREADS = os.cpu_count() or 1
_FLOORS = {"lstm": (50_694, 53_400), "xgboost": (32_886, 12_500), "jump": (463_723, 600)}


def engine_scores(*, small: bool) -> list[Measured]:
    """Score 100 000 rows with each engine, in batches and one by one."""
    random = np.random.default_rng(0)
    return [
        *_trees(random),
        *_memory_cells(random),
        _attention(random, n_windows=64 if small else 512),
        *_regimes(random),
        _mixture(random),
    ]


def _trees(random: Any) -> list[Measured]:
    alone = XGBoostEngine().fit(_market(random, 5_000))
    engine = XGBoostEngine.load(alone.dump(), n_threads=_THREADS)
    rows = random.normal(size=(_ROWS, len(_FEATURES))).astype(np.float32)

    def raw(of: XGBoostEngine, part: Any) -> Any:
        return of.booster_.inplace_predict(part, validate_features=False)

    batch = _measured(
        "xgboost, 100 k rows in one call",
        lambda: engine.score(rows),
        lambda: raw(engine, rows),
        "inplace_predict",
        times=7,
    )
    ticks = [rows[i : i + 1] for i in range(1_000)]
    single = _measured(
        "xgboost, 1 000 rows one by one",
        lambda: [alone.score(tick) for tick in ticks],
        lambda: [raw(alone, tick) for tick in ticks],
        "inplace_predict",
        times=9,
    )
    return [_against_floor("xgboost", batch, _ROWS), batch, single]


def _memory_cells(random: Any) -> list[Measured]:
    engine = _untrained(LSTMEngine, random)
    # One row is no work for several threads: they would wait for each other.
    alone = LSTMEngine.load(engine.dump(), n_threads=1)
    n_steps = -(-_ROWS // _STREAMS)
    rows = random.normal(size=(n_steps, _STREAMS, len(_FEATURES))).astype(np.float32)
    batch = _measured(
        f"lstm, 100 k rows of {_STREAMS} streams, a row of each in a call",
        lambda: _walk(engine, rows),
        lambda: _walk_raw(engine, rows),
        "onnxruntime, same arrays",
        times=3,
    )
    single = _measured(
        f"lstm, {n_steps} rows of one stream",
        lambda: _walk(alone, rows[:, :1]),
        lambda: _walk_raw(alone, rows[:, :1]),
        "onnxruntime, same arrays",
        times=5,
    )
    _require_equal(engine, rows[: engine.window])
    return [_against_floor("lstm", batch, n_steps * _STREAMS), batch, single]


def _attention(random: Any, *, n_windows: int) -> Measured:
    engine = _untrained(TransformerEngine, random)
    windows = random.normal(size=(n_windows, engine.window, len(_FEATURES))).astype(np.float32)
    parts = [windows[start : start + 64] for start in range(0, n_windows, 64)]
    return _measured(
        f"transformer, {n_windows} windows of {engine.window}",
        lambda: engine.score(windows),
        lambda: [engine._session.run(["score"], {"rows": part}) for part in parts],
        "onnxruntime, same batches",
        times=3,
    )


def _regimes(random: Any) -> list[Measured]:
    package = _package()
    market = _market(random, 4_000)
    engine = JumpEngine(n_states=2, penalty=20.0, columns=_FEATURES[:3]).fit(market)
    n_steps = -(-_ROWS // _STREAMS)
    rows = random.normal(size=(n_steps, _STREAMS, len(_FEATURES))).astype(np.float32)
    streams = _measured(
        f"jump, 100 k rows of {_STREAMS} streams, a row of each in a call",
        lambda: _walk(engine, rows),
        None,
        "",
        times=9,
    )
    single = _measured(
        f"jump, {n_steps} rows of one stream", lambda: _walk(engine, rows[:, :1]), None, "", times=9
    )

    _require_equal(engine, rows[: engine.window])
    X = market.X[:, :3].astype(np.float64)
    ours, theirs = engine.model_, package(2, 20.0, random_state=0).fit(X)
    long = random.normal(size=(_ROWS, 3))
    tick, window, stream = long[0], long[:250], ours.stream()
    return [
        _against_floor("jump", streams, n_steps * _STREAMS),
        streams,
        single,
        _measured(
            "jump, filter of 100 k rows in one call",
            lambda: ours.filter(long, warm=False),
            lambda: theirs.predict_online(long),
            "jumpmodels, same rows",
            times=5,
        ),
        _measured(
            "jump, one tick",
            lambda: stream.update(tick),
            lambda: theirs.predict_online(window),
            "jumpmodels, 250 rows anew",
            times=201,
        ),
        _measured(
            "jump, fit of 4 000 x 3, 31 starts against 10",
            lambda: type(ours)(2, 20.0, n_starts=10).fit(X),
            lambda: package(2, 20.0, random_state=0).fit(X),
            "jumpmodels",
            times=3,
        ),
    ]


def _mixture(random: Any) -> Measured:
    members = (("xgboost", {}), ("jump", {"columns": _FEATURES[:3], "sequence": 20}))
    engine = EnsembleEngine(members=members, n_splits=2).fit(_market(random, 4_000))
    trees, jump = engine.members_
    windows = random.normal(size=(1_000, 20, len(_FEATURES))).astype(np.float32)
    last = np.ascontiguousarray(windows[:, -1])
    return _measured(
        "ensemble of xgboost and jump, 100 k windows of 20, 1 000 in a call",
        lambda: [engine.score(windows) for _ in range(100)],
        lambda: [(trees.score(last), jump.score(windows)) for _ in range(100)],
        "its members alone",
        times=3,
    )


def _measured(
    work: str,
    ours: Callable[[], object],
    baseline: Callable[[], object] | None,
    name: str,
    *,
    times: int,
) -> Measured:
    # The first run of all: later ones find its memory waiting for them.
    with memory_growth() as grown:
        ours()
    mine, theirs = by_turns(ours, baseline, times=times)
    began = time.process_time()
    ours()
    # On a machine that others use as well, this says more than the clock on the wall.
    notes = {"processor us": 1e6 * (time.process_time() - began), "kB more": 1e3 * grown.growth_mb}
    aim = "<= 1.1 x" if baseline is not None else ""
    return Measured(work, mine, theirs, name, aim, notes)


def _against_floor(engine: str, measured: Measured, n_rows: int) -> Measured:
    speed, memory = _FLOORS[engine]
    notes = {
        "rows/s": n_rows / measured.ours_s,
        "floor rows/s": speed,
        "kB more": measured.notes["kB more"],
        "floor kB": memory,
    }
    return Measured(
        f"{engine} on {_THREADS} threads, {n_rows} rows",
        measured.ours_s,
        n_rows / speed,
        "the floor",
        "<= 0.2 x",
        notes,
    )


def _walk(engine: Any, rows: Any) -> Any:
    state = None
    for row in rows:
        scores, state = engine.step(row, state)
    return scores


def _walk_raw(engine: LSTMEngine, rows: Any) -> Any:
    state = np.zeros((rows.shape[1], 2 * sum(engine.units)), np.float32)
    for row in rows[:, :, None]:
        scores, state = engine._session.run(["score", "next_state"], {"rows": row, "state": state})
    return scores


def _require_equal(engine: Any, rows: Any) -> None:
    """Show that the rows of a window one by one end in the score of the window."""
    windows = np.ascontiguousarray(rows.swapaxes(0, 1))
    if not np.array_equal(_walk(engine, rows), engine.score(windows)):
        raise RuntimeError(f"{engine.name}: steps and windows give different scores")


def _untrained(build: Any, random: Any) -> Any:
    """Return an engine with drawn weights: it costs what a trained one costs, without torch."""
    engine = build()
    engine._features = _FEATURES
    net = engine._net(len(_FEATURES))
    weights = {**net.initial(random), "scale": np.ones(len(_FEATURES), np.float32)}
    return build.load(engine._encode(net, weights), n_threads=_THREADS)


def _market(random: Any, n_rows: int) -> Dataset:
    """Return rows in regimes of 40 bars that tell the direction."""
    regime = np.repeat(random.random(n_rows // 40) < 0.4, 40)
    X = random.normal(size=(n_rows, len(_FEATURES)))
    X[:, :3] += np.where(regime, 1.5, -1.5)[:, None]
    returns = np.where(regime, 0.004, -0.004) + random.normal(scale=0.01, size=n_rows)
    bars = np.arange(n_rows)
    return Dataset(
        X,
        np.where(returns > 0, 1, -1),
        features=_FEATURES,
        intervals=np.column_stack((bars, bars)),
        symbols=np.repeat("A", n_rows),
        returns=returns,
    )


def _package() -> Any:
    """Return the model class of jumpmodels, whose import changes NumPy's error handling."""
    with np.errstate():  # which restores it
        from jumpmodels.jump import JumpModel
    return JumpModel
