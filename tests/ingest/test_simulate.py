"""The simulated market holds what its recipe says, and nothing else."""

import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cache

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stored import MINUTE

from atlas.errors import InvalidInput
from atlas.ingest import MarketRecipe, batch_of_frame, hidden_regimes, load_candles, simulate
from atlas.market import BAR_COLUMNS
from atlas.schemas import candles_at, find_faults

ONE = MarketRecipe(symbols=("SIM_A",))
LONG = replace(ONE, days=600)
DRIFTLESS = replace(LONG, drift_bps_per_hour=0.0)


@cache
def market(recipe):
    """The bars of a long recipe, which several tests look at."""
    return simulate(recipe)


def log_returns(bars):
    closes = bars["close"].to_numpy()
    return np.diff(np.log(closes), prepend=np.log(bars["open"][0]))


def hourly(values):
    return values.reshape(-1, 60).sum(axis=1)


def autocorrelation_z(returns, lag):
    """How many standard errors from none, whatever the volatility does (Lo and MacKinlay)."""
    products = returns[lag:] * returns[:-lag]
    return products.sum() / np.sqrt((products**2).sum())


def test_bars_keep_the_schema_of_candles():
    recipe = MarketRecipe(days=3)
    bars = simulate(recipe)
    end = recipe.start + timedelta(days=recipe.days)
    assert bars.columns == list(BAR_COLUMNS)
    assert find_faults(candles_at(MINUTE, now=end), bars).null_count() == bars.height
    assert bars.height == 5 * 3 * 1_440


def test_there_is_one_bar_a_minute_for_each_symbol_in_order():
    recipe = MarketRecipe(days=2)
    bars = simulate(recipe)
    start = recipe.start
    minutes = [start + timedelta(minutes=n) for n in range(1, 2 * 1_440 + 1)]
    for symbol, of_symbol in zip(recipe.symbols, bars.partition_by("symbol"), strict=True):
        assert set(of_symbol["symbol"]) == {symbol}
        assert of_symbol["event_timestamp"].to_list() == minutes
    assert bars["known_at"].equals(bars["event_timestamp"].alias("known_at"))


def test_a_source_delay_moves_when_bars_are_known():
    delay = timedelta(seconds=3)
    bars = simulate(replace(ONE, days=1), source_delay=delay)
    assert (bars["known_at"] - bars["event_timestamp"]).unique().to_list() == [delay]


def test_the_same_recipe_gives_the_same_bars_and_another_seed_others():
    recipe = MarketRecipe(days=2)
    assert simulate(recipe).equals(simulate(recipe))
    assert not simulate(recipe).equals(simulate(replace(recipe, seed=8)))


@settings(max_examples=15, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    short=st.integers(1, 6),
    more=st.integers(1, 20),
    mean_hours=st.sampled_from([0.1, 1.0, 30.0]),
)
def test_a_longer_span_begins_with_the_same_bars(seed, short, more, mean_hours):
    recipe = replace(ONE, days=short, seed=seed, mean_regime_hours=mean_hours)
    longer = replace(recipe, days=short + more)
    assert simulate(longer).head(short * 1_440).equals(simulate(recipe))
    assert hidden_regimes(longer).head(short * 1_440).equals(hidden_regimes(recipe))


def test_more_symbols_leave_the_first_ones_as_they_were():
    few, many = (MarketRecipe(symbols=names, days=1) for names in (("A", "B"), ("A", "B", "C")))
    assert simulate(many).filter(pl.col("symbol") != "C").equals(simulate(few))


def test_strength_changes_the_drift_and_no_other_chance():
    weak, strong = (replace(ONE, days=5, drift_bps_per_hour=drift) for drift in (0.0, 30.0))
    assert hidden_regimes(weak).equals(hidden_regimes(strong))
    added = log_returns(simulate(strong)) - log_returns(simulate(weak))
    expected = hidden_regimes(strong)["regime"].to_numpy() * 30e-4 / 60
    # Two roundings to a tick are all that is left.
    assert np.abs(added - expected).max() < 5e-5
    assert np.abs((added - expected).mean()) < 1e-8


@pytest.mark.parametrize("lag", [1, 2, 3, 5, 10, 30, 60, 240])
def test_without_drift_no_return_tells_of_another(lag):
    returns = log_returns(market(DRIFTLESS))
    assert abs(autocorrelation_z(returns, lag)) < 3.5


@pytest.mark.parametrize("lag", [1, 2, 3, 4])
def test_without_drift_no_hour_tells_of_another(lag):
    returns = log_returns(market(DRIFTLESS))
    assert abs(autocorrelation_z(hourly(returns), lag)) < 3.5


def test_without_drift_no_symbol_tells_of_another():
    bars = simulate(MarketRecipe(symbols=("A", "B"), days=300, drift_bps_per_hour=0.0))
    one, other = (log_returns(each) for each in bars.partition_by("symbol"))
    products = one[1:] * other[:-1]
    assert abs(products.sum() / np.sqrt((products**2).sum())) < 3.5


def test_with_drift_an_hour_tells_of_the_next():
    returns = hourly(log_returns(market(LONG)))
    assert autocorrelation_z(returns, 1) > 10


def test_a_trend_drifts_by_what_the_recipe_says():
    returns = log_returns(market(LONG))
    regimes = hidden_regimes(LONG)["regime"].to_numpy()
    for regime in (-1, 0, 1):
        inside = returns[regimes == regime]
        per_hour = inside.mean() * 60 * 1e4
        error = inside.std() / np.sqrt(inside.size) * 60 * 1e4
        assert abs(per_hour - regime * LONG.drift_bps_per_hour) < 4 * error


@pytest.mark.parametrize("drift", [10.0, 30.0, 60.0])
def test_the_share_of_drift_is_as_stated(drift):
    recipe = replace(LONG, drift_bps_per_hour=drift)
    planted = hidden_regimes(recipe)["regime"].to_numpy() * drift / 60
    share = hourly(planted).var() / (hourly(log_returns(simulate(recipe))) * 1e4).var()
    assert share == pytest.approx(recipe.drift_share, rel=0.08)


def test_no_drift_is_no_share():
    assert replace(ONE, drift_bps_per_hour=0.0).drift_share == 0.0


def test_regimes_last_as_long_as_stated_and_are_even():
    regimes = hidden_regimes(LONG)["regime"].to_numpy()
    changes = np.flatnonzero(np.diff(regimes))
    mean_hours = regimes.size / (changes.size + 1) / 60
    assert mean_hours == pytest.approx(LONG.mean_regime_hours, rel=0.06)
    assert [np.mean(regimes == regime) for regime in (-1, 0, 1)] == pytest.approx(
        [1 / 3] * 3, abs=0.03
    )


def test_volatility_is_as_stated_comes_in_waves_and_has_fat_tails():
    returns = log_returns(market(DRIFTLESS))
    hours = hourly(returns) * 1e4
    spread = np.abs(returns)
    assert hours.std() == pytest.approx(LONG.volatility_bps, rel=0.1)
    assert np.corrcoef(spread[60:], spread[:-60])[0, 1] > 0.05
    assert ((returns / returns.std()) ** 4).mean() > 5


def test_symbols_share_a_market():
    recipe = MarketRecipe(symbols=("A", "B"), days=200)
    one, other = (log_returns(each) for each in simulate(recipe).partition_by("symbol"))
    assert np.corrcoef(one, other)[0, 1] == pytest.approx(recipe.common_share, abs=0.08)


def test_volume_rises_with_the_move_and_a_little_in_trends():
    # Waves of volatility would bring volume of their own.
    recipe = replace(LONG, days=200, volatility_waves=0.0, informed_flow=0.0)
    bars = simulate(recipe)
    moves, volume = np.abs(log_returns(bars)), bars["volume"].to_numpy()
    trending = hidden_regimes(recipe)["regime"].to_numpy() != 0
    assert np.corrcoef(moves, volume)[0, 1] > 0.3
    by_day = volume / np.tile(volume.reshape(-1, 1_440).mean(axis=0), recipe.days)
    more = by_day[trending].mean() / by_day[~trending].mean() - 1
    assert more == pytest.approx(recipe.trend_volume, abs=0.02)


def test_more_is_traded_on_bars_that_go_with_the_trend():
    recipe = replace(LONG, days=200, volatility_waves=0.0, drift_bps_per_hour=0.0)
    bars = simulate(recipe)
    regimes = hidden_regimes(recipe)["regime"].to_numpy()
    along = regimes * np.sign(log_returns(bars))
    volume = bars["volume"].to_numpy()
    flow = recipe.informed_flow
    ratio = volume[along == 1].mean() / volume[along == -1].mean()
    assert ratio == pytest.approx((1 + flow) / (1 - flow), rel=0.03)


def test_prices_lie_on_a_grid_of_ticks_and_bars_touch():
    for bars in simulate(MarketRecipe(days=2)).partition_by("symbol"):
        decimals = max(len(f"{price}".split(".")[1]) for price in bars["close"])
        for name in ("open", "high", "low", "close"):
            assert bars[name].to_list() == [round(price, decimals) for price in bars[name]]
        assert bars["open"][1:].to_list() == bars["close"][:-1].to_list()
        assert (bars["high"] > bars["low"]).mean() > 0.9


@pytest.mark.parametrize(
    "wrong",
    [
        {"symbols": ()},
        {"symbols": ("A", "A")},
        {"symbols": ("sim",)},
        {"days": 0},
        {"start": datetime(2024, 1, 1)},
        {"start": datetime(2024, 1, 1, 0, 0, 30, tzinfo=UTC)},
        {"drift_bps_per_hour": -1.0},
        {"drift_bps_per_hour": float("nan")},
        {"mean_regime_hours": 0.0},
        {"volatility_bps": 0.0},
        {"common_share": 1.5},
        {"tail_degrees": 2.0},
        {"informed_flow": 1.5},
    ],
)
def test_a_recipe_that_makes_no_market_is_refused(wrong):
    with pytest.raises(InvalidInput, match="Expected"):
        replace(ONE, **wrong)


def test_a_simulated_market_can_be_loaded(clickhouse):
    recipe = MarketRecipe(symbols=("SIM_A", "SIM_B"), days=1)
    content = batch_of_frame(simulate(recipe), MINUTE, source="simulated, seed 7")
    report = load_candles(clickhouse, content, now=recipe.start + timedelta(days=1))
    assert (report.symbols, report.inserted, report.quarantined) == (
        ("SIM_A", "SIM_B"),
        2 * 1_440,
        0,
    )


def test_forty_five_days_of_five_symbols_take_less_than_a_second():
    recipe = MarketRecipe(days=45)
    took = []
    for _ in range(3):
        began = time.perf_counter()
        simulate(recipe)
        took.append(time.perf_counter() - began)
    # 0.1 s on an idle machine.
    assert min(took) < 1.0
