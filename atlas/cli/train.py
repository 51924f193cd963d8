"""`atlas train`: trains a candidate and registers it with its evidence."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any

import typer

from atlas.cli.terminal import open_console

__all__ = ["train"]


def train(
    view: Annotated[str, typer.Argument(help="A feature view, such as ohlcv_1m.")] = "ohlcv_1m",
    engine: Annotated[
        str,
        typer.Option(
            help="xgboost, lstm, transformer, jump, ensemble, or your own package.module:Class."
        ),
    ] = "xgboost",
    profile: Annotated[
        str, typer.Option(help="full, or verify: small, quick, and never deployed.")
    ] = "full",
    learns: Annotated[str, typer.Option(help="direction, or return for a regressor.")] = (
        "direction"
    ),
    days: Annotated[
        float, typer.Option(help="How much history to train on, up to the newest bar.")
    ] = 60.0,
    trials: Annotated[
        int | None, typer.Option(help="Trials of the search; else as the profile says.")
    ] = None,
    sampler: Annotated[
        str, typer.Option(help="tpe, or nsga2: a genetic algorithm for Sharpe and drawdown.")
    ] = "tpe",
    selection: Annotated[
        str, typer.Option(help="Choose trials by walk_forward folds, or combinatorial ones.")
    ] = "walk_forward",
    minutes: Annotated[
        float | None, typer.Option(help="No batch of trials begins after so long.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the search and of the engine.")] = 0,
) -> None:
    """Train on what is known now, by the project's clock; `atlas gate` judges the version.

    A training that was killed goes on from the trials that it had finished.
    """
    from atlas.deployment import operator_name
    from atlas.features import feature_set
    from atlas.runtime import workflow
    from atlas.runtime.installation import Installation
    from atlas.training import candidate_for, plan_of

    console = open_console()
    installation = Installation()
    changes: dict[str, Any] = {} if trials is None else {"n_trials": trials}
    if minutes is not None:
        changes["time_budget"] = timedelta(minutes=minutes)
    kept_profile: Any = one_of(profile, "--profile", ("full", "verify"))
    task: Any = one_of(learns, "--learns", ("direction", "return"))
    search = plan_of(kept_profile, seed=seed, sampler=sampler, selection=selection, **changes)
    candidate = candidate_for(
        feature_set(view), search=search, engine=engine, profile=kept_profile, task=task
    )
    now = installation.clock.now()
    stored = workflow.stored_bars(installation, candidate.features.interval, until=now)
    decisions = workflow.label_decisions(
        installation,
        candidate,
        symbols=stored.symbols,
        since=max(stored.first, stored.last - timedelta(days=days)),
        until=now,
    )
    frame = workflow.join_frame(installation, candidate, decisions)
    console.print(f"{frame.rows.height:,} decisions of {', '.join(stored.symbols)}")
    done = 0
    with console.status("searching") as status:

        def on_trial(_: object) -> None:
            nonlocal done
            done += 1
            status.update(f"searching: {done} of {search.n_trials} trials")

        trained = workflow.fit(
            installation, candidate, frame, bars=decisions.bars, on_trial=on_trial
        )
    with console.status("recording"):
        manifest = workflow.keep_version(installation, trained, who=operator_name()).manifest
    pruned = sum(trial.pruned for trial in trained.trials)
    failed = sum(bool(trial.failure) for trial in trained.trials)
    console.print(
        f"{manifest['model']}/{manifest['version']}: {engine}, {manifest['trials']} trials "
        f"({pruned} pruned, {failed} failed), {trained.cost.cpu_s:.0f} s of processor, registered. "
        f"Judge it: atlas gate {manifest['model']} --version {manifest['version']}"
    )
    if profile != "full":
        console.print(f"Of the profile {profile}: it shows that all works, and is never deployed.")


def one_of(value: str, option: str, choices: tuple[str, ...]) -> str:
    """Return the value; refuse what is not one of the choices."""
    if value not in choices:
        raise typer.BadParameter(
            f"expected {' or '.join(choices)}; found {value}.", param_hint=option
        )
    return value
