"""What a model is asked to foretell: which barrier the price touches first."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import polars as pl
from numpy.typing import ArrayLike, NDArray

from atlas.book import forward_returns
from atlas.errors import InvalidInput
from atlas.market import Interval
from atlas.stats import triple_barrier

__all__ = ["Decisions", "Target", "default_target", "label_events", "meta_labels"]

# Bars from which the volatility before an event is measured.
_VOLATILITY_BARS = 120


@dataclass(frozen=True, slots=True)
class Target:
    """When a decision is due and how its outcome is labelled."""

    decision_bars: int
    """A decision is due on bars whose close is a whole multiple of so many intervals."""
    horizon_bars: int
    """The vertical barrier, in bars after the decision."""
    width: float
    """Distance of the upper and the lower barrier, in volatilities over the horizon."""

    def __post_init__(self) -> None:
        if not (0 < self.decision_bars <= self.horizon_bars and self.width > 0):
            raise InvalidInput(
                "Expected 0 < decision_bars <= horizon_bars and width > 0; found "
                f"{self.decision_bars}, {self.horizon_bars} and {self.width}."
            )


@dataclass(frozen=True)
class Decisions:
    """Labelled decisions, and the bars that they were made on."""

    events: pl.DataFrame
    """As `label_events` returns them."""
    bars: pl.DataFrame
    """Columns `atlas.market.BAR_COLUMNS`, from as far back as the features look."""
    since: datetime

    @property
    def moments(self) -> pl.DataFrame:
        """`symbol`, `event_timestamp` of every bar that a decision may look back on."""
        return self.bars.filter(pl.col("event_timestamp") >= self.since).select(
            "symbol", "event_timestamp"
        )


def default_target(interval: Interval) -> Target:
    """Return the target for bars of that interval: decide half-hourly, or on every longer bar."""
    decision = max(1, 1_800_000_000 // interval.micros)
    return Target(decision_bars=decision, horizon_bars=2 * decision, width=1.0)


def label_events(bars: pl.DataFrame, interval: Interval, target: Target) -> pl.DataFrame:
    """Label every decision moment of every symbol.

    Parameters
    ----------
    bars : DataFrame
        Columns `atlas.market.BAR_COLUMNS`, by symbol and time.

    Returns
    -------
    DataFrame
        By symbol and time: `symbol`, `event_timestamp`; `start`, `end`, the closed span of the
        label on one axis for all symbols, in intervals since 1970; `ret`, gross return; `label`,
        −1, 0 or 1; `close`, the price entered at; `forward_return`, simple return until the next
        decision is due.
        Events whose volatility is not known yet or whose label has not ended are left out.
    """
    frames = [
        _label_symbol(symbol_bars, interval, target)
        for _, symbol_bars in bars.group_by("symbol", maintain_order=True)
    ]
    if not frames:
        raise InvalidInput("Expected bars to label; found none. Ingest candles first.")
    return pl.concat(frames)


def meta_labels(sides: ArrayLike, returns: ArrayLike) -> NDArray[np.int8]:
    """Label whether following a first model's side would have paid: 1 where it would, else 0.

    A second model that learns them says how much to trust the first; it decides on size, not side.

    Parameters
    ----------
    sides : (n,)
        −1, 0 or 1: what the first model said at each event, from scores that were not fitted to it.
    returns : (n,)
        Return over each label's span, net of what a round trip costs; as a fraction.

    Returns
    -------
    (n,)
        0 also where no side was taken, and where the return is 0.

    Raises
    ------
    InvalidInput
        If lengths disagree, a side is none of the three, or a return is not a finite number.

    References
    ----------
    López de Prado (2018), "Advances in Financial Machine Learning", section 3.6.
    """
    said, earned = np.asarray(sides), np.asarray(returns, dtype=np.float64)
    if said.ndim != 1 or said.shape != earned.shape:
        raise InvalidInput(
            f"Expected one side and one return an event; found {said.shape} and {earned.shape}."
        )
    if not np.isin(said, (-1, 0, 1)).all() or not np.isfinite(earned).all():
        raise InvalidInput("Expected sides of -1, 0 or 1, and finite returns; found others.")
    return (said * earned > 0).astype(np.int8)


def _label_symbol(bars: pl.DataFrame, interval: Interval, target: Target) -> pl.DataFrame:
    close = bars["close"].to_numpy()
    time = bars["event_timestamp"].dt.timestamp("us").to_numpy() // interval.micros
    # Up to the bar before the event: the barrier's width must not know the event's own move.
    steps = bars["close"].log().diff()
    volatility = steps.rolling_std(_VOLATILITY_BARS, min_samples=_VOLATILITY_BARS // 2).shift(1)
    width = target.width * math.sqrt(target.horizon_bars) * volatility.to_numpy()
    starts = np.flatnonzero((time % target.decision_bars == 0) & np.isfinite(width) & (width > 0))
    labels = triple_barrier(
        close,
        starts,
        up=width[starts],
        # A fall of a whole price is no barrier.
        down=np.minimum(width[starts], 0.99),
        horizon=target.horizon_bars,
        high=bars["high"].to_numpy(),
        low=bars["low"].to_numpy(),
    )
    rows = labels["start"].to_numpy()
    return pl.DataFrame(
        {
            "symbol": bars["symbol"].gather(rows),
            "event_timestamp": bars["event_timestamp"].gather(rows),
            "start": time[rows],
            "end": time[labels["end"].to_numpy()],
            "ret": labels["ret"],
            "label": labels["label"],
            "close": close[rows],
            "forward_return": forward_returns(close, time, rows, target.decision_bars),
        }
    )
