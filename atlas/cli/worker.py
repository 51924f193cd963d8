"""`atlas worker`: live signals from features in Redis."""

from __future__ import annotations

__all__ = ["worker"]


def worker() -> None:
    """Serve live signals from features in Redis, until stopped.

    Follows the routes of all models; answers questions, readiness and metrics over HTTP on
    ATLAS_WORKER_PORT. Needs Redis only: predictions wait there while ClickHouse is away.
    """
    from atlas.config import load_settings
    from atlas.inference import run
    from atlas.telemetry import configure_logging

    configure_logging()
    run(load_settings())
