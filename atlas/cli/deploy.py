"""`atlas deploy`: walks a model version from shadow to live."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from atlas.config import load_settings

if TYPE_CHECKING:
    from atlas.deployment import Intent, Observation

__all__ = ["deploy"]


def deploy(
    model: Annotated[str, typer.Argument(help="Name of the model.")],
    version: Annotated[int, typer.Option(help="Version that passed its gates.")],
    min_rows: Annotated[
        int, typer.Option(min=1, help="Rows that it must predict as a shadow first.")
    ] = 100,
    patience: Annotated[
        float, typer.Option(min=0, help="Seconds that it may take to predict them.")
    ] = 1_800.0,
    min_agreement: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="Least share of rows on the live version's side."),
    ] = None,
    why: Annotated[str, typer.Option(help="Reason, for the log.")] = "",
) -> None:
    """Walk a model version that passed its gates from shadow to live, and watch it there.

    Any breach takes it back by itself. Stopped with Ctrl-C, a shadow stays a shadow.

    Exits with 0 when it is live, with 1 when it was taken back.
    """
    from atlas.bus import connect
    from atlas.cli.terminal import open_console
    from atlas.deployment import Desk, Driver, Outcome, operator_name, shadow_then_switch
    from atlas.registry import DeploymentLog

    settings = load_settings()
    console = open_console()
    with connect(settings.host, settings.redis_port) as redis:
        desk = Desk(DeploymentLog(settings.deployments_url), redis, who=operator_name())
        strategy = shadow_then_switch(
            version,
            min_rows=min_rows,
            min_agreement=min_agreement,
            patience=timedelta(seconds=patience),
        )
        with console.status(f"{model}/{version}") as progress:

            def show(intent: Intent, seen: Observation) -> None:
                progress.update(f"{model}/{version} {intent.stage}: {_said(seen, min_rows)}")

            conclusion = Driver(desk, on_look=show).deploy(model, version, strategy, why=why)
    promoted = conclusion.outcome is Outcome.PROMOTED
    colour, stands = ("green", "is live") if promoted else ("red", "was taken back")
    console.print(f"[{colour}]{model}/{version} {stands}.[/] {conclusion.why}", soft_wrap=True)
    raise typer.Exit(0 if promoted else 1)


def _said(seen: Observation, min_rows: int) -> str:
    agreement = "" if seen.agreement is None else f", {seen.agreement:.0%} on the live side"
    return (
        f"{seen.rows} of {min_rows} rows, {seen.errors} errors, {seen.workers} workers, "
        f"p99 {seen.latency_p99_us / 1e3:.1f} ms{agreement}"
    )
