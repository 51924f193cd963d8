"""How far a long step has come: for Prefect's page, and for whoever listens in this process."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from uuid import UUID

__all__ = ["Listener", "listening", "progress"]

Listener = Callable[[str, float], None]
"""Told a step's name and its share done, from 0 to 1."""

_listeners: list[Listener] = []
# Each update is a request to Prefect's server.
_EVERY_SECONDS = 1.0


@contextmanager
def listening(listener: Listener) -> Iterator[None]:
    """Hear of every step's progress inside the block."""
    _listeners.append(listener)
    try:
        yield
    finally:
        _listeners.remove(listener)


@contextmanager
def progress(key: str, description: str) -> Iterator[Callable[[float], None]]:
    """Give a function to be told the share done; inside a flow run it is an artifact as well."""
    # Imported late: the demo speaks before Prefect has been imported.
    from prefect.artifacts import create_progress_artifact, update_progress_artifact
    from prefect.context import FlowRunContext

    artifact: UUID | None = None
    told = time.monotonic()
    if FlowRunContext.get() is not None:
        made = create_progress_artifact(progress=0.0, key=key, description=description)
        artifact = made if isinstance(made, UUID) else None

    def tell(share: float) -> None:
        nonlocal told
        for listener in _listeners:
            listener(description, share)
        late = time.monotonic() - told >= _EVERY_SECONDS
        if artifact is not None and (late or share >= 1.0):
            update_progress_artifact(artifact_id=artifact, progress=100.0 * share)
            told = time.monotonic()

    yield tell
    tell(1.0)
