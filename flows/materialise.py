"""Features from the offline store to the online store, through Feast."""

from __future__ import annotations

import contextlib
import io
from datetime import datetime, timedelta

from prefect import flow, task

from atlas.runtime import workflow
from atlas.runtime.installation import Installation
from flows.retry import STORE_TASK

__all__ = ["apply_definitions", "materialise", "materialise_view"]


@task(**STORE_TASK, timeout_seconds=300, tags=["feast"])
def apply_definitions() -> None:
    """Register entity, views and services, as `feast apply` does."""
    from feature_repo.definitions import services, symbol, views

    Installation().feast.apply([symbol, *views.values(), *services.values()])


@task(**STORE_TASK, timeout_seconds=3600, tags=["feast"])
def materialise_view(view: str, until: datetime, window: timedelta) -> None:
    """Bring the newest row of every symbol in the window online; safe to run twice."""
    # Feast prints its own progress bar; ours is shown instead.
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        workflow.bring_online(Installation(), view, until=until, window=window)


@flow(name="materialise", timeout_seconds=7200)
def materialise(
    views: list[str], until: datetime | None = None, window: timedelta = timedelta(days=2)
) -> None:
    """Materialise views for the window before `until`; by the project's clock if not given."""
    moment = until or Installation().clock.now()
    apply_definitions()
    for view in views:
        materialise_view(view, moment, window)
