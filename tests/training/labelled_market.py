"""A labelled market for the tests of training, without stores."""

from functools import cache
from typing import Any

import polars as pl
import pyarrow as pa

from atlas.features import feature_set
from atlas.ingest import MarketRecipe, simulate
from atlas.training import (
    Candidate,
    PointInTime,
    SearchPlan,
    TrainingFrame,
    candidate_for,
    join_features,
)
from atlas.training.labels import label_events

RECIPE = MarketRecipe(days=16, seed=1)


@cache
def bars() -> pl.DataFrame:
    """Simulated one-minute bars."""
    return simulate(RECIPE)


@cache
def features(view: str) -> pl.DataFrame:
    """A view's rows over all bars."""
    return feature_set(view).compute(bars().lazy()).collect()


def candidate(view: str = "ohlcv_1m", n_trials: int = 4, **changes: Any) -> Candidate:
    """A candidate with a short search."""
    engine = changes.pop("engine", "xgboost")
    task = changes.pop("task", "direction")
    plan = {"n_trials": n_trials, "n_folds": 3, "n_selection": 1, **changes}
    return candidate_for(feature_set(view), search=SearchPlan(**plan), engine=engine, task=task)


def join_in_memory(rows: pl.DataFrame) -> PointInTime:
    """Join without a store: no row is corrected, so a plain join is right."""

    def join(_: str, keys: pl.DataFrame) -> pa.Table:
        key = ["symbol", "event_timestamp"]
        return keys.join(rows, on=key, how="left", maintain_order="left").to_arrow()

    return join


def frame(
    view: str = "ohlcv_1m",
    events: pl.DataFrame | None = None,
    wanted: Candidate | None = None,
) -> TrainingFrame:
    """The training frame of a candidate."""
    wanted = wanted or candidate(view)
    if events is None:
        events = label_events(bars(), wanted.features.interval, wanted.target)
    return join_features(
        events,
        wanted,
        join_in_memory(features(view)),
        min_rows=100,
        moments=bars().select("symbol", "event_timestamp") if wanted.looks_back else None,
    )
