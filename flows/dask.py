"""Trials on Dask, through Prefect's task runner: on this machine's cores, or on a cluster.

Needs the extra `dask` (prefect-dask). `ATLAS_DASK_ADDRESS` names a scheduler that runs already;
without it one is started here, on loopback, and ended with the search.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from prefect import flow, task
from prefect.cache_policies import NO_CACHE

from atlas.errors import InvalidSettings
from atlas.runtime.installation import Installation
from atlas.training import Evaluate, Proposal, Trial, Walker

__all__ = ["on_cluster"]


@task(tags=["train"], persist_result=False, cache_policy=NO_CACHE)
def walk(walker: Walker, proposal: Proposal) -> Trial:
    """Walk one trial where Dask puts it."""
    return walker.walk(proposal)


@contextmanager
def on_cluster(walker: Walker) -> Iterator[Evaluate]:
    """Give what walks trials on Dask while the block runs.

    Raises
    ------
    InvalidSettings
        If prefect-dask is not installed.
    """
    try:
        from prefect_dask import DaskTaskRunner
    except ModuleNotFoundError as error:
        raise InvalidSettings(
            "Expected prefect-dask to train on Dask; found none. Run: make setup EXTRAS=dask."
        ) from error
    settings = Installation().settings
    if settings.dask_address is not None:
        runner = DaskTaskRunner(address=settings.dask_address)
    else:
        cluster = {
            "n_workers": settings.training_processes,
            "threads_per_worker": 1,
            "host": "127.0.0.1",
            "dashboard_address": None,
        }
        runner = DaskTaskRunner(cluster_kwargs=cluster)

    @flow(name="trials", task_runner=runner)
    def trials(proposals: Sequence[Proposal]) -> list[Trial]:
        futures = [walk.submit(walker, proposal) for proposal in proposals]
        return [future.result() for future in futures]

    def evaluate(proposals: Sequence[Proposal]) -> list[Trial]:
        return trials(proposals)

    yield evaluate
