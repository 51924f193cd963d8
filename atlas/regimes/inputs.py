"""Which version of a row counts, and what a jump model reads of it."""

from __future__ import annotations

from datetime import datetime

import numpy as np
import polars as pl
from numpy.typing import NDArray

from atlas.features.regimes import RegimeRecipe

__all__ = ["known_before", "matrix", "newest"]


def newest(versions: pl.DataFrame) -> pl.DataFrame:
    """Return the version of each row that was known last, in order of time."""
    return versions.sort("event_timestamp", "known_at").unique(
        "event_timestamp", keep="last", maintain_order=True
    )


def known_before(versions: pl.DataFrame, at: datetime) -> pl.DataFrame:
    """Return the rows as they were known just before a moment, in order of time."""
    told = (pl.col("known_at") < at) & (pl.col("event_timestamp") < at)
    return newest(versions.filter(told))


def matrix(rows: pl.DataFrame, recipe: RegimeRecipe) -> NDArray[np.float64]:
    """Return the inputs, shape (n_rows, n_inputs); NaN is null, and so is the log of 0."""
    columns = np.empty((rows.height, len(recipe.inputs)))
    for place, each in enumerate(recipe.inputs):
        values = rows[each.name].cast(pl.Float64).fill_null(np.nan).to_numpy()
        if each.log:
            columns[:, place] = np.log(values, out=np.full(len(values), np.nan), where=values > 0)
        else:
            columns[:, place] = values
    return columns
