"""`atlas gate`: judges a model version's evidence."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

import typer
from rich.table import Table

from atlas.cli.terminal import open_console

__all__ = ["gate"]


def gate(
    model: Annotated[str, typer.Argument(help="A model, such as direction_ohlcv_1m.")],
    version: Annotated[int, typer.Option(help="Which version.")],
    min_accuracy: Annotated[float | None, typer.Option(help="Instead of 0.54.")] = None,
    min_sharpe: Annotated[float | None, typer.Option(help="Annualised; instead of 1.0.")] = None,
) -> None:
    """Judge a version, keep the verdicts, and enter it in the deployment log.

    Other thresholds than the desk's only show what they would say.

    Exits with 0 if every gate passed, else with 1.
    """
    from atlas.deployment import operator_name
    from atlas.gates import GatePolicy, judge
    from atlas.runtime import workflow
    from atlas.runtime.installation import Installation
    from atlas.training import Dossier

    installation = Installation()
    desk = GatePolicy(accuracy=installation.settings.min_accuracy)
    policy = replace(
        desk,
        accuracy=desk.accuracy if min_accuracy is None else min_accuracy,
        sharpe=desk.sharpe if min_sharpe is None else min_sharpe,
    )
    if policy == desk:
        who = operator_name()
        report = workflow.judge_version(installation, model, version, policy=policy, who=who)
        workflow.register_verdict(installation, model, version, report, who=who)
    else:
        # A what-if is shown and kept nowhere: the desk's own verdict stands.
        report = judge(Dossier.of(installation.settings.home, model, version).evidence(), policy)
    head, *rows = report.table()
    table = Table(*head, box=None, header_style="bold")
    for row in rows:
        table.add_row(*row)
    console = open_console()
    console.print(table)
    note = "" if policy == desk else " (other thresholds than the desk's: nothing is recorded)"
    console.print(f"{model}/{version}: {report.outcome}{note}")
    if not report.passed:
        raise typer.Exit(1)
