"""From labelled history to a registered model version with its evidence."""

from __future__ import annotations

from datetime import datetime

import polars as pl
from prefect import flow, task

from atlas.features import feature_set
from atlas.runtime import workflow
from atlas.runtime.installation import Installation
from atlas.training import (
    Candidate,
    Dossier,
    SearchPlan,
    Trained,
    TrainingFrame,
    candidate_for,
)
from atlas.training import train as train_candidate
from flows.progress import progress
from flows.retry import STORE_TASK

__all__ = ["fit", "join_frame", "keep", "label", "train"]


@task(**STORE_TASK, timeout_seconds=900, tags=["train"])
def label(
    candidate: Candidate, symbols: list[str], since: datetime, until: datetime
) -> pl.DataFrame:
    """Label every decision whose outcome is known by `until`."""
    return workflow.label_decisions(
        Installation(), candidate, symbols=symbols, since=since, until=until
    )


@task(**STORE_TASK, timeout_seconds=1800, tags=["train", "feast"])
def join_frame(events: pl.DataFrame, candidate: Candidate) -> TrainingFrame:
    """Join features as they were known at each decision."""
    return workflow.join_frame(Installation(), candidate, events)


@task(timeout_seconds=4 * 3600, tags=["train"])
def fit(candidate: Candidate, frame: TrainingFrame) -> Trained:
    """Search, choose and fit."""
    done = 0
    with progress(f"trials-{candidate.features.name}", f"Trials {candidate.features.view}") as tell:

        def on_trial(_: object) -> None:
            nonlocal done
            done += 1
            tell(done / candidate.search.n_trials)

        return train_candidate(candidate, frame, on_trial=on_trial)


@task(**STORE_TASK, timeout_seconds=900, tags=["train", "mlflow"])
def keep(trained: Trained) -> Dossier:
    """Record the run in MLflow, register the version, and open its file."""
    return workflow.keep_version(Installation(), trained)


@flow(name="train", timeout_seconds=6 * 3600)
def train(
    view: str,
    symbols: list[str],
    since: datetime,
    until: datetime,
    trials: int = 24,
    seed: int = 0,
) -> tuple[str, int]:
    """Train a candidate on `[since, until]`; return its model's name and version."""
    candidate = candidate_for(feature_set(view), search=SearchPlan(n_trials=trials, seed=seed))
    events = label(candidate, symbols, since, until)
    frame = join_frame(events, candidate)
    manifest = keep(fit(candidate, frame)).manifest
    return manifest["model"], manifest["version"]
