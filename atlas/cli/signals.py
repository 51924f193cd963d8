"""`atlas signals`: what the models say, live, as shadows or under observation."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from atlas.cli.terminal import open_console
from atlas.clock import from_micros
from atlas.config import load_settings
from atlas.serving import Stage

if TYPE_CHECKING:
    from atlas.serving import Signal

__all__ = ["signals"]

_SIDES = {1: "[green]up[/]", -1: "[red]down[/]", 0: "[dim]none[/]"}
_WAIT_MS = 1_000


def signals(
    stage: Annotated[
        str,
        typer.Option(
            help="Whose: live or canary (either shows both, as they share the traffic), shadow, or "
            "rejected ones under observation."
        ),
    ] = "live",
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on as they come.")] = False,
    count: Annotated[int, typer.Option("-n", min=0, help="Show so many of the newest.")] = 20,
) -> None:
    """Show the newest signals: when, of what, by which version, and what it says.

    Exits with 1 when there are none.
    """
    from atlas.bus import SIGNAL_STAGES, connect, latest_signals, read_signals

    if stage not in SIGNAL_STAGES:
        raise typer.BadParameter(f"{stage!r} is none of {', '.join(SIGNAL_STAGES)}")
    whose = Stage(stage)
    settings = load_settings()
    console = open_console()
    with connect(settings.host, settings.redis_port) as redis:
        found = latest_signals(redis, whose, max(count, 1))
        shown = found[-count:] if count else []
        if shown or follow:
            console.print(_table((signal for _, signal in shown), header=True))
        if not follow:
            if not found:
                console.print(f"No {stage} signals yet.")
            raise typer.Exit(0 if found else 1)
        after = found[-1][0] if found else "0"
        while True:
            batch = read_signals(redis, whose, after=after, wait_ms=_WAIT_MS)
            if batch:
                after = batch[-1][0]
                console.print(_table((signal for _, signal in batch), header=False))


def _table(rows: Iterable[Signal], *, header: bool) -> Table:
    # Fixed widths keep the columns of one batch under those of the former.
    table = Table(box=None, show_header=header)
    for name, width in {"time (UTC)": 19, "symbol": 14, "model/version": 30}.items():
        table.add_column(name, min_width=width, no_wrap=True)
    table.add_column("score", min_width=6, justify="right")
    table.add_column("side", min_width=4)
    table.add_column("decides", min_width=7)
    for signal in rows:
        table.add_row(
            f"{from_micros(signal.event_us):%Y-%m-%d %H:%M:%S}",
            escape(signal.symbol),
            escape(f"{signal.model}/{signal.version}"),
            f"{signal.score:.4f}",
            _SIDES[signal.side],
            "yes" if signal.decides else "",
        )
    return table
