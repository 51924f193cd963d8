"""Rows of two planted regimes, hour by hour, and a recipe small enough for many walks."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import polars as pl

from atlas.features import RegimeInput, RegimeRecipe

HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
# A Monday, so that refits of any whole number of days up to a week are near.
START = datetime(2024, 1, 1, tzinfo=UTC)

RECIPE = RegimeRecipe(
    inputs=(RegimeInput("realised_vol_30", log=True), RegimeInput("return_24h")),
    n_states=2,
    penalty=4.0,
    window=4 * DAY,
    refit_every=DAY,
    min_rows=60,
    n_starts=3,
)


def turns(n: int, *, dwell: int = 17) -> np.ndarray:
    """Which of two regimes each hour is in, calm first."""
    return np.arange(n) // dwell % 2


def versions(
    n: int,
    *,
    seed: int = 0,
    which: Sequence[int] | np.ndarray | None = None,
    noise: float = 0.4,
    symbol: str = "BTC_USDT",
) -> pl.DataFrame:
    """One version of each of `n` rows; calm hours have low volatility and rising prices."""
    random = np.random.default_rng(seed)
    state = turns(n) if which is None else np.asarray(which)
    moments = moment_series([START + HOUR * (i + 1) for i in range(n)])
    return pl.DataFrame(
        {
            "symbol": [symbol] * n,
            "event_timestamp": moments,
            "known_at": moments,
            "realised_vol_30": np.exp(-4 + state + noise * random.normal(size=n)),
            "return_24h": 0.02 - 0.04 * state + 0.02 * noise * random.normal(size=n),
        }
    )


def troubled(n: int, *, seed: int = 0) -> pl.DataFrame:
    """Rows with holes, nulls, delays, late arrivals and corrections."""
    random = np.random.default_rng(seed)
    rows = versions(n, seed=seed).with_columns(
        # Some are known a little late, some days late.
        pl.col("known_at")
        + pl.Series(
            [
                timedelta(seconds=int(random.integers(0, 90)))
                if random.random() < 0.97
                else HOUR * float(random.integers(1, 60))
                for _ in range(n)
            ]
        ).dt.cast_time_unit("us"),
        *(
            pl.when(pl.Series(random.random(n) < 0.04))
            .then(None)
            .otherwise(pl.col(name))
            .alias(name)
            for name in ("realised_vol_30", "return_24h")
        ),
    )
    silent = pl.Series(np.isin(np.arange(n), random.integers(0, n, 3)))
    rows = rows.with_columns(
        pl.when(~silent).then(pl.col(name)).alias(name)
        for name in ("realised_vol_30", "return_24h")
    )
    rows = rows.filter(pl.Series(random.random(n) > 0.03))
    amended = rows.filter(pl.Series(random.random(rows.height) < 0.03)).with_columns(
        pl.col("return_24h") + 0.03,
        known_at=pl.col("known_at") + pl.duration(hours=pl.Series([30]).first()),
    )
    return pl.concat([rows, amended]).sample(fraction=1.0, shuffle=True, seed=seed)


def moment_series(moments: Sequence[Any]) -> pl.Series:
    return pl.Series(moments, dtype=pl.Datetime("us", "UTC"))
