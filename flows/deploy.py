"""A judged version towards live, or a rejected one under observation."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from prefect import flow, task

from atlas.deployment import Conclusion, Desk, operator_name
from atlas.market import Interval
from atlas.runtime.installation import Installation
from atlas.runtime.rollout import desk_terms, roll_out
from atlas.serving import Route
from flows.retry import STORE_TASK

__all__ = ["deploy", "drive", "observe", "rollback", "rows_to_watch"]


@task(timeout_seconds=14 * 86_400, tags=["deploy"])
def drive(
    model: str,
    version: int,
    strategy: str | None,
    min_rows: int,
    min_trades: int,
    max_latency_ms: float,
    patience_s: float,
    who: str,
) -> Conclusion:
    """Walk a version through its shadow to live, or back."""
    installation = Installation()
    terms = replace(
        desk_terms(installation.settings),
        min_rows=min_rows,
        min_trades=min_trades,
        max_latency_p99=timedelta(milliseconds=max_latency_ms),
        patience=timedelta(seconds=patience_s),
    )
    return roll_out(
        installation,
        model,
        version,
        strategy=strategy,
        terms=terms,
        who=who,
        why="passed every gate",
    )


@flow(name="deploy", timeout_seconds=14 * 86_400)
def deploy(
    model: str,
    version: int,
    min_rows: int = 100,
    max_latency_ms: float = 100.0,
    patience_s: float = 1800.0,
    who: str = "",
    strategy: str | None = None,
    min_trades: int = 0,
) -> Conclusion:
    """Deploy a version that passed every gate by a strategy; shadow comes first in each.

    A stage that has not shown `min_rows` rows and `min_trades` paper trades within `patience_s`
    seconds ends with the version taken back.
    """
    name = who or operator_name()
    return drive(model, version, strategy, min_rows, min_trades, max_latency_ms, patience_s, name)


@flow(name="rollback", timeout_seconds=300)
def rollback(model: str, why: str = "", who: str = "") -> Route:
    """Take the model's canary back; without one, make the former live version live again."""
    installation = Installation()
    desk = Desk(installation.deployments, installation.redis, who=who or operator_name())
    return desk.rollback(model, why=why)


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
