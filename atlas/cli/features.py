"""`atlas features`: computes features, shows how complete they are, and what is in quarantine.

`atlas features` and `atlas features VIEW` compute, as `atlas features compute VIEW` does.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from atlas.cli.feature_quarantine import quarantine
from atlas.cli.feature_status import status
from atlas.cli.terminal import open_console

__all__ = ["features"]

_DEFAULT = "compute"


class _ComputeUnlessNamed(TyperGroup):
    """A group whose command is `compute` where none is named."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        named = bool(args) and (args[0] in self.commands or args[0] in ctx.help_option_names)
        return super().parse_args(ctx, args if named else [_DEFAULT, *args])


features = typer.Typer(
    name="features",
    cls=_ComputeUnlessNamed,
    help="Compute features (the default), show how complete they are, and what is in quarantine.",
    add_completion=False,
)


@features.command()
def compute(
    view: Annotated[str, typer.Argument(help="A feature view, such as ohlcv_1m.")] = "ohlcv_1m",
    until: Annotated[
        datetime | None, typer.Option(help="Last bar's close in UTC; now if not given.")
    ] = None,
    rebuild: Annotated[
        bool, typer.Option("--rebuild", help="Drop what is stored, after a feature was redefined.")
    ] = False,
) -> None:
    """Compute a view's rows over the stored bars; what is stored already is left alone.

    Exits with 2, and writes no bad row, if more rows break the schema than ATLAS_MAX_BAD_SHARE.
    """
    from atlas.features import stored_view
    from atlas.materialise import compute_view
    from atlas.runtime.installation import Installation

    chosen = stored_view(view)
    installation = Installation()
    moment = until.replace(tzinfo=UTC) if until else installation.clock.now()
    if rebuild:
        installation.clickhouse.command(f"DROP TABLE IF EXISTS `{chosen.view}`")
    done = compute_view(
        installation.clickhouse,
        chosen,
        blobs=installation.blobs,
        until=moment,
        run="atlas features",
        limit=installation.share_limit,
    )
    open_console().print(
        f"{view}: {done.computed:,} rows computed, {done.written:,} written, "
        f"{done.unchanged:,} there already, {done.quarantined:,} quarantined."
    )


features.command()(quarantine)
features.command()(status)
