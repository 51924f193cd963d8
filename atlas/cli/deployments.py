"""`atlas deployments`: where every version stands, and how it came there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from atlas.cli.terminal import open_console
from atlas.config import load_settings

if TYPE_CHECKING:
    from atlas.registry import DeploymentLog

__all__ = ["deployments"]

_COLOURS = {"live": "green", "shadow": "cyan", "rejected": "red", "retired": "dim"}


def deployments(
    model: Annotated[str | None, typer.Argument(help="Name of a model; all without it.")] = None,
    history: Annotated[bool, typer.Option("--history", help="Show every move instead.")] = False,
) -> None:
    """Show where every version of every model stands, or every move that led there."""
    from atlas.registry import DeploymentLog

    log = DeploymentLog(load_settings().deployments_url)
    console = open_console()
    console.print(_moves(log, model) if history else _stages(log, model))


def _stages(log: DeploymentLog, model: str | None) -> Table:
    table = Table("model", "version", "stage", "gates", "generation", "blob", "report", box=None)
    for name in log.models() if model is None else (model,):
        state = log.state(name)
        for number, version in sorted(state.versions.items(), reverse=True):
            observed = ", observed" if number == state.observed else ""
            table.add_row(
                escape(name),
                str(number),
                _coloured(version.stage) + observed,
                "passed" if version.passed else "[red]rejected[/]",
                str(version.manifest.generation),
                version.manifest.blob[:12],
                escape(version.report),
            )
    return table


def _moves(log: DeploymentLog, model: str | None) -> Table:
    table = Table("when (UTC)", "model", "gen", "version", "action", "move", "who", "why", box=None)
    for entry in log.history(model):
        table.add_row(
            entry.at.strftime("%Y-%m-%d %H:%M:%S"),
            escape(entry.model),
            str(entry.generation),
            str(entry.version),
            entry.action,
            f"{entry.from_stage or '-'} → {_coloured(entry.to_stage)}",
            escape(entry.who),
            escape(entry.why),
        )
    return table


def _coloured(stage: str) -> str:
    return f"[{_COLOURS[stage]}]{stage}[/]" if stage in _COLOURS else str(stage)
