"""`atlas halt`: stops all live signals, at once."""

from __future__ import annotations

from typing import Annotated

import typer

from atlas.config import load_settings

__all__ = ["halt"]


def halt(
    reason: Annotated[str, typer.Option(help="Why, for the log.")],
) -> None:
    """Stop all live signals: when this returns, none follows until a person releases the desk."""
    from atlas.bus import connect
    from atlas.cli.terminal import open_console
    from atlas.deployment import operator_name
    from atlas.registry import HaltLog, Latch

    settings = load_settings()
    # Redis need not answer: the halt is recorded all the same.
    with connect(settings.host, settings.redis_port, asks=False) as redis:
        entry = Latch(HaltLog(settings.deployments_url), redis).halt(operator_name(), reason)
    open_console().print(
        f"[red]Halted[/] (entry {entry.sequence}). Release with: atlas release --reason …",
        soft_wrap=True,
    )
