"""Batch features: chunked, safe to run twice, corrections as new versions."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest
from clickhouse_connect.driver.client import Client

from atlas.clickhouse import Computed, insert_once, read_bars
from atlas.clickhouse.values import frame_of
from atlas.errors import FeatureRedefined
from atlas.features import ohlcv
from atlas.market import interval_of
from atlas.materialise import compute_history, history

HOUR = interval_of("1h")
FEATURES = ohlcv(HOUR)
START = datetime(2024, 1, 1, tzinfo=UTC)
LATER = datetime(2025, 1, 1, tzinfo=UTC)


def bars(n: int, symbol: str = "BTC_USDT", seed: int = 0) -> pl.DataFrame:
    rng = np.random.default_rng(seed)
    close = 100 * np.exp(np.cumsum(rng.normal(0, 2e-3, n)))
    open_ = np.r_[100.0, close[:-1]]
    moments = pl.Series([START + HOUR.delta * (i + 1) for i in range(n)]).dt.cast_time_unit("us")
    return pl.DataFrame(
        {
            "symbol": [symbol] * n,
            "event_timestamp": moments,
            "known_at": moments,
            "open": open_,
            "high": np.maximum(open_, close) * 1.001,
            "low": np.minimum(open_, close) * 0.999,
            "close": close,
            "volume": rng.exponential(10.0, n),
        }
    )


def stored(client: Client) -> pl.DataFrame:
    names = ", ".join(("symbol", "event_timestamp", "known_at", *FEATURES.features))
    return frame_of(
        client.query_arrow(
            f"SELECT {names} FROM {FEATURES.view} ORDER BY symbol, event_timestamp, known_at",
            use_strings=True,
        )
    )


def test_history_in_chunks_equals_the_function_over_all_bars(
    clickhouse: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history, "CHUNK_BARS", 100)
    both = pl.concat([bars(650), bars(430, "ETH_USDT", seed=1)])
    insert_once(clickhouse, "bars_1h", both.to_arrow())
    shares: list[float] = []
    done = compute_history(clickhouse, FEATURES, until=LATER, on_chunk=shares.append)
    assert done == Computed(computed=1080, written=1080)
    assert stored(clickhouse).equals(FEATURES.compute(both.lazy()).collect())
    assert shares[-1] == 1.0
    assert len(shares) == 7 + 5


def test_a_second_run_changes_nothing(clickhouse: Client) -> None:
    insert_once(clickhouse, "bars_1h", bars(300).to_arrow())
    compute_history(clickhouse, FEATURES, until=LATER)
    before = stored(clickhouse)
    assert compute_history(clickhouse, FEATURES, until=LATER) == Computed(300, 0, 300)
    assert stored(clickhouse).equals(before)


def test_a_corrected_bar_adds_versions_that_are_known_later(clickhouse: Client) -> None:
    original = bars(400)
    insert_once(clickhouse, "bars_1h", original.to_arrow())
    compute_history(clickhouse, FEATURES, until=LATER)
    before = stored(clickhouse)
    wrong = original[200]
    amended = wrong.with_columns(
        pl.col("close") * 1.0001, known_at=pl.lit(LATER).dt.cast_time_unit("us")
    )
    insert_once(clickhouse, "bars_1h", amended.to_arrow())
    done = compute_history(clickhouse, FEATURES, until=LATER)
    after = stored(clickhouse)
    touched = FEATURES.lookback // HOUR.delta
    assert 0 < done.written <= touched
    assert after.filter(pl.col("known_at") < LATER).equals(before)
    added = after.filter(pl.col("known_at") >= LATER)
    assert added.height == done.written
    assert added["event_timestamp"].min() == wrong["event_timestamp"][0]


def test_a_range_and_symbols_may_be_named(clickhouse: Client) -> None:
    both = pl.concat([bars(300), bars(300, "ETH_USDT", seed=1)])
    insert_once(clickhouse, "bars_1h", both.to_arrow())
    since, until = START + 100 * HOUR.delta, START + 150 * HOUR.delta
    compute_history(clickhouse, FEATURES, since=since, until=until, symbols=["ETH_USDT"])
    expected = (
        FEATURES.compute(both.lazy())
        .collect()
        .filter(pl.col("event_timestamp").is_between(since, until), pl.col("symbol") == "ETH_USDT")
    )
    assert stored(clickhouse).equals(expected)


def test_bars_are_read_between_two_moments_in_their_newest_version(clickhouse: Client) -> None:
    original = bars(10)
    newer = original[4].with_columns(
        pl.col("volume") + 1, known_at=pl.col("known_at") + timedelta(seconds=1)
    )
    insert_once(clickhouse, "bars_1h", pl.concat([original, newer]).to_arrow())
    moments = original["event_timestamp"]
    found = read_bars(clickhouse, HOUR, ["BTC_USDT"], after=moments[2], before=moments[6])
    assert found.equals(pl.concat([original[3], newer, original[5]]))


def test_a_redefined_feature_is_refused_and_nothing_is_mixed(clickhouse: Client) -> None:
    insert_once(clickhouse, "bars_1h", bars(300).to_arrow())
    compute_history(clickhouse, FEATURES, until=LATER)
    before = stored(clickhouse)

    def doubled(frame: pl.LazyFrame, *, since: datetime | None = None) -> pl.LazyFrame:
        return FEATURES.compute(frame, since=since).with_columns(pl.col("atr_14") * 2)

    with pytest.raises(FeatureRedefined, match="atlas features ohlcv_1h --rebuild"):
        compute_history(clickhouse, replace(FEATURES, compute=doubled), until=LATER)
    assert stored(clickhouse).equals(before)
