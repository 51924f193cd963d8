"""A labelled market for the tests of training, without stores."""

from functools import cache

import polars as pl

from atlas.features import feature_set
from atlas.ingest import MarketRecipe, simulate
from atlas.training import Candidate, SearchPlan, TrainingFrame, candidate_for, join_features
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


def candidate(view: str = "ohlcv_1m", n_trials: int = 4) -> Candidate:
    """A candidate with a short search."""
    return candidate_for(feature_set(view), search=SearchPlan(n_trials=n_trials, n_folds=3))


def frame(view: str = "ohlcv_1m", events: pl.DataFrame | None = None) -> TrainingFrame:
    """The training frame, joined in memory: no row is corrected, so a plain join is right."""
    wanted = candidate(view)
    if events is None:
        events = label_events(bars(), wanted.features.interval, wanted.target)
    rows = features(view)

    def join(_: str, keys: pl.DataFrame) -> object:
        return keys.join(
            rows, on=["symbol", "event_timestamp"], how="left", maintain_order="left"
        ).to_arrow()

    return join_features(events, wanted, join, min_rows=100)  # type: ignore[arg-type]
