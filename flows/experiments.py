"""Looks at the experiments that run, and carries out what they have decided."""

from __future__ import annotations

from prefect import flow, task

from atlas.deployment.experiments import Experiment, ExperimentLog
from atlas.runtime import experiments
from atlas.runtime.installation import Installation
from flows.retry import STORE_TASK

__all__ = ["evaluate_experiments", "look"]


@task(**STORE_TASK, tags=["experiments"])
def look(number: int) -> Experiment:
    """Judge one experiment on the hours that have matured; promote or withdraw at its end."""
    return experiments.evaluate(Installation(), number, who="system:experiments")


@flow(name="experiments", timeout_seconds=3600)
def evaluate_experiments() -> list[str]:
    """Look at every experiment that runs; looking often costs no more false alarms.

    Returns a line for each of them.
    """
    log = ExperimentLog(Installation().settings.deployments_url)
    return [_told(look(one.id)) for one in log.all() if not one.ended]


def _told(seen: Experiment) -> str:
    return f"{seen.id}: {seen.model}/{seen.challenger} {seen.last.step}, {seen.last.finding}"
