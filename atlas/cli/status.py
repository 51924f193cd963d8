"""`atlas status`: how every component is, now, and whether trading is permitted."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from atlas.cli.terminal import open_console
from atlas.config import load_settings
from atlas.runtime import StackReport, State, report

__all__ = ["status"]

_COLOURS = {State.HEALTHY: "green", State.FAILED: "red", State.STOPPED: "dim"}


def status(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Show how every component is, now, and whether trading is permitted.

    Each component is asked; the state that the supervisor wrote adds pids, restarts and reasons.

    Exits with 0 when every component is healthy, with 1 otherwise.
    """
    found = report(load_settings())
    if as_json:
        typer.echo(json.dumps(found.as_dict(), default=datetime.isoformat, indent=2))
    else:
        _print(found)
    raise typer.Exit(0 if found.healthy else 1)


def _print(found: StackReport) -> None:
    console = open_console()
    runs = f"run by process {found.supervisor}" if found.supervisor else "not running"
    console.print(f"Stack over {escape(found.home)}: {runs}", soft_wrap=True)
    table = Table(
        "component", "state", "since", "pid", "port", "restarts", "last problem", box=None
    )
    for each in found.components:
        table.add_row(
            each.name,
            f"[{_COLOURS.get(each.state, 'yellow')}]{each.state}[/]",
            each.since.strftime("%m-%d %H:%M:%S") if found.supervisor else "",
            str(each.pid or ""),
            str(each.port or ""),
            str(each.restarts),
            escape(each.reason or ""),
        )
    console.print(table)
    trading = found.trading
    if trading.permitted is None:
        console.print(
            f"Trading: unknown, so halted. {escape(trading.reason or '')}", soft_wrap=True
        )
        return
    console.print("Trading: " + ("[green]permitted[/]" if trading.permitted else "[red]halted[/]"))
    speed = trading.replay_speed
    clock = "the wall's" if speed is None else f"replayed at {speed:g} market seconds a second"
    moment = trading.market_time.isoformat(timespec="seconds") if trading.market_time else "?"
    console.print(f"Clock:   {moment} ({clock})")
    for model, route in sorted(trading.models.items()):
        parts = [f"{stage} {version}" for stage, version in route.items() if version is not None]
        console.print(f"Model:   {escape(model)} ({', '.join(parts)})")
    for edit in trading.alias_edits:
        console.print(f"MLflow:  [yellow]{escape(edit)}[/]", soft_wrap=True)
