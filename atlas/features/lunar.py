"""The planted trap of the simulated market: features that fit any past and foretell nothing.

Slow waves of time let a model tell one stretch of history from another and remember how each went.
In sample that looks like skill. The gates must reject it; the demo shows that they do.
"""

from __future__ import annotations

from datetime import datetime
from functools import partial

import numpy as np
import polars as pl

from atlas.features.feature_set import FeatureSet
from atlas.market import Interval
from atlas.schemas.features import LunarFeatures

__all__ = ["lunar"]

# Sidereal periods in days, scaled down a hundredfold so that a month holds several turns.
_PERIODS = {
    "moon": 0.27,
    "mercury": 0.88,
    "venus": 2.25,
    "mars": 6.87,
    "jupiter": 43.3,
    "saturn": 107.6,
}
_DAY_US = 86_400_000_000


def lunar(interval: Interval) -> FeatureSet:
    """Return the trap's features for bars of that interval."""
    return FeatureSet(
        name="lunar",
        interval=interval,
        schema=LunarFeatures,
        compute=partial(_compute, interval=interval),
        lookback=interval.delta,
        description="The simulated market's planted trap: waves of time, no information.",
    )


def _compute(
    bars: pl.LazyFrame, *, interval: Interval, since: datetime | None = None
) -> pl.LazyFrame:
    if since is not None:
        bars = bars.filter(pl.col("event_timestamp") >= since)
    # Whole intervals keep the phase exact for any chunk or tail.
    turn = pl.col("event_timestamp").dt.timestamp("us") // interval.micros
    return bars.select(
        "symbol",
        "event_timestamp",
        "known_at",
        *(
            (turn * (2 * np.pi * interval.micros / (days * _DAY_US))).sin().alias(name)
            for name, days in _PERIODS.items()
        ),
    )
