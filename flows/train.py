"""From labelled history to a registered model version with its evidence."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import polars as pl
from prefect import flow, task

from atlas.errors import TooManyBadRows
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
from flows.accounts import account, account_of_stop, run_name, told
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
    return workflow.join_frame(
        Installation(), candidate, events, run=run_name(f"train {candidate.model}")
    )


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
    """Train a candidate on `[since, until]`; return its model's name and version.

    Raises
    ------
    TooManyBadRows
        If the share of bad rows in the training frame is above the setting; nothing is trained.
    """
    candidate = candidate_for(feature_set(view), search=SearchPlan(n_trials=trials, seed=seed))
    events = label(candidate, symbols, since, until)
    try:
        frame = join_frame(events, candidate)
    except TooManyBadRows as stopped:
        account("training-rows", "Rows of the frame", [{"view": view} | account_of_stop(stopped)])
        raise
    account("training-rows", "Rows of the frame", [{"view": view} | _counts(frame)])
    manifest = keep(fit(candidate, frame)).manifest
    return manifest["model"], manifest["version"]


def _counts(frame: TrainingFrame) -> dict[str, Any]:
    return {
        "read": frame.tally.rows,
        "written": frame.rows.height,
        "mostly null": frame.unusable - frame.tally.bad,
        "quarantined": frame.tally.bad,
        "why": told(frame.tally.reasons),
        "outcome": "done",
    }
