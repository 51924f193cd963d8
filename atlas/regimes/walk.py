"""The walk through a symbol's history: a refit at each point of the grid, the filter between."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import polars as pl

from atlas.features.regimes import RegimeRecipe
from atlas.regimes.checkpoint import Checkpoint
from atlas.regimes.follow import follow, without_regime
from atlas.regimes.refit import fit, gather

__all__ = ["refit_before", "refits", "walk_forward"]

_FIRST = datetime(1970, 1, 5, tzinfo=UTC)
"""A Monday; all refits lie whole multiples of `refit_every` from it."""


def refit_before(moment: datetime, every: timedelta) -> datetime:
    """Return the last point of the grid that is not after a moment."""
    return _FIRST + (moment - _FIRST) // every * every


def refits(first: datetime, last: datetime, every: timedelta) -> Iterator[datetime]:
    """Yield the points of the grid that begin stretches with bars from `first` to `last`."""
    at = refit_before(first, every)
    while at <= last:
        yield at
        at += every


def walk_forward(
    versions: pl.DataFrame, recipe: RegimeRecipe
) -> tuple[pl.DataFrame, list[Checkpoint]]:
    """Return the regime of each bar of one symbol, and the checkpoints, in order of time.

    Parameters
    ----------
    versions : frame
        symbol, event_timestamp, known_at and the inputs; all versions of each row.

    Returns
    -------
    frame, list of Checkpoint
        symbol, event_timestamp, known_at, regime (null where none is known), regime_gap,
        regime_age and model_version, one row for each event.
    """
    times = versions["event_timestamp"]
    parts, checkpoints = [], list[Checkpoint]()
    first, last = times.min(), times.max()
    assert isinstance(first, datetime)
    assert isinstance(last, datetime)
    for at in refits(first, last, recipe.refit_every):
        stop = at + recipe.refit_every
        if not times.is_between(at, stop, closed="left").any():
            continue
        evidence = gather(versions, recipe, at=at, former=checkpoints[-1] if checkpoints else None)
        if evidence is None:
            parts.append(without_regime(versions, since=at, before=stop))
            continue
        checkpoints.append(fit(evidence, recipe))
        parts.append(follow(checkpoints[-1], versions, recipe, before=stop))
    return pl.concat(parts), checkpoints
