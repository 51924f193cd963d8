"""`atlas gate`: judges a model version's evidence."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from atlas.cli.terminal import open_console

if TYPE_CHECKING:
    from atlas.gates import GatePolicy

__all__ = ["gate"]


def gate(
    model: Annotated[
        str, typer.Argument(help="A model, such as direction_ohlcv_1m, or direction_ohlcv_1m/3.")
    ],
    version: Annotated[
        int | None, typer.Option(help="Which version; the newest if none is given.")
    ] = None,
    min_accuracy: Annotated[
        float | None, typer.Option(help="Instead of the desk's, which is 0.54 unless set.")
    ] = None,
    min_sharpe: Annotated[
        float | None, typer.Option(help="Annualised; instead of the desk's, which is 1.0.")
    ] = None,
) -> None:
    """Judge a version, keep the verdicts, and enter it in the deployment log.

    Other thresholds than the desk's, looser or stricter, only show what they would say: nothing is
    recorded, and the exit code is theirs.

    Exits with 0 if every gate passed, else with 1.
    """
    from atlas.runtime.filed import find_version
    from atlas.runtime.installation import Installation

    installation = Installation()
    model, number = find_version(installation.settings.home, model, version)
    # Only now what takes seconds to import: a misspelt name is answered at once.
    from atlas.deployment import operator_name
    from atlas.gates import desk_policy, judge
    from atlas.runtime import workflow
    from atlas.training import Dossier

    desk = desk_policy(installation.settings)
    policy = _asked(desk, min_accuracy, min_sharpe)
    recorded = policy == desk
    if recorded:
        who = operator_name()
        report = workflow.judge_version(installation, model, number, policy=policy, who=who)
        workflow.register_verdict(installation, model, number, report, who=who)
    else:
        report = judge(Dossier.of(installation.settings.home, model, number).evidence(), policy)
    console = open_console()
    for rows in (report.table(), report.context.table()):
        head, *body = rows
        shown = Table(*head, box=None, header_style="bold")
        for row in body:
            shown.add_row(*row)
        console.print(shown, end="\n\n")
    console.print(f"{model}/{number}: {report.outcome}")
    if recorded:
        page = workflow.gate_page(installation, model, number)
        console.print(f"Report: {page}", soft_wrap=True)
    else:
        console.print(
            "Other thresholds than the desk's: nothing is recorded. "
            f"`atlas gate {model}/{number}` records the desk's own verdict.",
            soft_wrap=True,
        )
    if not report.passed:
        raise typer.Exit(1)


def _asked(desk: GatePolicy, accuracy: float | None, sharpe: float | None) -> GatePolicy:
    policy = replace(
        desk,
        accuracy=desk.accuracy if accuracy is None else accuracy,
        sharpe=desk.sharpe if sharpe is None else sharpe,
    )
    return desk if policy == desk else policy.departing("asked")
