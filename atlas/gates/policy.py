"""The thresholds and conventions that every model is judged by, in one versioned value."""

import math
from dataclasses import asdict, dataclass, replace
from datetime import timedelta
from typing import Any, Self

from atlas.errors import InvalidInput
from atlas.gates.conventions import CONVENTIONS

__all__ = ["GatePolicy"]


@dataclass(frozen=True, slots=True, kw_only=True)
class GatePolicy:
    """How strict the gates are; a threshold has the name of its gate.

    What the figures are figures of (return period, notional, trade, position, ...) is fixed in
    `atlas.gates.conventions`, part of the same version.

    Raises
    ------
    InvalidInput
        If a setting is not usable: a NaN threshold would never refuse anything it is compared to.
    """

    version: str = "2"
    """Named in every report; change it together with any default and any convention."""

    win_rate: float = 0.57
    """Share of trades that made money after costs; must be above."""
    walk_forward: float = 0.85
    """Walk-forward efficiency; must be above."""
    overfitting: float = 0.15
    """Probability of backtest overfitting; must be below."""
    drawdown: float = 0.03
    """Upper bound of the probability of a drawdown beyond `drawdown_limit`; must be below."""
    accuracy: float = 0.54
    """Share of barrier labels met out of sample; must be above."""
    sharpe: float = 1.0
    """Annualised Sharpe ratio of the selected trial out of sample; must be above."""
    r2: float | None = None
    """For evidence with forecasts: out-of-sample R squared; must be above. None asks for none."""
    mse: float | None = None
    """For evidence with forecasts: mean squared error; must be below. None asks for none."""

    return_periods: tuple[timedelta, ...] = (timedelta(hours=1), timedelta(days=1))
    """Lengths of a return period that evidence may have: an hour, or a day for daily data."""
    hours_per_year: float = 24 * 365
    """Hours in which the market is open, to annualise: this is for one that never closes."""

    min_trades: int = 400
    """Trades, and labels scored, below which nothing is concluded."""
    min_trials: int = 10
    """Trials that traded below which a rank out of sample is too coarse."""
    n_blocks: int = 16
    """Blocks of the overfitting gate."""
    block_sensitivity: tuple[int, ...] = (8, 10, 12, 16)
    """Other numbers of blocks shown beside it."""
    min_rows_per_block: int = 20
    """Periods in a block below which its Sharpe ratio says nothing."""

    drawdown_limit: float = 0.20
    drawdown_horizon: timedelta = timedelta(days=252)
    """Length of a path; the span of the data if that is shorter."""
    n_paths: int = 10_000
    seed: int = 0
    stress: float = 2.0
    """The record's worst loss is this many times as large in the stressed figure of the report."""

    def __post_init__(self) -> None:
        for name in ("win_rate", "walk_forward", "overfitting", "drawdown", "accuracy", "sharpe"):
            _require(name, getattr(self, name), math.isfinite(getattr(self, name)), "finite")
        for name in ("r2", "mse"):
            value = getattr(self, name)
            _require(name, value, value is None or math.isfinite(value), "finite, or None")
        for name in ("min_trades", "min_rows_per_block", "n_paths"):
            _require(name, getattr(self, name), getattr(self, name) >= 1, "at least 1")
        _require("min_trials", self.min_trials, self.min_trials >= 2, "at least 2")
        for name, choices in (
            ("n_blocks", (self.n_blocks,)),
            ("block_sensitivity", self.block_sensitivity),
        ):
            even = all(blocks % 2 == 0 and 2 <= blocks <= 24 for blocks in choices)
            _require(name, getattr(self, name), even, "even, from 2 to 24")
        limit = self.drawdown_limit
        _require("drawdown_limit", limit, 0 <= limit < 1, "in [0, 1)")
        horizon = self.drawdown_horizon
        _require("drawdown_horizon", horizon, horizon > timedelta(0), "positive")
        hours = self.hours_per_year
        _require("hours_per_year", hours, 0 < hours <= 24 * 366, "in (0, 8784]")
        _require("stress", self.stress, 1 <= self.stress < math.inf, "at least 1")
        positive = all(period > timedelta(0) for period in self.return_periods)
        _require("return_periods", self.return_periods, positive, "positive")

    def periods_per_year(self, period: timedelta) -> float:
        """Return how many return periods a year of open market has."""
        return timedelta(hours=self.hours_per_year) / period

    def departing(self, by: str) -> Self:
        """Return the same policy, its version marked as no longer that of the defaults."""
        return replace(self, version=f"{GatePolicy().version}+{by}")

    def as_dict(self) -> dict[str, Any]:
        """Return the policy and its conventions in JSON's types; durations are in seconds."""
        fields = {name: _json(value) for name, value in asdict(self).items()}
        return {**fields, "conventions": dict(CONVENTIONS)}


def _require(name: str, value: object, holds: bool, expected: str) -> None:
    if not holds:
        raise InvalidInput(f"GatePolicy.{name}: expected a value {expected}, found {value!r}.")


def _json(value: Any) -> Any:
    if isinstance(value, timedelta):
        return value.total_seconds()
    return [_json(item) for item in value] if isinstance(value, tuple) else value
