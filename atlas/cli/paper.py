"""`atlas paper`: what each version has earned on paper, live, as canary, as shadow or observed."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from atlas.cli.terminal import open_console
from atlas.clock import from_micros
from atlas.config import load_settings

if TYPE_CHECKING:
    from atlas.matured import Matured

__all__ = ["paper"]

_Route = tuple[str, str, int]


def paper(
    model: Annotated[str | None, typer.Argument(help="Name of a model; all without it.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON array.")] = False,
) -> None:
    """Show what each version has earned on paper after costs, by route.

    A trade is a stretch of one side; what is held since the newest decision is not counted yet.
    Net and drawdown are of one unit of notional, split equally among the symbols held.

    Exits with 1 when nothing was earned or lost yet.
    """
    from atlas.matured import mature
    from atlas.paper import PaperLedger

    rows = PaperLedger(load_settings().deployments_url).profits(model)
    routes = {
        (str(name), str(stage), int(version)): mature(own)
        for (name, stage, version), own in rows.group_by(
            "model", "stage", "version", maintain_order=True
        )
    }
    console = open_console()
    if as_json:
        typer.echo(json.dumps([_fields(route, found) for route, found in routes.items()], indent=2))
    elif routes:
        console.print(_table(routes))
    else:
        console.print("Nothing was traded on paper yet.")
    raise typer.Exit(0 if routes else 1)


def _table(routes: dict[_Route, Matured]) -> Table:
    table = Table("model", "version", "route", box=None)
    for name in ("trades", "win rate", "net", "drawdown"):
        table.add_column(name, justify="right")
    table.add_column("since (UTC)")
    for (model, stage, version), found in routes.items():
        table.add_row(
            escape(model),
            str(version),
            stage,
            str(found.trades),
            "" if math.isnan(found.win_rate) else f"{found.win_rate:.1%}",
            f"{found.net:+.3%}",
            f"{found.max_drawdown:.2%}",
            _since(found)[:16].replace("T", " "),
        )
    return table


def _fields(route: _Route, found: Matured) -> dict[str, object]:
    model, stage, version = route
    figures = {
        name: None if isinstance(value, float) and math.isnan(value) else value
        for name, value in asdict(found).items()
        if name not in ("since_us", "expected", "shortfall_p")
    }
    since = _since(found)
    return {"model": model, "version": version, "route": stage, **figures, "since": since}


def _since(found: Matured) -> str:
    return "" if found.since_us is None else from_micros(found.since_us).isoformat()
