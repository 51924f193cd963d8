"""`atlas release`: permits live signals again, in a person's name."""

from __future__ import annotations

from typing import Annotated

import typer

from atlas.config import load_settings

__all__ = ["release"]


def release(
    reason: Annotated[str, typer.Option(help="Why, for the log.")],
) -> None:
    """Permit live signals again after a halt, or for the first time."""
    from rich.markup import escape

    from atlas.bus import connect
    from atlas.cli.terminal import open_console
    from atlas.deployment import operator_name
    from atlas.registry import HaltKind, HaltLog, Latch

    settings = load_settings()
    console = open_console()
    with connect(settings.host, settings.redis_port) as redis:
        latch = Latch(HaltLog(settings.deployments_url), redis)
        last = latch.last()
        if last is not None and last.kind is HaltKind.HALT:
            console.print(
                f"Halted since {last.at:%Y-%m-%d %H:%M:%S} UTC by {escape(last.who)}: "
                f"{escape(last.why)}",
                soft_wrap=True,
            )
        # What is released is what was shown: a halt that comes in between is not lifted.
        entry = latch.release(operator_name(), reason, expected=last.sequence if last else 0)
    console.print(f"[green]Released[/] (entry {entry.sequence}).", soft_wrap=True)
