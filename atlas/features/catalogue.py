"""Which feature sets exist, and for which intervals."""

from __future__ import annotations

from functools import cache

from atlas.errors import InvalidInput
from atlas.features.feature_set import FeatureSet
from atlas.features.lunar import lunar
from atlas.features.ohlcv import ohlcv
from atlas.market import INTERVALS, interval_of

__all__ = ["feature_set", "feature_sets"]


@cache
def feature_sets() -> tuple[FeatureSet, ...]:
    """Return every feature set; each gives a table, a Feast view and a feature service."""
    # The trap belongs to the simulated market, whose bars are of one minute.
    return (*(ohlcv(interval) for interval in INTERVALS), lunar(interval_of("1m")))


def feature_set(view: str) -> FeatureSet:
    """Return the feature set behind a view.

    Raises
    ------
    InvalidInput
        If there is none of that name.
    """
    for candidate in feature_sets():
        if candidate.view == view:
            return candidate
    known = ", ".join(candidate.view for candidate in feature_sets())
    raise InvalidInput(f"Expected a feature view among {known}; found {view!r}.")
