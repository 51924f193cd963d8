"""A feature set that cheats: one of its features is that of a later bar."""

from dataclasses import replace
from datetime import datetime

import polars as pl

from atlas.features import FeatureSet


def peeking(features: FeatureSet, *, name: str, bars_ahead: int) -> FeatureSet:
    """The same set, but for one feature that looks ahead."""

    def compute(bars: pl.LazyFrame, *, since: datetime | None = None) -> pl.LazyFrame:
        ahead = pl.col(name).shift(-bars_ahead).over("symbol")
        return features.compute(bars, since=since).with_columns(ahead)

    return replace(features, compute=compute)
