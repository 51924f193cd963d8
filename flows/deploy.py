"""A judged version towards live, or a rejected one under observation."""

from __future__ import annotations

from datetime import timedelta

from prefect import flow, task

from atlas.deployment import (
    Conclusion,
    Desk,
    Driver,
    operator_name,
    shadow_then_switch,
)
from atlas.market import Interval
from atlas.runtime.installation import Installation
from atlas.serving import Route
from flows.retry import STORE_TASK

__all__ = ["deploy", "drive", "observe", "rows_to_watch"]


@task(timeout_seconds=3600, tags=["deploy"])
def drive(
    model: str,
    version: int,
    min_rows: int,
    max_latency_ms: float,
    patience_s: float,
    who: str,
) -> Conclusion:
    """Walk a version through its shadow to live, or back."""
    installation = Installation()
    desk = Desk(installation.deployments, installation.redis, who=who)
    strategy = shadow_then_switch(
        version,
        min_rows=min_rows,
        max_latency_p99=timedelta(milliseconds=max_latency_ms),
        patience=timedelta(seconds=patience_s),
    )
    return Driver(desk).deploy(model, version, strategy, why="passed every gate")


@flow(name="deploy", timeout_seconds=2 * 3600)
def deploy(
    model: str,
    version: int,
    min_rows: int = 100,
    max_latency_ms: float = 100.0,
    patience_s: float = 1800.0,
    who: str = "",
) -> Conclusion:
    """Deploy a version that passed every gate: shadow first, then the whole route at once.

    A shadow that has not predicted `min_rows` rows within `patience_s` seconds is taken back.
    """
    return drive(model, version, min_rows, max_latency_ms, patience_s, who or operator_name())


def rows_to_watch(interval: Interval, n_symbols: int) -> int:
    """Return how many rows a shadow is watched for: twenty short bars a symbol, or two long ones.

    A replay at 60 market seconds a second has 30 hourly bars in half an hour, and one daily bar.
    """
    return n_symbols * (20 if interval.delta < timedelta(hours=1) else 2)


@task(**STORE_TASK, tags=["deploy"])
def observe(model: str, version: int, who: str) -> Route:
    """Watch what a rejected version would say, on a stream of its own that nobody trades on."""
    installation = Installation()
    desk = Desk(installation.deployments, installation.redis, who=who)
    return desk.observe(model, version, why="rejected by the gates; watched only")
