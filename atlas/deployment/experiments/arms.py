"""What the two versions of an experiment earned in the same time, one observation a period.

Paired, a period is an hour that both held. In a split the units of traffic are dealt out by hash,
so an hour may belong to one version alone: a period then lasts until both have had a unit of their
own, and each version's return is that of its units in it. When a period ends depends on the hash
only, never on what was earned.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from atlas.errors import InvalidInput
from atlas.matured import HOUR_US, hourly_returns
from atlas.stats.long_run import prewhitened_variance

__all__ = ["Arms", "long_run_variance", "paired_hours", "split_periods"]

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Arms:
    """Net returns of the two versions in the same periods."""

    champion: Floats
    """(n_periods,)"""
    challenger: Floats
    """(n_periods,)"""

    def __post_init__(self) -> None:
        if self.champion.shape != self.challenger.shape or self.champion.ndim != 1:
            raise InvalidInput(
                f"Expected as many returns of one arm as of the other; found shapes "
                f"{self.champion.shape} and {self.challenger.shape}."
            )


def paired_hours(champion: pl.DataFrame, challenger: pl.DataFrame, *, since_us: int = 0) -> Arms:
    """Return the hours that both versions held, from profit rows of each.

    Parameters
    ----------
    since_us : int
        Whole hours from then on.
    """
    ours, theirs = _complete(champion, challenger, since_us)
    both = ours.join(theirs, on="hour", suffix="_challenger").sort("hour")
    return Arms(both["net"].to_numpy(), both["net_challenger"].to_numpy())


def split_periods(champion: pl.DataFrame, challenger: pl.DataFrame, *, since_us: int = 0) -> Arms:
    """Return the periods in which both versions had units of their own; else as `paired_hours`."""
    ours, theirs = _complete(champion, challenger, since_us)
    hours = ours.join(theirs, on="hour", how="full", coalesce=True, suffix="_challenger")
    sums = np.zeros((2, 2))  # arm by (net of its units, their number)
    periods: list[Floats] = []
    for _, *ends in hours.sort("hour").fill_null(0).iter_rows():
        net, units, net_challenger, units_challenger = ends
        sums += [[net * units, units], [net_challenger * units_challenger, units_challenger]]
        if sums[:, 1].all():
            periods.append(sums[:, 0] / sums[:, 1])
            sums[:] = 0.0
    returns = np.array(periods).reshape(-1, 2)
    return Arms(returns[:, 0], returns[:, 1])


def long_run_variance(returns: Floats) -> float:
    """Return the variance of a period's return that a mean of many pays for, dependence included.

    Parameters
    ----------
    returns : (n,)
        At least three, and not all equal.
    """
    return prewhitened_variance(np.ones(1), (returns - returns.mean())[:, None])


def _complete(
    champion: pl.DataFrame, challenger: pl.DataFrame, since_us: int
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return the hours of both that are over, so that no later row changes what was looked at."""
    if champion.is_empty() or challenger.is_empty():
        nothing = hourly_returns(champion.clear())
        return nothing, nothing
    # A row belongs to the hour in which it began, and comes when the next decision is made; a
    # symbol may be an hour behind.
    ends = (int(rows["to_us"].to_numpy().max()) for rows in (champion, challenger))
    last = min(ends) // HOUR_US - 2
    first = -(-since_us // HOUR_US)
    ours, theirs = (
        hourly_returns(rows).filter(pl.col("hour").is_between(first, last))
        for rows in (champion, challenger)
    )
    return ours, theirs
