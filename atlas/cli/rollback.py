"""`atlas rollback`: back to the version that was live before."""

from __future__ import annotations

from typing import Annotated

import typer

from atlas.config import load_settings

__all__ = ["rollback"]


def rollback(
    model: Annotated[str, typer.Argument(help="Name of the model.")],
    why: Annotated[str, typer.Option(help="Reason, for the log.")] = "",
) -> None:
    """Make the version live again that was live before the present one, at once."""
    from atlas.bus import connect
    from atlas.cli.terminal import open_console
    from atlas.deployment import Desk, operator_name
    from atlas.registry import DeploymentLog

    settings = load_settings()
    with connect(settings.host, settings.redis_port) as redis:
        log = DeploymentLog(settings.deployments_url)
        before = log.state(model).live
        route = Desk(log, redis, who=operator_name()).rollback(model, why=why)
    left = f" in place of {before.version}" if before else ""
    now = route.live.version if route.live else "?"
    open_console().print(f"[green]{model}/{now} is live[/]{left}.", soft_wrap=True)
