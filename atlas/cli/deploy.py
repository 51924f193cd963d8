"""`atlas deploy`: walks a model version from shadow to live."""

from __future__ import annotations

from datetime import timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from atlas.config import load_settings

if TYPE_CHECKING:
    from atlas.deployment import Intent, Observation, Terms

__all__ = ["deploy"]


class _Strategy(StrEnum):
    SHADOW = "shadow"
    BLUE_GREEN = "blue-green"
    CANARY = "canary"
    ROLLING = "rolling"


def deploy(
    model: Annotated[str, typer.Argument(help="Name of the model, or model/version.")],
    version: Annotated[
        int | None,
        typer.Option(help="Version that passed its gates; the newest such one without it."),
    ] = None,
    strategy: Annotated[
        _Strategy | None,
        typer.Option(help="How; DEFAULT_DEPLOYMENT_STRATEGY without it, else blue-green."),
    ] = None,
    min_rows: Annotated[
        int, typer.Option(min=1, help="Rows that it must predict, as a shadow and at each share.")
    ] = 100,
    min_trades: Annotated[
        int,
        typer.Option(min=0, help="Paper trades that must mature with each share of the traffic."),
    ] = 0,
    min_hours: Annotated[
        float, typer.Option(min=0, help="Hours with each share of the traffic, at least.")
    ] = 0.0,
    patience: Annotated[
        float, typer.Option(min=0, help="Seconds that each stage may take to show all this.")
    ] = 1_800.0,
    min_agreement: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="Least share of rows on the live version's side."),
    ] = None,
    max_latency_ms: Annotated[
        float, typer.Option(min=0, help="Latency of 99 % of its rows, at most.")
    ] = 100.0,
    why: Annotated[str, typer.Option(help="Reason, for the log.")] = "",
) -> None:
    """Walk a model version that passed its gates from shadow to live, and watch it there.

    blue-green switches all traffic at once; canary gives it 10 %, 25 %, 50 % of the units of
    traffic (a symbol in an hour) first; rolling moves worker by worker; shadow ends as a shadow.
    Any breach takes it back by itself. Stopped with Ctrl-C, a shadow stays a shadow, and one that
    trades is taken back.

    Exits with 0 when it is live (or, with shadow, has proved itself), with 1 when it was taken
    back.
    """
    from dataclasses import replace

    from atlas.cli.terminal import open_console
    from atlas.deployment import Outcome, operator_name
    from atlas.runtime.installation import Installation
    from atlas.runtime.rollout import desk_terms, newest_candidate, roll_out

    installation = Installation(load_settings())
    console = open_console()
    name, number = _named(model, version)
    if number is None:
        number = newest_candidate(installation.deployments.state(name))
    terms = replace(
        desk_terms(installation.settings),
        min_rows=min_rows,
        min_trades=min_trades,
        min_time=timedelta(hours=min_hours),
        patience=timedelta(seconds=patience),
        min_agreement=min_agreement,
        max_latency_p99=timedelta(milliseconds=max_latency_ms),
    )
    with console.status(f"{name}/{number}") as progress:

        def show(intent: Intent, seen: Observation) -> None:
            progress.update(f"{name}/{number} {_where(intent)}: {_said(seen, terms)}")

        conclusion = roll_out(
            installation,
            name,
            number,
            strategy=strategy.value if strategy else None,
            terms=terms,
            who=operator_name(),
            why=why,
            on_look=show,
        )
    colour, stands = {
        Outcome.PROMOTED: ("green", "is live"),
        Outcome.HELD: ("cyan", "is a shadow"),
        Outcome.ROLLED_BACK: ("red", "was taken back"),
    }[conclusion.outcome]
    console.print(f"[{colour}]{name}/{number} {stands}.[/] {conclusion.why}", soft_wrap=True)
    raise typer.Exit(1 if conclusion.outcome is Outcome.ROLLED_BACK else 0)


def _named(model: str, version: int | None) -> tuple[str, int | None]:
    name, slash, number = model.rpartition("/")
    if not slash:
        return model, version
    if not number.isdecimal() or version not in (None, int(number)):
        raise typer.BadParameter(f"expected MODEL or MODEL/VERSION, found {model!r}")
    return name, int(number)


def _where(intent: Intent) -> str:
    traffic = intent.traffic
    if traffic.workers:
        return f"{intent.stage} on {len(traffic.workers)} workers"
    return intent.stage if traffic.share == 1 else f"{intent.stage} {traffic.share:.0%}"


def _said(seen: Observation, terms: Terms) -> str:
    agreement = "" if seen.agreement is None else f", {seen.agreement:.0%} on the live side"
    share = "" if seen.share is None else f", {seen.share:.1%} of the traded signals"
    trades = f", {seen.trades} trades" if seen.matured else ""
    return (
        f"{seen.rows} of {terms.min_rows} rows, {seen.errors} errors, {seen.workers} workers, "
        f"p99 {seen.latency_p99_us / 1e3:.1f} ms{trades}{share}{agreement}"
    )
