"""Which views of features exist, and for which intervals."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from typing import TypeVar

from atlas.errors import InvalidInput
from atlas.features.feature_set import FeatureSet
from atlas.features.lunar import lunar
from atlas.features.ohlcv import ohlcv
from atlas.features.regimes import RegimeSet, regime
from atlas.features.stored_view import StoredView
from atlas.market import INTERVALS, interval_of

__all__ = ["feature_set", "feature_sets", "stored_view", "stored_views"]

View = TypeVar("View", bound=StoredView)


@cache
def feature_sets() -> tuple[FeatureSet, ...]:
    """Return every feature set: the views that a function of bars computes."""
    # The trap belongs to the simulated market, whose bars are of one minute.
    return (*(ohlcv(interval) for interval in INTERVALS), lunar(interval_of("1m")))


@cache
def _regime_sets() -> tuple[RegimeSet, ...]:
    # Window, refits and penalty are those of hours; another interval needs its own.
    return (regime(interval_of("1h")),)


def stored_views() -> tuple[StoredView, ...]:
    """Return every view; each gives a table, a Feast view and a feature service."""
    return (*feature_sets(), *_regime_sets())


def feature_set(view: str) -> FeatureSet:
    """Return the feature set behind a view.

    Raises
    ------
    InvalidInput
        If there is none of that name.
    """
    return _named(view, feature_sets())


def stored_view(view: str) -> StoredView:
    """Return what is behind a view, a feature set or another.

    Raises
    ------
    InvalidInput
        If there is none of that name.
    """
    return _named(view, stored_views())


def _named(view: str, known: Iterable[View]) -> View:
    for candidate in known:
        if candidate.view == view:
            return candidate
    names = ", ".join(candidate.view for candidate in known)
    raise InvalidInput(f"Expected a feature view among {names}; found {view!r}.")
