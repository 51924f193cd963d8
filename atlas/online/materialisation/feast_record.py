"""What Feast's registry is told of a run: the ledger's few intervals, in place of one a run."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from feast import FeatureViewState
from feast.errors import FeatureViewNotFoundException
from feast.infra.registry.base_registry import BaseRegistry
from feast.infra.registry.registry import Registry as FileRegistry

from atlas.clock import from_micros

__all__ = ["record_intervals"]


def record_intervals(
    registry: BaseRegistry, project: str, view: str, intervals: Sequence[tuple[int, int]]
) -> None:
    """Make a view's intervals in the registry the ledger's.

    The view's state is left unspecified, which Feast serves always: it would close a view to its
    readers while a run goes on, and for good after one that was killed. What is online is the
    ledger's to say.

    Parameters
    ----------
    intervals : sequence of (first, last)
        Microseconds since 1970, sorted and apart.
    """
    wanted = [(from_micros(first), from_micros(last)) for first, last in intervals]
    try:
        found: Any = registry.get_any_feature_view(view, project, allow_cache=False)
    except FeatureViewNotFoundException:
        # Deleted while it was brought online; its rows go with the next `feast apply`.
        return
    if list(found.materialization_intervals) == wanted or not wanted:
        return
    if isinstance(registry, FileRegistry):
        _record_in_file(registry, project, found, wanted)
        return
    found.materialization_intervals = wanted
    found.state = FeatureViewState.STATE_UNSPECIFIED
    registry.apply_feature_view(found, project)


def _record_in_file(
    registry: Any, project: str, view: Any, wanted: list[tuple[datetime, datetime]]
) -> None:
    """Write them into a registry kept as one file, whose `apply` leaves intervals as they are."""
    registry.apply_materialization(view, project, *wanted[-1], commit=False)
    proto = registry.cached_registry_proto
    for kept in (*proto.feature_views, *proto.stream_feature_views):
        if (kept.spec.name, kept.spec.project) == (view.name, project):
            kept.meta.state = FeatureViewState.STATE_UNSPECIFIED.to_proto()
            del kept.meta.materialization_intervals[:]
            for first, last in wanted:
                interval = kept.meta.materialization_intervals.add()
                interval.start_time.FromDatetime(first)
                interval.end_time.FromDatetime(last)
    registry.commit()
