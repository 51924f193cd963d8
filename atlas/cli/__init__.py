"""The command line: one module per noun, loaded when its command is called."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from atlas.errors import AtlasError

__all__ = ["COMMANDS", "app", "main"]

COMMANDS = {
    "blobs": ("atlas.cli.blobs", "blobs", "Look after the stored models' bytes."),
    "demo": ("atlas.cli.demo", "demo", "Show the whole way from raw candles to a live signal."),
    "deploy": ("atlas.cli.deploy", "deploy", "Move a model version towards live."),
    "deployments": ("atlas.cli.deployments", "deployments", "List what is deployed, and how so."),
    "experiments": (
        "atlas.cli.experiments",
        "experiments",
        "Compare a challenger with the live version.",
    ),
    "features": ("atlas.cli.features", "features", "Compute features; show gaps and bad rows."),
    "gate": ("atlas.cli.gate", "gate", "Judge a model's evidence; show the report."),
    "halt": ("atlas.cli.halt", "halt", "Stop all live signals, at once."),
    "ingest": ("atlas.cli.ingest", "ingest", "Load candle files into ClickHouse."),
    "materialise": ("atlas.cli.materialise", "materialise", "Bring features online."),
    "paper": ("atlas.cli.paper", "paper", "Show what each version has earned on paper."),
    "release": ("atlas.cli.release", "release", "Permit live signals again after a halt."),
    "rollback": ("atlas.cli.rollback", "rollback", "Go back to the version that was live before."),
    "signals": ("atlas.cli.signals", "signals", "Show the newest live signals."),
    "status": ("atlas.cli.status", "status", "Show how every component is, now."),
    "train": ("atlas.cli.train", "train", "Train a model on purged folds, with evidence."),
    "up": ("atlas.cli.up", "up", "Start everything on this machine, and stay until stopped."),
    "worker": ("atlas.cli.worker", "worker", "Serve live signals from features in Redis."),
}
"""Each command's module, its function, and its line in the help."""

EXIT_CODES = (
    "Exit codes: 0 done; 1 done, and the answer is no (something is unhealthy, rejected or "
    "unreadable); 2 not done, for the reason given in one sentence; 130 interrupted."
)


class _Unloaded(TyperCommand):
    """A command known by its line of help; whatever runs it loads its module."""

    def __init__(self, name: str) -> None:
        module, function, help_line = COMMANDS[name]
        super().__init__(name, help=help_line)
        self._where = (module, function)

    def make_context(self, info_name: str | None, args: list[str], *rest: Any, **extra: Any) -> Any:
        module, function = self._where
        found = getattr(import_module(module), function)
        if isinstance(found, typer.Typer):  # a noun with commands of its own
            single = found
        else:
            single = typer.Typer(add_completion=False)
            single.command(self.name)(found)
        command = typer.main.get_command(single)
        return command.make_context(info_name, args, *rest, **extra)


class _Commands(TyperGroup):
    """The commands of the table."""

    def list_commands(self, ctx: Any) -> list[str]:
        return sorted(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        return _Unloaded(cmd_name) if cmd_name in COMMANDS else None


app = typer.Typer(
    name="atlas",
    cls=_Commands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


@app.callback(epilog=EXIT_CODES)
def _atlas() -> None:
    """Atlas: the machine-learning side of a trading desk."""
    from atlas.telemetry import configure_logging

    configure_logging(level="WARNING", json=False)


def main() -> None:
    """Run the command line; every error of Atlas becomes one sentence and exit code 2."""
    try:
        app()
    except AtlasError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)
