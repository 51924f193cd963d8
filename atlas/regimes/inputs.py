"""Which version of a row counts, and what a jump model reads of it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import numpy as np
import polars as pl
from numpy.typing import NDArray

from atlas.features.regimes import RegimeRecipe

__all__ = ["known_before", "matrix", "newest", "transformed"]


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
    stored = rows.select(pl.col(recipe.names).cast(pl.Float64).fill_null(np.nan))
    return transformed([stored[name].to_numpy() for name in recipe.names], recipe)


def transformed(
    columns: Sequence[NDArray[np.float64]], recipe: RegimeRecipe
) -> NDArray[np.float64]:
    """Return the inputs of stored columns, each (n_rows,); otherwise as `matrix`."""
    found = np.empty((len(columns[0]), len(columns)))
    for place, (each, values) in enumerate(zip(recipe.inputs, columns, strict=True)):
        if each.log:
            found[:, place] = np.log(values, out=np.full(len(values), np.nan), where=values > 0)
        else:
            found[:, place] = values
    return found
