"""A simulated market of one-minute bars, in which exactly as much can be foretold as was planted.

Each symbol's price drifts up, down or not at all for some hours at a time; that hidden regime is
all there is to find. The rest is noise: a market that all symbols share, volatility that comes in
waves, tails fatter than a normal's. With a drift of zero nothing can be foretold, and whatever a
model finds is chance.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import IntEnum
from itertools import accumulate
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import polars as pl

from atlas.errors import InvalidInput
from atlas.market import BAR_COLUMNS, check_symbol

__all__ = ["MarketRecipe", "hidden_regimes", "simulate"]

FloatArray: TypeAlias = npt.NDArray[np.float64]

_BAR = timedelta(minutes=1)
_BARS_PER_DAY = 1_440
_BARS_PER_HOUR = 60
# Regimes are drawn so many at a time; a longer span draws further ones.
_DRAWS = 256
# A tick is at most this part of the first price, so that rounding does not show in returns.
_TICK = 1e-5
_VOLUME_DECIMALS = 4


@dataclass(frozen=True, slots=True)
class MarketRecipe:
    """The strengths of a simulated market; the same recipe gives the same bars to the bit.

    A recipe of more days begins with the bars of one of fewer, and one of more symbols has those
    of the first ones unchanged. Strengths are in basis points of the price: 1 is 0.01 %.
    """

    symbols: tuple[str, ...] = ("SIM_A", "SIM_B", "SIM_C", "SIM_D", "SIM_E")
    days: int = 30
    start: datetime = datetime(2024, 1, 1, tzinfo=UTC)
    """Open of the first bar."""
    seed: int = 7

    drift_bps_per_hour: float = 30.0
    """What a trend adds in an hour: the planted predictability. Zero plants none."""
    mean_regime_hours: float = 4.0
    """How long a regime (up, down or quiet) lasts in the mean; lengths are exponential."""

    volatility_bps: float = 40.0
    """Standard deviation of an hour's return without drift."""
    common_share: float = 0.3
    """Share of the noise's variance that all symbols have in common."""
    volatility_waves: float = 0.35
    """Standard deviation of the logarithm of volatility; zero holds it still."""
    wave_hours: float = 12.0
    """How long a wave of volatility lasts."""
    tail_degrees: float = 5.0
    """Degrees of freedom of the shocks (Student's t); fewer have fatter tails."""
    trend_volume: float = 0.15
    """How much more is traded in a trend than in a quiet regime, as a fraction."""
    informed_flow: float = 0.8
    """How much more is traded on bars that go with the trend, and less on those against it: who
    knows of the drift trades on it, so volume tells of it before the price does."""

    def __post_init__(self) -> None:
        for symbol in self.symbols:
            check_symbol(symbol)
        demands = {
            "symbols, each once": len(set(self.symbols)) == len(self.symbols) > 0,
            "days of 1 or more": self.days >= 1,
            "a start at a full minute with a zone": self.start.tzinfo is not None
            and self.start.timestamp() % _BAR.total_seconds() == 0,
            "a drift of 0 or more": 0.0 <= self.drift_bps_per_hour < math.inf,
            "regimes of 0.1 hours or more": 0.1 <= self.mean_regime_hours < math.inf,
            "a volatility above 0": 0.0 < self.volatility_bps < math.inf,
            "a common share from 0 to 1": 0.0 <= self.common_share <= 1.0,
            "waves of 0 or more": 0.0 <= self.volatility_waves < math.inf,
            "wave hours above 0": 0.0 < self.wave_hours < math.inf,
            "tail degrees above 2": 2.0 < self.tail_degrees < math.inf,
            "a trend volume of 0 or more": 0.0 <= self.trend_volume < math.inf,
            "an informed flow from 0 to 1": 0.0 <= self.informed_flow <= 1.0,
        }
        unmet = [demand for demand, met in demands.items() if not met]
        if unmet:
            raise InvalidInput(f"Expected {'; '.join(unmet)}; found {self}.")

    @property
    def drift_share(self) -> float:
        """Share of the variance of an hour's return that is due to drift, which can be foretold.

        Regimes follow each other as a chain of three states of equal length, so the sign of the
        drift has variance 2/3 and forgets at the rate 1.5 / mean_regime_hours.
        """
        rate = 1.5 / self.mean_regime_hours
        spread = 2 / 3 * 2 / rate**2 * (rate - 1 + math.exp(-rate))
        drift = self.drift_bps_per_hour**2 * spread
        return drift / (drift + self.volatility_bps**2)


def simulate(recipe: MarketRecipe, *, source_delay: timedelta = timedelta(0)) -> pl.DataFrame:
    """Return the market's bars, `atlas.market.BAR_COLUMNS`, by symbol and time.

    Prices lie on a grid of ticks; a bar opens where the one before has closed.
    """
    market = _waves(recipe, _MARKET) * _shocks(recipe, _MARKET)
    frames = [_bars(recipe, place, market) for place in range(len(recipe.symbols))]
    return (
        pl.concat(frames)
        .with_columns(known_at=pl.col("event_timestamp") + source_delay)
        .select(BAR_COLUMNS)
        .sort("symbol", "event_timestamp")
    )


def hidden_regimes(recipe: MarketRecipe) -> pl.DataFrame:
    """Return what no model may see: symbol, event_timestamp and drift's sign (-1, 0 or 1)."""
    return pl.concat(
        pl.DataFrame(
            {
                "symbol": pl.repeat(symbol, recipe.days * _BARS_PER_DAY, eager=True),
                "event_timestamp": _closes(recipe),
                "regime": _regimes(recipe, place),
            }
        )
        for place, symbol in enumerate(recipe.symbols)
    ).sort("symbol", "event_timestamp")


class _Draw(IntEnum):
    """What a stream of random numbers is for; each has its own, so that none shifts another."""

    SHOCK = 0
    WAVE = 1
    REGIME_LENGTH = 2
    REGIME_TURN = 3
    HIGH = 4
    LOW = 5
    VOLUME = 6
    FIRST = 7


# The market's own streams; a symbol's are numbered by its place, from 1.
_MARKET = -1


def _stream(recipe: MarketRecipe, place: int, draw: _Draw) -> np.random.Generator:
    # A named generator, so that numpy's default may change without changing the market.
    return np.random.Generator(
        np.random.PCG64(np.random.SeedSequence(recipe.seed, spawn_key=(place + 1, draw)))
    )


def _bars(recipe: MarketRecipe, place: int, market: FloatArray) -> pl.DataFrame:
    regimes = _regimes(recipe, place)
    sigma = recipe.volatility_bps / 1e4 / math.sqrt(_BARS_PER_HOUR)
    waves = _waves(recipe, place)
    own = waves * _shocks(recipe, place)
    noise = math.sqrt(recipe.common_share) * market + math.sqrt(1 - recipe.common_share) * own
    drift = regimes * (recipe.drift_bps_per_hour / 1e4 / _BARS_PER_HOUR)
    path = np.concatenate([[0.0], np.cumsum(drift + sigma * noise)])

    first_price, decimals = _price_scale(recipe, place)
    per_unit = 10.0**decimals
    ticks = _in_ticks(np.rint, first_price * per_unit, path)
    opens, closes = ticks[:-1], ticks[1:]
    high_path, low_path = _extremes(recipe, place, path, sigma * waves)
    highs = _in_ticks(np.ceil, first_price * per_unit, high_path)
    lows = _in_ticks(np.floor, first_price * per_unit, low_path)
    return pl.DataFrame(
        {
            "symbol": pl.repeat(recipe.symbols[place], closes.size, eager=True),
            "event_timestamp": _closes(recipe),
            # A whole number over a power of ten is the float nearest to the decimal price.
            "open": opens / per_unit,
            "high": np.maximum(highs, np.maximum(opens, closes)) / per_unit,
            "low": np.minimum(lows, np.minimum(opens, closes)) / per_unit,
            "close": closes / per_unit,
            "volume": _volume(recipe, place, np.abs(noise), regimes, np.sign(closes - opens)),
        }
    )


def _in_ticks(
    rounding: Callable[[FloatArray], FloatArray], first_ticks: float, path: FloatArray
) -> FloatArray:
    """Return the prices of a path of log returns, in whole ticks; none falls below one."""
    return np.maximum(rounding(first_ticks * np.exp(path)), 1.0)


def _closes(recipe: MarketRecipe) -> pl.Series:
    start = recipe.start.astimezone(UTC)
    return pl.datetime_range(
        start + _BAR, start + timedelta(days=recipe.days), _BAR, time_unit="us", eager=True
    )


def _shocks(recipe: MarketRecipe, place: int) -> FloatArray:
    """Return shocks of mean 0 and variance 1, (n_bars,)."""
    degrees = recipe.tail_degrees
    drawn = _stream(recipe, place, _Draw.SHOCK).standard_t(degrees, recipe.days * _BARS_PER_DAY)
    return np.asarray(drawn * math.sqrt((degrees - 2) / degrees))


def _waves(recipe: MarketRecipe, place: int) -> FloatArray:
    """Return the factor of volatility, (n_bars,); its square has mean 1."""
    kept = math.exp(-1 / (recipe.wave_hours * _BARS_PER_HOUR))
    drawn = _stream(recipe, place, _Draw.WAVE).standard_normal(recipe.days * _BARS_PER_DAY)
    drawn[1:] *= math.sqrt(1 - kept**2)  # the first bar is drawn from the long run
    wave = np.fromiter(accumulate(drawn.tolist(), lambda level, shock: kept * level + shock), float)
    factor: FloatArray = np.exp(recipe.volatility_waves * wave - recipe.volatility_waves**2)
    return factor


def _regimes(recipe: MarketRecipe, place: int) -> npt.NDArray[np.int8]:
    """Return the sign of the drift in each bar, (n_bars,)."""
    n_bars = recipe.days * _BARS_PER_DAY
    lengths, turns = (
        _stream(recipe, place, draw) for draw in (_Draw.REGIME_LENGTH, _Draw.REGIME_TURN)
    )
    mean_bars = recipe.mean_regime_hours * _BARS_PER_HOUR
    ends, steps = np.empty(0), np.empty(0, dtype=np.int64)
    while ends.size == 0 or ends[-1] < n_bars:
        last = ends[-1] if ends.size else 0.0
        drawn = np.concatenate([[last], lengths.exponential(mean_bars, _DRAWS)])
        ends = np.concatenate([ends, np.cumsum(drawn)[1:]])
        # One or two steps round a circle of three: never the same regime again.
        steps = np.concatenate([steps, turns.integers(1, 3, _DRAWS)])
    states = np.cumsum(steps) % 3
    present = np.searchsorted(ends, np.arange(n_bars), side="right")
    return np.asarray(states[present] - 1, dtype=np.int8)


def _price_scale(recipe: MarketRecipe, place: int) -> tuple[float, int]:
    """Return a symbol's first price, from 1 to 50 000, and the decimals of its tick."""
    drawn = _stream(recipe, place, _Draw.FIRST).random()
    price = float(f"{math.exp(drawn * math.log(50_000)):.4g}")
    return price, max(0, math.ceil(-math.log10(price * _TICK)))


def _extremes(
    recipe: MarketRecipe, place: int, path: FloatArray, sigma: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Return the highest and lowest log price in each bar, as a Brownian bridge would have."""
    start, end = path[:-1], path[1:]
    up = np.log1p(-_stream(recipe, place, _Draw.HIGH).random(start.size))
    down = np.log1p(-_stream(recipe, place, _Draw.LOW).random(start.size))
    high = (start + end + np.sqrt((end - start) ** 2 - 2 * sigma**2 * up)) / 2
    low = (start + end - np.sqrt((end - start) ** 2 - 2 * sigma**2 * down)) / 2
    return high, low


def _volume(
    recipe: MarketRecipe,
    place: int,
    moves: FloatArray,
    regimes: npt.NDArray[np.int8],
    directions: FloatArray,
) -> FloatArray:
    """Return units traded: more when the price moves, by day, and with a trend."""
    minute = np.arange(moves.size) % _BARS_PER_DAY
    day = 1.0 + 0.4 * np.sin(2 * np.pi * minute / _BARS_PER_DAY)
    trend = 1.0 + recipe.trend_volume * (regimes != 0)
    trend *= 1.0 + recipe.informed_flow * regimes * directions
    chance = np.exp(0.4 * _stream(recipe, place, _Draw.VOLUME).standard_normal(moves.size))
    units: FloatArray = np.round(20.0 * (0.3 + moves) * day * trend * chance, _VOLUME_DECIMALS)
    return units
