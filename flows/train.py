"""From labelled history to a registered model version with its evidence."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from prefect import flow, task

from atlas.deployment import operator_name
from atlas.engines import Profile, Task
from atlas.errors import TooManyBadRows
from atlas.features import feature_set
from atlas.runtime import workflow
from atlas.runtime.installation import Installation
from atlas.training import (
    Candidate,
    Decisions,
    Dossier,
    Trained,
    TrainingFrame,
    candidate_for,
    plan_of,
)
from atlas.training.candidate import Sampler
from flows.accounts import account, account_of_stop, run_name, told
from flows.progress import progress
from flows.retry import STORE_TASK

__all__ = ["fit", "join_frame", "keep", "label", "train"]


@task(**STORE_TASK, timeout_seconds=900, tags=["train"])
def label(candidate: Candidate, symbols: list[str], since: datetime, until: datetime) -> Decisions:
    """Label every decision whose outcome is known by `until`."""
    return workflow.label_decisions(
        Installation(), candidate, symbols=symbols, since=since, until=until
    )


@task(**STORE_TASK, timeout_seconds=1800, tags=["train", "feast"])
def join_frame(decisions: Decisions, candidate: Candidate) -> TrainingFrame:
    """Join features as they were known at each decision."""
    return workflow.join_frame(
        Installation(), candidate, decisions, run=run_name(f"train {candidate.model}")
    )


# The settings' own time limit ends the processes; Prefect's could not interrupt them.
@task(tags=["train"])
def fit(candidate: Candidate, frame: TrainingFrame, decisions: Decisions, on_dask: bool) -> Trained:
    """Search, choose and fit."""
    done = 0
    with progress(f"trials-{candidate.features.name}", f"Trials {candidate.features.view}") as tell:

        def on_trial(_: object) -> None:
            nonlocal done
            done += 1
            tell(done / candidate.search.n_trials)

        evaluate = None
        if on_dask:
            from flows.dask import on_cluster

            evaluate = on_cluster
        return workflow.fit(
            Installation(),
            candidate,
            frame,
            bars=decisions.bars,
            evaluate=evaluate,
            on_trial=on_trial,
        )


@task(**STORE_TASK, timeout_seconds=900, tags=["train", "mlflow"])
def keep(trained: Trained) -> Dossier:
    """Record the run in MLflow, register the version, and open its file."""
    return workflow.keep_version(Installation(), trained, who=f"flow train, {operator_name()}")


@flow(name="train", timeout_seconds=24 * 3600)
def train(
    view: str,
    symbols: list[str],
    since: datetime,
    until: datetime,
    trials: int | None = None,
    seed: int = 0,
    engine: str = "xgboost",
    profile: Profile = "full",
    learns: Task = "direction",
    sampler: Sampler = "tpe",
    time_budget_minutes: float | None = None,
    on_dask: bool = False,
) -> tuple[str, int]:
    """Train a candidate on `[since, until]`; return its model's name and version.

    Parameters
    ----------
    trials : int or None
        None takes the profile's.
    engine : str
        A name of the catalogue, or `package.module:Class`.
    on_dask : bool
        Walk the trials on Dask, through Prefect's task runner, instead of on processes here.

    Raises
    ------
    TooManyBadRows
        If the share of bad rows in the training frame is above the setting; nothing is trained.
    """
    changes: dict[str, Any] = {} if trials is None else {"n_trials": trials}
    if time_budget_minutes is not None:
        changes["time_budget"] = timedelta(minutes=time_budget_minutes)
    search = plan_of(profile, seed=seed, sampler=sampler, **changes)
    candidate = candidate_for(
        feature_set(view), search=search, engine=engine, profile=profile, task=learns
    )
    decisions = label(candidate, symbols, since, until)
    try:
        frame = join_frame(decisions, candidate)
    except TooManyBadRows as stopped:
        account("training-rows", "Rows of the frame", [{"view": view} | account_of_stop(stopped)])
        raise
    account("training-rows", "Rows of the frame", [{"view": view} | _counts(frame)])
    manifest = keep(fit(candidate, frame, decisions, on_dask)).manifest
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
