"""A market of two planted regimes: stored rows of `ohlcv_1h`, and a view with a small recipe."""

from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
from clickhouse_connect.driver.client import Client

from atlas.clickhouse import create_feature_table, insert_once
from atlas.clickhouse.values import frame_of
from atlas.features import RegimeInput, RegimeRecipe, regime
from atlas.market import interval_of

HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
START = datetime(2024, 1, 1, tzinfo=UTC)
LATER = datetime(2025, 1, 1, tzinfo=UTC)
VIEW = replace(
    regime(interval_of("1h")),
    recipe=RegimeRecipe(
        inputs=(RegimeInput("realised_vol_30", log=True), RegimeInput("return_24h")),
        n_states=2,
        penalty=4.0,
        window=4 * DAY,
        refit_every=DAY,
        min_rows=60,
        n_starts=3,
    ),
)
INPUTS = ("symbol", "event_timestamp", "known_at", *VIEW.recipe.names)


def rows(n: int, symbol: str = "BTC_USDT", *, seed: int = 0, first: int = 1) -> pl.DataFrame:
    """One version of each of the hours from `first` to `n`, calm and wild in turns."""
    random = np.random.default_rng(seed)
    state = np.arange(n) // 17 % 2
    times = pl.Series([START + HOUR * (i + 1) for i in range(n)]).dt.cast_time_unit("us")
    made = pl.DataFrame(
        {
            "symbol": [symbol] * n,
            "event_timestamp": times,
            "known_at": times,
            "realised_vol_30": np.exp(-4 + state + 0.4 * random.normal(size=n)),
            "return_24h": 0.02 - 0.04 * state + 0.01 * random.normal(size=n),
        }
    )
    return made[first - 1 :]


def store(client: Client, parts: pl.DataFrame | Iterable[pl.DataFrame]) -> None:
    """Store rows of `ohlcv_1h`."""
    create_feature_table(client, VIEW.source.view, VIEW.source.kinds)
    for part in [parts] if isinstance(parts, pl.DataFrame) else parts:
        insert_once(client, VIEW.source.view, part.select(INPUTS).to_arrow())


def stored(client: Client) -> pl.DataFrame:
    """All regime rows in all their versions."""
    names = ", ".join(("symbol", "event_timestamp", "known_at", *VIEW.kinds))
    return frame_of(
        client.query_arrow(
            f"SELECT {names} FROM {VIEW.view} ORDER BY symbol, event_timestamp, known_at",
            use_strings=True,
        )
    )


def amended(row: pl.DataFrame, known_at: datetime) -> pl.DataFrame:
    """A correction of one row, known later."""
    return row.with_columns(
        pl.col("return_24h") - 0.2, known_at=pl.lit(known_at).dt.cast_time_unit("us")
    )
