"""The regime bar by bar after a refit: the online filter alone, which no later row revises."""

from __future__ import annotations

import math
from collections.abc import Iterator
from datetime import datetime

import numpy as np
import polars as pl

from atlas.features.regimes import RegimeRecipe
from atlas.features.stored_view import KEY_COLUMNS
from atlas.regimes.checkpoint import Carried, Checkpoint
from atlas.regimes.inputs import matrix, newest
from atlas.regimes.tracker import Step, Tracker

__all__ = ["COLUMNS", "finite", "follow", "last_of", "levels", "without_regime"]

COLUMNS = {
    "regime": pl.Int32,
    "regime_level": pl.Float64,
    "regime_gap": pl.Float64,
    "regime_age": pl.Int32,
    "model_version": pl.String,
}
"""What is told of each bar."""


def follow(
    checkpoint: Checkpoint, versions: pl.DataFrame, recipe: RegimeRecipe, *, before: datetime
) -> pl.DataFrame:
    """Return a row for each bar in `[refit_at, before)`, of the newest versions of the inputs.

    A row of nulls has no regime; the bars after it go on as if it had not been, but older.
    `known_at` is the latest of the rows that the filter has read since the training.

    Parameters
    ----------
    versions : frame
        Rows of one symbol: symbol, event_timestamp, known_at and the inputs.
    """
    rows = newest(versions).filter(
        pl.col("event_timestamp").is_between(checkpoint.trained_until, before, closed="none")
    )
    level_of = levels(checkpoint, recipe)
    steps = list(_steps(checkpoint, rows, recipe))
    told = [step if step.told else None for step in steps]
    return rows.select(
        "symbol",
        "event_timestamp",
        pl.col("known_at").cum_max(),
        pl.Series("regime", [step and step.regime for step in told], pl.Int32),
        pl.Series("regime_level", [step and level_of[step.regime] for step in told], pl.Float64),
        pl.Series("regime_gap", [step and finite(step.gap) for step in told], pl.Float64),
        pl.Series("regime_age", [step and step.age for step in told], pl.Int32),
        pl.lit(checkpoint.stamp).alias("model_version"),
    ).filter(pl.col("event_timestamp") >= checkpoint.refit_at)


def without_regime(versions: pl.DataFrame, *, since: datetime, before: datetime) -> pl.DataFrame:
    """Return the rows of bars that no model speaks of."""
    rows = newest(versions).filter(
        pl.col("event_timestamp").is_between(since, before, closed="left")
    )
    nulls = (pl.lit(None, kind).alias(name) for name, kind in COLUMNS.items())
    return rows.select(*KEY_COLUMNS, *nulls)


def last_of(checkpoint: Checkpoint, known: pl.DataFrame, recipe: RegimeRecipe) -> Carried | None:
    """Return the regime after the last of the rows, which are those known by then."""
    rows = known.filter(pl.col("event_timestamp") > checkpoint.trained_until)
    last = None
    for last in _steps(checkpoint, rows, recipe):  # noqa: B007
        pass
    return Carried(last.regime, last.age) if last is not None else checkpoint.carried


def _steps(checkpoint: Checkpoint, rows: pl.DataFrame, recipe: RegimeRecipe) -> Iterator[Step]:
    tracker = Tracker(checkpoint)
    return map(tracker.update, matrix(rows, recipe))


def levels(checkpoint: Checkpoint, recipe: RegimeRecipe) -> list[float]:
    """Return each state's centroid of the first input, in that input's own units."""
    scale = checkpoint.scale
    centroids = checkpoint.model.centroids_[:, 0] * scale.spread[0] + scale.mean[0]
    found: list[float] = (np.exp(centroids) if recipe.inputs[0].log else centroids).tolist()
    return found


def finite(gap: float) -> float | None:
    """Return a gap as a row tells it."""
    # Of a single state that rows were in there is no second best.
    return gap if math.isfinite(gap) else None
