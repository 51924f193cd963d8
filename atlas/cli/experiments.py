"""`atlas experiments`: compares a challenger with the live version, with a known error."""

from __future__ import annotations

from datetime import timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from atlas.cli.terminal import open_console

if TYPE_CHECKING:
    from atlas.deployment.experiments import Experiment, ExperimentEntry

__all__ = ["experiments"]

_BPS = 1e4
_COLOURS = {"challenger": "green", "champion": "yellow", "breached": "red"}

experiments = typer.Typer(
    name="experiments",
    help="Compare a challenger with the live version; promote the winner.",
    no_args_is_help=True,
    add_completion=False,
)


class _Mode(StrEnum):
    PAIRED = "paired"
    SPLIT = "split"


@experiments.command()
def start(
    model: Annotated[str, typer.Argument(help="Name of the model.")],
    challenger: Annotated[int, typer.Option(help="Version that passed its gates.")],
    mode: Annotated[
        _Mode, typer.Option(help="paired: as the shadow, on the same hours; split: as the canary.")
    ] = _Mode.PAIRED,
    share: Annotated[
        float, typer.Option(min=0.01, max=0.99, help="Of the traffic, for a split's challenger.")
    ] = 0.5,
    effect: Annotated[
        float | None,
        typer.Option(
            help="Difference worth finding, in basis points of notional an hour; a tenth of the "
            "deviation without it."
        ),
    ] = None,
    min_hours: Annotated[
        int | None, typer.Option(min=24, help="No winner before; AB_TEST_MIN_DURATION_HOURS.")
    ] = None,
    max_drawdown: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="Loss from its peak that stops the challenger at once."),
    ] = None,
    power: Annotated[
        float, typer.Option(min=0.5, max=0.99, help="Chance of finding the effect.")
    ] = 0.8,
    level: Annotated[
        float | None,
        typer.Option(min=0.51, max=0.999, help="Confidence; AB_TEST_CONFIDENCE_LEVEL."),
    ] = None,
    why: Annotated[str, typer.Option(help="Reason, for the log.")] = "",
) -> None:
    """Begin an experiment, and say how long it will take.

    The size is planned from the effect and how much returns have varied; looking early is allowed
    at any time and costs no extra error.
    """
    from atlas.deployment import operator_name
    from atlas.deployment.experiments import Mode
    from atlas.runtime.experiments import start as begin
    from atlas.runtime.installation import Installation

    begun = begin(
        Installation(),
        model,
        challenger=challenger,
        mode=Mode(mode.value),
        share=share,
        effect=None if effect is None else effect / _BPS,
        min_hours=min_hours,
        max_drawdown=max_drawdown,
        power=power,
        level=level,
        who=operator_name(),
        why=why,
    )
    plan = begun.plan
    open_console().print(
        f"Experiment {begun.id}: {escape(model)}/{begun.challenger} against the live "
        f"{begun.champion}, {plan.mode}. It finds {plan.effect * _BPS:.2f} bps an hour with a "
        f"chance of {plan.power:.0%} in {plan.periods} hours ({_days(plan.periods)}), and names a "
        f"winner where there is none with one of {plan.error:.1%}. "
        f"Look at it with: atlas experiments evaluate {begun.id}",
        soft_wrap=True,
    )


@experiments.command()
def evaluate(
    number: Annotated[int, typer.Argument(metavar="ID", help="Number of the experiment.")],
) -> None:
    """Look at what both have earned; promote a winner, withdraw a loser, else go on.

    Exits with 0 when the challenger has won and is live, with 1 otherwise.
    """
    from atlas.deployment import operator_name
    from atlas.deployment.experiments import Finding
    from atlas.runtime.experiments import evaluate as look
    from atlas.runtime.installation import Installation

    installation = Installation()
    seen = look(installation, number, who=operator_name())
    _tell(seen)
    live = installation.deployments.state(seen.model).live
    won = seen.ended and seen.last.finding is Finding.CHALLENGER
    raise typer.Exit(0 if won and live and live.version == seen.challenger else 1)


@experiments.command()
def stop(
    number: Annotated[int, typer.Argument(metavar="ID", help="Number of the experiment.")],
    why: Annotated[str, typer.Option(help="Reason, for the log.")] = "",
) -> None:
    """End an experiment without a winner, and withdraw the challenger."""
    from atlas.deployment import operator_name
    from atlas.runtime.experiments import stop as end
    from atlas.runtime.installation import Installation

    _tell(end(Installation(), number, who=operator_name(), why=why))


@experiments.command("list")
def list_all(
    model: Annotated[str | None, typer.Argument(help="Name of a model; all without it.")] = None,
    history: Annotated[
        int | None, typer.Option(metavar="ID", help="Show every entry of this one instead.")
    ] = None,
) -> None:
    """List the experiments, newest first, or every look at one.

    Exits with 1 when there are none.
    """
    from atlas.config import load_settings
    from atlas.deployment.experiments import ExperimentLog

    log = ExperimentLog(load_settings().deployments_url)
    console = open_console()
    if history is not None:
        entries = log.history(history)
        console.print(_history(entries) if entries else f"There is no experiment {history}.")
        raise typer.Exit(0 if entries else 1)
    found = log.all(model)
    console.print(_overview(found) if found else "No experiments yet.")
    raise typer.Exit(0 if found else 1)


def _tell(seen: Experiment) -> None:
    finding = seen.last.finding
    state = f"ended, {finding}" if seen.ended else str(finding)
    open_console().print(
        f"Experiment {seen.id}: [{_COLOURS.get(finding, 'cyan')}]{state}[/]. "
        f"{escape(seen.last.why)}",
        soft_wrap=True,
    )


def _overview(found: tuple[Experiment, ...]) -> Table:
    table = Table("id", "model", "champion", "challenger", "mode", box=None)
    for name in ("hours", "bps/h", "p"):
        table.add_column(name, justify="right")
    for name in ("state", "began (UTC)"):
        table.add_column(name, no_wrap=True)
    table.add_column("who")
    for each in reversed(found):
        figures = each.last.details.get("figures", {})
        table.add_row(
            str(each.id),
            escape(each.model),
            str(each.champion),
            str(each.challenger),
            each.plan.mode,
            f"{figures.get('periods', 0)} of {each.plan.periods}",
            _bps(figures.get("difference")),
            _p(figures),
            f"{'ended, ' if each.ended else ''}{each.last.finding}",
            each.began.at.strftime("%Y-%m-%d %H:%M"),
            escape(each.began.who),
        )
    return table


def _history(entries: tuple[ExperimentEntry, ...]) -> Table:
    table = Table("when (UTC)", "step", "finding", "hours", "bps/h", "p", box=None)
    for name in ("who", "why"):
        table.add_column(name)
    for entry in entries:
        figures = entry.details.get("figures", {})
        table.add_row(
            entry.at.strftime("%Y-%m-%d %H:%M:%S"),
            entry.step,
            entry.finding,
            str(figures.get("periods", "")),
            _bps(figures.get("difference")),
            _p(figures),
            escape(entry.who),
            escape(entry.why),
        )
    return table


def _bps(difference: float | None) -> str:
    return "" if difference is None else f"{difference * _BPS:+.2f}"


def _p(figures: dict[str, float | None]) -> str:
    p = figures.get("final_p")
    early = figures.get("early_p")
    return f"{p:.2g}" if p is not None else "" if early is None else f"{early:.2g}"


def _days(hours: int) -> str:
    return f"{timedelta(hours=hours) / timedelta(days=1):.0f} days"
