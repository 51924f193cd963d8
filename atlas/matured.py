"""What a route has earned once prices have shown it: profit rows, hours, and the figures judged.

A profit row is what one symbol earned between two consecutive decisions, on one unit of notional.
Rows come from the paper trader; deployment strategies and experiments judge what is made of them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.special import stdtr

from atlas.errors import InvalidInput
from atlas.stats import max_drawdown
from atlas.stats.long_run import prewhitened_variance

__all__ = ["HOUR_US", "PROFIT_SCHEMA", "Matured", "hourly_returns", "mature", "trade_returns"]

HOUR_US = 3_600_000_000

PROFIT_SCHEMA = {
    "model": pl.String,
    "stage": pl.String,
    "version": pl.Int64,
    "symbol": pl.String,
    "from_us": pl.Int64,
    "to_us": pl.Int64,
    "side": pl.Int64,
    "gross": pl.Float64,
    "cost": pl.Float64,
}
"""Columns of a frame of profit rows: whose they are, the two decisions, the side held, what was
earned and what the first decision cost."""

# With fewer hours nothing can be said about how they depend on each other.
_LEAST_HOURS = 10


@dataclass(frozen=True, slots=True)
class Matured:
    """What one version has earned on one route."""

    trades: int
    """Stretches of one side; the newest of a symbol may be open still."""
    win_rate: float
    """Share of trades with a profit after costs; NaN without a trade."""
    hours: int
    """Hours in which it held at least one symbol, with or without a position."""
    mean: float
    """Net return an hour, on one unit of notional split among the symbols that it held; NaN
    without an hour."""
    error: float
    """Standard error of the mean, paying for dependence between hours; NaN below ten hours."""
    max_drawdown: float
    net: float
    """Sum of the hourly returns."""
    since_us: int | None
    """The first decision."""
    expected: float | None = None
    """Mean that the gates saw out of sample."""
    shortfall_p: float | None = None
    """Chance of a mean as low as this one if the expected mean were true: small means that the
    gates' figure does not hold. None without an expectation or an error."""

    def meets_expectation(self, level: float = 0.05) -> bool | None:
        """Tell whether the mean is no lower than chance allows; None if it cannot be told."""
        return None if self.shortfall_p is None else self.shortfall_p > level


def mature(rows: pl.DataFrame, *, expected: float | None = None) -> Matured:
    """Judge the profit rows of one version on one route.

    Parameters
    ----------
    rows : DataFrame
        Of `PROFIT_SCHEMA`, in any order.
    expected : float, optional
        Mean net return an hour that the gates saw, on the same unit of notional.

    Raises
    ------
    InvalidInput
        If the rows belong to more than one version or route.
    """
    whose = rows.select("model", "stage", "version").unique()
    if whose.height > 1:
        raise InvalidInput(
            f"Expected profit rows of one version on one route; found {whose.height}: "
            f"{whose.sort(whose.columns).rows()[:3]}. Filter them first."
        )
    trades = trade_returns(rows)
    returns = hourly_returns(rows)["net"].to_numpy()
    mean = float(returns.mean()) if returns.size else math.nan
    error = _error(returns)
    return Matured(
        trades=trades.size,
        win_rate=float((trades > 0).mean()) if trades.size else math.nan,
        hours=returns.size,
        mean=mean,
        error=error,
        max_drawdown=max_drawdown(returns) if returns.size else 0.0,
        net=float(returns.sum()),
        since_us=rows["from_us"].min() if rows.height else None,  # type: ignore[arg-type]
        expected=expected,
        shortfall_p=_shortfall(mean, error, returns.size, expected),
    )


def hourly_returns(rows: pl.DataFrame) -> pl.DataFrame:
    """Return `hour` (since 1970), `net` and `symbols` of every hour in which something was held.

    A row earns in the hour of its first decision, as in `atlas.book`, and holds its symbol in that
    hour and in every further one that it covers whole. The return of an hour is that of one unit of
    notional split equally among the symbols held in it: so a route that has a tenth of the traffic
    can be compared with one that has all of it.
    """
    hour = pl.col("from_us") // HOUR_US
    earned = rows.group_by(hour.alias("hour")).agg(
        # Summed in one order, or the last bits would depend on that of the rows.
        net=(pl.col("gross") - pl.col("cost")).sort_by("symbol", "from_us").sum()
    )
    held = (
        rows.select(
            "symbol",
            hour=pl.int_ranges(hour, pl.max_horizontal(hour + 1, pl.col("to_us") // HOUR_US)),
        )
        .explode("hour")
        .group_by("hour")
        .agg(symbols=pl.col("symbol").n_unique().cast(pl.Int64))
    )
    return (
        held.join(earned, on="hour", how="left")
        .with_columns(net=pl.col("net").fill_null(0.0) / pl.col("symbols"))
        .select("hour", "net", "symbols")
        .sort("hour")
    )


def trade_returns(rows: pl.DataFrame) -> NDArray[np.float64]:
    """Return what each trade of one version on one route earned net, by symbol and time.

    A trade is a stretch of one side without a pause in between. Its exit is paid by the row after
    it, where that row is the version's own; a position that passed on to another route is closed at
    that route's cost.
    """
    own = pl.col("symbol") == pl.col("symbol").shift(1)
    follows = own & (pl.col("from_us") == pl.col("to_us").shift(1))
    before = pl.when(follows.fill_null(False)).then(pl.col("side").shift(1)).otherwise(None)
    changed = before.is_null() | (before != pl.col("side"))
    size, other = before.abs(), pl.col("side").abs()
    exit_cost = pl.when(changed & (size > 0)).then(pl.col("cost") * size / (size + other))
    path = rows.sort("symbol", "from_us").select(
        "side",
        trade=changed.cum_sum(),
        # What it pays of its own, and what it pays for the trade before.
        net=pl.col("gross") - pl.col("cost"),
        exit=exit_cost.otherwise(0.0),
    )
    trades = path.group_by("trade", maintain_order=True).agg(
        side=pl.col("side").first(), net=pl.col("net").sum(), exit=pl.col("exit").first()
    )
    net = trades["net"] + trades["exit"] - trades["exit"].shift(-1, fill_value=0.0)
    return net.filter(trades["side"] != 0).to_numpy()


def _error(returns: NDArray[np.float64]) -> float:
    n = returns.size
    if n < _LEAST_HOURS:
        return math.nan
    centred = (returns - returns.mean())[:, None]
    return math.sqrt(prewhitened_variance(np.ones(1), centred) / n)


def _shortfall(mean: float, error: float, hours: int, expected: float | None) -> float | None:
    if expected is None or not error > 0:  # NaN fails
        return None
    return float(stdtr(hours - 1, (mean - expected) / error))
