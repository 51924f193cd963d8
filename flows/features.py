"""Features over history, from bars to the offline store."""

from __future__ import annotations

from datetime import datetime

from prefect import flow, task

from atlas.clickhouse import Computed
from atlas.features import feature_set
from atlas.materialise import compute_history
from atlas.runtime.installation import Installation
from flows.progress import progress
from flows.retry import STORE_TASK

__all__ = ["compute_features", "compute_view"]


@task(**STORE_TASK, timeout_seconds=3600, tags=["features"])
def compute_view(
    view: str, until: datetime, since: datetime | None = None, symbols: list[str] | None = None
) -> Computed:
    """Compute one view's rows; those that are stored already are left alone."""
    with progress(f"features-{view.replace('_', '-')}", f"Features {view}") as tell:
        return compute_history(
            Installation().clickhouse,
            feature_set(view),
            since=since,
            until=until,
            symbols=symbols,
            on_chunk=tell,
        )


@flow(name="features", timeout_seconds=7200)
def compute_features(
    views: list[str],
    until: datetime | None = None,
    since: datetime | None = None,
    symbols: list[str] | None = None,
) -> dict[str, Computed]:
    """Compute views over the bars that closed by `until`; by the project's clock if not given."""
    moment = until or Installation().clock.now()
    return {view: compute_view(view, moment, since, symbols) for view in views}
