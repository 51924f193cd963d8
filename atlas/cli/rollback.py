"""`atlas rollback`: the canary back, or the version that was live before."""

from __future__ import annotations

from typing import Annotated

import typer

from atlas.config import load_settings

__all__ = ["rollback"]

_PATIENCE_S = 10.0


def rollback(
    model: Annotated[str, typer.Argument(help="Name of the model.")],
    why: Annotated[str, typer.Option(help="Reason, for the log.")] = "",
) -> None:
    """Take the model's canary back; without one, make the former live version live again.

    Waits until the workers serve it so, within seconds, and says how long they took.

    Exits with 1 when it is written, and a worker has not followed.
    """
    from atlas.cli.terminal import open_console
    from atlas.deployment import Desk, await_workers, operator_name
    from atlas.runtime.installation import Installation

    installation = Installation(load_settings())
    before = installation.deployments.state(model)
    desk = Desk(installation.deployments, installation.redis, who=operator_name())
    route = desk.rollback(model, why=why)
    followed = await_workers(installation.redis, route, patience_s=_PATIENCE_S)
    live = f"{model}/{route.live.version} is live" if route.live else f"No {model} is live"
    left = before.canary or before.live
    console = open_console()
    console.print(
        f"[green]{live}[/]{f', {left.version} no longer trades' if left else ''}.", soft_wrap=True
    )
    if not followed.workers and not followed.behind:
        console.print("No worker is alive.")
    elif followed.behind:
        console.print(
            f"[red]{', '.join(followed.behind)} did not follow in {_PATIENCE_S:.0f} s: stop it, "
            "or `atlas halt`.[/]",
            soft_wrap=True,
        )
        raise typer.Exit(1)
    else:
        console.print(f"{len(followed.workers)} workers followed in {followed.took_s:.2f} s.")
