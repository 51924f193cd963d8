"""Features from the offline store to the online store, through Feast."""

from __future__ import annotations

import contextlib
import io
from datetime import datetime
from typing import TYPE_CHECKING, Any

from prefect import flow, task

from atlas.errors import TooManyBadRows
from atlas.runtime import workflow
from atlas.runtime.installation import Installation
from flows.accounts import account, account_of_stop, told
from flows.retry import STORE_TASK

if TYPE_CHECKING:
    from atlas.online.materialisation.run import Brought

__all__ = ["apply_definitions", "materialise", "materialise_view"]


@task(**STORE_TASK, timeout_seconds=300, tags=["feast"])
def apply_definitions() -> None:
    """Register entity, views and services, as `feast apply` does."""
    from feature_repo.definitions import services, symbol, views

    Installation().feast.apply([symbol, *views.values(), *services.values()])


@task(**STORE_TASK, timeout_seconds=3600, tags=["feast"])
def materialise_view(view: str, until: datetime) -> Brought:
    """Bring the newest row of every symbol online; safe to run twice, and two at once."""
    # Feast prints its own progress bar; ours is shown instead.
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        return workflow.bring_online(Installation(), view, until=until)


@flow(name="materialise", timeout_seconds=7200)
def materialise(views: list[str], until: datetime | None = None) -> None:
    """Bring views online as of `until`; by the project's clock if not given.

    Raises
    ------
    TooManyBadRows
        If the share of bad rows of a view is above the setting; later views are not brought.
    """
    moment = until or Installation().clock.now()
    apply_definitions()
    lines = []
    try:
        for view in views:
            try:
                lines.append({"view": view} | _counts(materialise_view(view, moment)))
            except TooManyBadRows as stopped:
                lines.append({"view": view} | account_of_stop(stopped))
                raise
    finally:
        account("online-rows", "Rows of each view brought online", lines)


def _counts(brought: Brought) -> dict[str, Any]:
    return {
        "read": brought.rows,
        "landed": brought.landed,
        "unchanged": brought.unchanged,
        "quarantined": brought.quarantined,
        "why": told(brought.reasons),
        "outcome": "done",
    }
