"""The same feature has the same bits over history, in chunks, and over a live tail."""

import math
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atlas.features import FeatureSet, feature_set, feature_sets, ohlcv
from atlas.market import Interval, interval_of

START = datetime(2024, 1, 1, tzinfo=UTC)
HOUR = interval_of("1h")


def market(n: int, *, seed: int, interval: Interval = HOUR, symbols: str = "AB") -> pl.DataFrame:
    """Make bars with gaps, flat stretches and bars without trades."""
    rng = np.random.default_rng(seed)
    frames = []
    for symbol in symbols:
        close = 100 * np.exp(np.cumsum(rng.normal(0, 2e-3, n) * (rng.random(n) > 0.1)))
        open_ = np.r_[100.0, close[:-1]]
        frame = pl.DataFrame(
            {
                "symbol": [symbol] * n,
                "event_timestamp": [START + interval.delta * (i + 1) for i in range(n)],
                "open": open_,
                "high": np.maximum(open_, close) * 1.001,
                "low": np.minimum(open_, close) * 0.999,
                "close": close,
                "volume": rng.exponential(10.0, n) * (rng.random(n) > 0.05),
            }
        )
        frames.append(frame.filter(pl.Series(rng.random(n) > 0.01)))
    bars = pl.concat(frames).with_columns(
        pl.col("event_timestamp").dt.cast_time_unit("us"),
        known_at=pl.col("event_timestamp").dt.cast_time_unit("us"),
    )
    return bars.sort("symbol", "event_timestamp")


@pytest.mark.parametrize("features", feature_sets(), ids=lambda f: f.view)
def test_a_tail_of_the_lookback_gives_the_same_bits_as_the_history(features: FeatureSet) -> None:
    bars = market(600, seed=1, interval=features.interval)
    history = features.compute(bars.lazy()).collect()
    for moment in bars["event_timestamp"].unique().sort()[-40::7]:
        tail = bars.filter(
            pl.col("event_timestamp").is_between(moment - features.lookback, moment, closed="right")
        )
        live = features.compute(tail.lazy(), since=moment).collect()
        expected = history.filter(pl.col("event_timestamp") == moment)
        assert live.equals(expected)
        assert live.height > 0


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32), cut=st.integers(1, 399))
def test_a_chunk_read_with_its_lookback_gives_the_same_bits(seed: int, cut: int) -> None:
    features = ohlcv(HOUR)
    bars = market(400, seed=seed)
    history = features.compute(bars.lazy()).collect()
    since = START + HOUR.delta * cut
    chunk = bars.filter(pl.col("event_timestamp") > since - features.lookback)
    assert (
        features.compute(chunk.lazy(), since=since)
        .collect()
        .equals(history.filter(pl.col("event_timestamp") >= since))
    )


def test_later_bars_change_no_earlier_feature() -> None:
    features = ohlcv(HOUR)
    bars = market(500, seed=3)
    cut = START + HOUR.delta * 400
    disturbed = bars.with_columns(
        pl.when(pl.col("event_timestamp") > cut).then(pl.col(c) * 7).otherwise(pl.col(c)).alias(c)
        for c in ("open", "high", "low", "close", "volume")
    )
    before = pl.col("event_timestamp") <= cut
    plain = features.compute(bars.lazy()).collect().filter(before)
    assert features.compute(disturbed.lazy()).collect().filter(before).equals(plain)


def test_features_are_null_until_their_window_has_filled() -> None:
    bars = market(300, seed=4, symbols="A").with_columns(pl.col("event_timestamp"))
    rows = ohlcv(HOUR).compute(bars.lazy()).collect()
    first = {
        name: int(rows[name].is_not_null().arg_max() or 0)
        for name in ("return_5", "rsi_14", "realised_vol_120", "return_240")
    }
    # A window is warm with 95 % of its bars: all of a short one, all but a few of a long one.
    assert first["return_5"] == 4
    assert first["rsi_14"] == 13
    assert 113 <= first["realised_vol_120"] <= 119
    assert 227 <= first["return_240"] <= 239


def test_a_correction_marks_every_row_that_it_touches_as_known_later() -> None:
    bars = market(400, seed=5, symbols="A")
    late = datetime(2025, 1, 1, tzinfo=UTC)
    fixed = bars["event_timestamp"][100]
    corrected = bars.with_columns(
        known_at=pl.when(pl.col("event_timestamp") == fixed)
        .then(pl.lit(late).dt.cast_time_unit("us"))
        .otherwise("known_at")
    )
    features = ohlcv(HOUR)
    rows = features.compute(corrected.lazy()).collect()
    touched = pl.col("event_timestamp").is_between(fixed, fixed + features.lookback, closed="left")
    assert rows.filter(pl.col("known_at") == late).equals(rows.filter(touched))


def test_values_equal_a_slow_obvious_oracle() -> None:
    bars = market(320, seed=6, symbols="A")
    rows = ohlcv(HOUR).compute(bars.lazy()).collect()
    i = rows.height - 1
    ohlc = {c: bars[c].to_list() for c in ("open", "high", "low", "close", "volume")}
    times = bars["event_timestamp"].to_list()

    def window(n: int) -> list[int]:
        return [j for j in range(i + 1) if times[j] > times[i] - n * HOUR.delta]

    def path(n: int) -> list[float]:
        rows = window(n)
        return [ohlc["open"][rows[0]], *(ohlc["close"][j] for j in rows)]

    def change(n: int) -> float:
        return math.log(path(n)[-1] / path(n)[0])

    def volatility(n: int) -> float:
        steps = np.diff(np.log(path(n)))
        return float(np.sqrt(np.sum(steps**2)))

    def average(values: dict[int, float], n: int, span: int) -> float:
        alpha = 2 / (span + 1)
        weights = [(1 - alpha) ** k for k in range(len(window(n)))]
        picked = [values[j] for j in reversed(window(n))]
        return sum(w * v for w, v in zip(weights, picked, strict=True)) / sum(weights)

    closes = dict(enumerate(ohlc["close"]))
    steps = np.diff(path(14))
    mean, deviation = np.mean(path(20)[1:]), np.std(path(20)[1:])
    volumes = [ohlc["volume"][j] for j in window(24)]
    logs = [math.log1p(ohlc["volume"][j]) for j in window(60)]
    top, bottom = max(ohlc["high"][j] for j in window(60)), min(ohlc["low"][j] for j in window(60))
    rising = [(ohlc["close"][j] - ohlc["open"][j], ohlc["volume"][j]) for j in window(60)]
    ranges = [
        max(ohlc["high"][j], previous) - min(ohlc["low"][j], previous)
        for j, previous in zip(window(14), path(14), strict=False)
    ]
    expected = {
        "return_1": change(1),
        "return_60": change(60),
        "return_240": change(240),
        "return_24h": change(24),
        "realised_vol_120": volatility(120),
        "trend_60": change(60) / volatility(60),
        "rsi_14": 100 * steps[steps > 0].sum() / np.abs(steps).sum(),
        "bb_pos_20": (closes[i] - mean) / (2 * deviation),
        "range_pos_60": (closes[i] - bottom) / (top - bottom),
        "macd_12_26": (average(closes, 104, 12) - average(closes, 104, 26)) / closes[i],
        "atr_14": float(np.mean(ranges)) / closes[i],
        "vol_ratio_24": volumes[-1] / np.mean(volumes),
        "volume_score_60": (logs[-1] - np.mean(logs)) / np.std(logs),
        "flow_60": sum(np.sign(d) * v for d, v in rising) / sum(v for _, v in rising),
    }
    assert {name: rows[name][i] for name in expected} == pytest.approx(expected, rel=1e-9)


def test_rows_meet_their_schema() -> None:
    for features in feature_sets():
        bars = market(400, seed=7, interval=features.interval)
        rows = features.compute(bars.lazy()).collect()
        assert features.schema.validate(rows).equals(rows)
        assert tuple(rows.columns[3:]) == features.features


def test_an_unknown_view_names_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"ohlcv_1m, .*found 'ohlcv_3m'"):
        feature_set("ohlcv_3m")


def test_the_trap_does_not_look_at_prices() -> None:
    trap = feature_set("lunar_1m")
    bars = market(50, seed=8, interval=trap.interval)
    other = bars.with_columns(pl.col("close") * 2)
    assert trap.compute(bars.lazy()).collect().equals(trap.compute(other.lazy()).collect())
    assert trap.ttl == timedelta(minutes=5)
