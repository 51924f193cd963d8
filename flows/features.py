"""Features over history, from bars to the offline store."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from prefect import flow, task

from atlas import materialise
from atlas.clickhouse import Computed
from atlas.errors import TooManyBadRows
from atlas.features import stored_view
from atlas.runtime.installation import Installation
from flows.accounts import account, account_of_stop, run_name, told
from flows.progress import progress
from flows.retry import STORE_TASK

__all__ = ["compute_features", "compute_view"]


@task(**STORE_TASK, timeout_seconds=3600, tags=["features"])
def compute_view(
    view: str, until: datetime, since: datetime | None = None, symbols: list[str] | None = None
) -> Computed:
    """Compute one view's rows; those that are stored already are left alone."""
    installation = Installation()
    with progress(f"features-{view.replace('_', '-')}", f"Features {view}") as tell:
        return materialise.compute_view(
            installation.clickhouse,
            stored_view(view),
            blobs=installation.blobs,
            since=since,
            until=until,
            symbols=symbols,
            on_chunk=tell,
            run=run_name("features"),
            limit=installation.share_limit,
        )


@flow(name="features", timeout_seconds=7200)
def compute_features(
    views: list[str],
    until: datetime | None = None,
    since: datetime | None = None,
    symbols: list[str] | None = None,
) -> dict[str, Computed]:
    """Compute views over the bars that closed by `until`; by the project's clock if not given.

    Raises
    ------
    TooManyBadRows
        If the share of bad rows of a view is above the setting; later views are not computed.
    """
    moment = until or Installation().clock.now()
    done: dict[str, Computed] = {}
    lines = []
    try:
        for view in views:
            try:
                done[view] = compute_view(view, moment, since, symbols)
            except TooManyBadRows as stopped:
                lines.append({"view": view} | account_of_stop(stopped))
                raise
            lines.append({"view": view} | _counts(done[view]))
    finally:
        account("features-rows", "Rows of each view", lines)
    return done


def _counts(done: Computed) -> dict[str, Any]:
    return {
        "read": done.computed,
        "written": done.written,
        "unchanged": done.unchanged,
        "quarantined": done.quarantined,
        "why": told(done.reasons),
        "outcome": "done",
    }
