"""On the market's own candles regimes are few, dwell, and differ in volatility."""

import gzip
import json
import math
from functools import cache
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from atlas.features import ohlcv, regime
from atlas.market import interval_of
from atlas.regimes import walk_forward

HOUR = interval_of("1h")
RECIPE = regime(HOUR).recipe


@cache
def candles(folder: Path, symbol: str) -> pl.DataFrame:
    path = folder / "crypto_1m_binance_2021" / f"{symbol}-1h.json.gz"
    if not path.is_file():
        pytest.skip(f"no hourly candles at {path}")
    rows = np.array(json.loads(gzip.decompress(path.read_bytes())), dtype=float)
    # Files stamp the open of a bar.
    closes = pl.Series((rows[:, 0].astype(np.int64) + 3_600_000) * 1_000)
    moments = closes.cast(pl.Datetime("us", "UTC"))
    prices = dict(zip(("open", "high", "low", "close", "volume"), rows[:, 1:].T, strict=True))
    return pl.DataFrame(
        {"symbol": [symbol] * len(rows), "event_timestamp": moments, "known_at": moments, **prices}
    )


@pytest.mark.parametrize("symbol", ["BTC_USDT", "ETH_USDT"])
def test_the_regimes_of_real_candles_are_sensible(market_data: Path, symbol: str) -> None:
    bars = candles(market_data, symbol)
    rows, checkpoints = walk_forward(ohlcv(HOUR).compute(bars.lazy()).collect(), RECIPE)
    # What the next hour brought, which no regime can have seen.
    following = bars.select(
        "event_timestamp", following=(pl.col("close").log() - pl.col("open").log()).shift(-1)
    )
    told = rows.join(following, on="event_timestamp").drop_nulls(["regime", "following"])
    share, volatility = zip(
        *(
            (part.height / told.height, part["following"].std())
            for part in (told.filter(pl.col("regime") == name) for name in range(RECIPE.n_states))
        ),
        strict=True,
    )
    switches = int((told["regime"].diff() != 0).sum())
    assert len(checkpoints) == 7
    assert told.height > 1_000
    assert min(share) > 0.1
    assert volatility[1] > 1.2 * volatility[0]
    assert 1 < switches < told.height / 48
    assert math.isfinite(told["regime_gap"].max())
