"""A search for hyperparameters, in one process and in two."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import polars as pl
import psutil

from atlas.features import feature_set
from atlas.ingest import MarketRecipe, simulate
from atlas.training import (
    Candidate,
    SearchPlan,
    TrainingFrame,
    candidate_for,
    join_features,
    label_events,
    train,
)
from bench.measure import Measured, Memory, by_turns

__all__ = ["search"]

_DAYS, _TRIALS = 30, 16


def search() -> Measured:
    """Sixteen trials of XGBoost on six folds of five symbols and thirty days of minutes."""
    candidate, frame = _market()
    with _memory_of_all() as memory:
        two, one = by_turns(
            lambda: train(candidate, frame, n_processes=2),
            lambda: train(candidate, frame),
            times=3,
        )
    notes = {"decisions": float(frame.rows.height), "growth of all processes, MB": memory.growth_mb}
    return Measured("search, 16 trials, 2 processes", two, one, "1 process", "", notes)


def _market() -> tuple[Candidate, TrainingFrame]:
    bars = simulate(MarketRecipe(days=_DAYS))
    features = feature_set("ohlcv_1m")
    candidate = candidate_for(features, search=SearchPlan(n_trials=_TRIALS, prune=False))
    rows = features.compute(bars.lazy()).collect()

    def join(_: str, keys: pl.DataFrame) -> object:
        key = ["symbol", "event_timestamp"]
        return keys.join(rows, on=key, how="left", maintain_order="left").to_arrow()

    events = label_events(bars, features.interval, candidate.target)
    return candidate, join_features(events, candidate, join, min_rows=1_000)  # type: ignore[arg-type]


@contextmanager
def _memory_of_all() -> Iterator[Memory]:
    """Watch this process and those that it starts."""
    process, seen, done = psutil.Process(), Memory(), threading.Event()
    first = process.memory_info().rss

    def watch() -> None:
        while not done.wait(0.05):
            held = 0
            for each in (process, *process.children(recursive=True)):
                try:
                    held += each.memory_info().rss
                except psutil.NoSuchProcess:
                    continue
            seen.growth_mb = max(seen.growth_mb, (held - first) / 1e6)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield seen
    finally:
        done.set()
        watcher.join()
