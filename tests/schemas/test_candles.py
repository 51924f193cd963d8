import math
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest
from pandera.errors import SchemaErrors

from atlas.errors import InvalidInput
from atlas.market import check_symbol, interval_of
from atlas.schemas import Candles, candles_at, find_faults

CLOSE = datetime(2024, 1, 1, 0, 1, tzinfo=UTC)
NOW = datetime(2024, 1, 1, 12, tzinfo=UTC)


def candle(**changed):
    row = {
        "symbol": "BTC_USDT",
        "event_timestamp": CLOSE,
        "known_at": changed.get("event_timestamp", CLOSE),
        "open": 10.0,
        "high": 12.0,
        "low": 9.0,
        "close": 11.0,
        "volume": 0.0,
        **changed,
    }
    moment = pl.Datetime("us", "UTC")
    return pl.DataFrame(
        [row],
        schema_overrides={"symbol": pl.String, "event_timestamp": moment, "known_at": moment}
        | dict.fromkeys(("open", "high", "low", "close", "volume"), pl.Float64),
    )


def fault(interval="1m", **changed):
    return find_faults(candles_at(interval_of(interval), now=NOW), candle(**changed)).item()


def test_a_sound_candle_is_good():
    assert fault() is None


def test_a_candle_of_one_price_and_no_volume_is_good():
    assert fault(open=10.0, high=10.0, low=10.0, close=10.0, volume=0.0) is None


@pytest.mark.parametrize("price", ["open", "high", "low", "close"])
@pytest.mark.parametrize(
    ("value", "told"),
    [
        (None, "is missing"),
        (math.nan, "is NaN"),
        (math.inf, "is not finite"),
        (-math.inf, "is not above 0.0"),
        (0.0, "is not above 0.0"),
        (-1.0, "is not above 0.0"),
    ],
)
def test_a_price_is_finite_and_positive(price, value, told):
    assert f"{price} {told}" in str(fault(**{price: value})).split("; ")


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (None, "volume is missing"),
        (math.nan, "volume is NaN"),
        (math.inf, "volume is not finite"),
        (-1e-9, "volume is below 0.0"),
    ],
)
def test_volume_is_finite_and_not_negative(value, told):
    assert fault(volume=value) == told


@pytest.mark.parametrize("changed", [{"open": 13.0}, {"close": 13.0}, {"high": 10.5}])
def test_nothing_lies_above_the_high(changed):
    assert fault(**changed) == "high is below open, close or low"


@pytest.mark.parametrize("changed", [{"open": 8.0}, {"close": 8.0}, {"low": 10.5}])
def test_nothing_lies_below_the_low(changed):
    assert fault(**changed) == "low is above open, close or high"


def test_a_broken_price_is_told_without_a_word_on_the_order_of_prices():
    assert fault(high=math.nan) == "high is NaN"


@pytest.mark.parametrize(
    ("interval", "off"),
    [
        ("1m", timedelta(seconds=30)),
        ("1m", timedelta(microseconds=1)),
        ("1h", timedelta(minutes=1)),
    ],
)
def test_a_bar_closes_on_the_grid_of_its_interval(interval, off):
    hour = datetime(2024, 1, 1, 1, tzinfo=UTC)
    assert fault(interval, event_timestamp=hour) is None
    assert fault(interval, event_timestamp=hour + off) == (
        f"event_timestamp is off the {interval} grid"
    )


def test_a_bar_that_has_not_closed_by_the_clock_is_bad():
    assert fault(event_timestamp=NOW) is None
    late = NOW + timedelta(minutes=1)
    assert fault(event_timestamp=late) == "event_timestamp is beyond the clock"


def test_a_bar_is_not_known_before_its_close():
    early = CLOSE - timedelta(microseconds=1)
    assert fault(known_at=early) == "known_at is before event_timestamp"


def test_a_time_that_clickhouse_cannot_keep_is_bad():
    assert str(fault(event_timestamp=datetime(1899, 12, 31, tzinfo=UTC))).startswith(
        "event_timestamp is below 1900-01-01"
    )


@pytest.mark.parametrize(
    "symbol",
    ["A", "BTC_USDT", "BRK.B", "7203", "A" * 32, "", "a", "_A", "A" * 33, "A B", "A\n", "Ä"],
)
def test_a_symbol_is_what_the_market_calls_one(symbol):
    try:
        expected = check_symbol(symbol) == symbol
    except InvalidInput:
        expected = False
    assert (fault(symbol=symbol) is None) == expected


def test_the_model_validates_by_itself():
    Candles.validate(candle())
    with pytest.raises(SchemaErrors):
        Candles.validate(candle(high=1.0), lazy=True)
