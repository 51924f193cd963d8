"""`atlas train`: trains a candidate and registers it with its evidence."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

import typer

from atlas.cli.terminal import open_console

__all__ = ["train"]


def train(
    view: Annotated[str, typer.Argument(help="A feature view, such as ohlcv_1m.")] = "ohlcv_1m",
    days: Annotated[float, typer.Option(help="How much history to train on.")] = 60.0,
    trials: Annotated[int, typer.Option(help="Trials of the search.")] = 24,
    seed: Annotated[int, typer.Option(help="Of the search.")] = 0,
) -> None:
    """Train on what is known now, by the project's clock; `atlas gate` judges the version."""
    from atlas.features import feature_set
    from atlas.runtime import workflow
    from atlas.runtime.installation import Installation
    from atlas.training import SearchPlan, candidate_for
    from atlas.training import train as train_candidate

    console = open_console()
    installation = Installation()
    candidate = candidate_for(feature_set(view), search=SearchPlan(n_trials=trials, seed=seed))
    now = installation.clock.now()
    stored = workflow.stored_bars(installation, candidate.features.interval, until=now)
    events = workflow.label_decisions(
        installation,
        candidate,
        symbols=stored.symbols,
        since=max(stored.first, now - timedelta(days=days)),
        until=now,
    )
    frame = workflow.join_frame(installation, candidate, events)
    console.print(f"{frame.rows.height:,} decisions of {', '.join(stored.symbols)}")
    with console.status("searching"):
        trained = train_candidate(candidate, frame)
    manifest = workflow.keep_version(installation, trained).manifest
    console.print(
        f"{manifest['model']}/{manifest['version']}: {manifest['trials']} trials, registered. "
        f"Judge it: atlas gate {manifest['model']} --version {manifest['version']}"
    )
