"""`atlas features`: computes features over history."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

import typer

from atlas.cli.terminal import open_console

__all__ = ["features"]


def features(
    view: Annotated[str, typer.Argument(help="A feature view, such as ohlcv_1m.")] = "ohlcv_1m",
    until: Annotated[
        datetime | None, typer.Option(help="Last bar's close in UTC; now if not given.")
    ] = None,
    rebuild: Annotated[
        bool, typer.Option("--rebuild", help="Drop what is stored, after a feature was redefined.")
    ] = False,
) -> None:
    """Compute a view's rows over the stored bars; what is stored already is left alone."""
    from atlas.features import feature_set
    from atlas.materialise import compute_history
    from atlas.runtime.installation import Installation

    installation = Installation()
    moment = until.replace(tzinfo=UTC) if until else installation.clock.now()
    if rebuild:
        installation.clickhouse.command(f"DROP TABLE IF EXISTS `{feature_set(view).view}`")
    done = compute_history(installation.clickhouse, feature_set(view), until=moment)
    open_console().print(
        f"{view}: {done.computed:,} rows computed, {done.written:,} written, "
        f"{done.unchanged:,} there already, {done.quarantined:,} quarantined."
    )
