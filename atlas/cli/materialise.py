"""`atlas materialise`: brings features online through Feast."""

from __future__ import annotations

import contextlib
import io
from datetime import UTC, datetime
from typing import Annotated

import typer

from atlas.cli.terminal import open_console

__all__ = ["materialise"]


def materialise(
    view: Annotated[str, typer.Argument(help="A feature view, such as ohlcv_1m.")] = "ohlcv_1m",
    until: Annotated[
        datetime | None, typer.Option(help="Newest row in UTC; now if not given.")
    ] = None,
) -> None:
    """Bring each symbol's newest row online; older rows never replace newer ones."""
    from atlas.features import stored_view
    from atlas.runtime import workflow
    from atlas.runtime.installation import Installation

    installation = Installation()
    moment = until.replace(tzinfo=UTC) if until else installation.clock.now()
    stored_view(view)
    with contextlib.redirect_stdout(io.StringIO()):
        brought = workflow.bring_online(installation, view, until=moment)
    open_console().print(
        f"{view}: online as of {moment:%Y-%m-%d %H:%M:%S} UTC; {brought.landed:,} rows landed, "
        f"{brought.unchanged:,} unchanged, {brought.quarantined:,} in quarantine."
    )
