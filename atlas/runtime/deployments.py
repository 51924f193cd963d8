"""Deploys `prefect.yaml`: the stack's component `prefect-deployments`.

Run as `python -m atlas.runtime.deployments` in the folder of `prefect.yaml`. It makes the work pool
and then does what `prefect deploy --all` does, in one process, as Prefect takes two seconds to
import.
"""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

from atlas.errors import AtlasError, InvalidInput
from atlas.runtime.stack import POOL

__all__ = ["deploy_all", "make_pool"]


def make_pool(name: str) -> None:
    """Create the work pool in which flows run as processes of this machine, if it is not there."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.actions import WorkPoolCreate
    from prefect.exceptions import ObjectAlreadyExists
    from prefect.workers.process import ProcessWorker

    template = ProcessWorker.get_default_base_job_template()
    with get_client(sync_client=True) as client:
        try:
            client.create_work_pool(
                WorkPoolCreate(name=name, type=ProcessWorker.type, base_job_template=template)
            )
        except ObjectAlreadyExists:
            return


def deploy_all(folder: Path) -> None:
    """Deploy everything in the folder's `prefect.yaml`; ends this process.

    Raises
    ------
    InvalidInput
        If there is no `prefect.yaml` in the folder.
    """
    if not (folder / "prefect.yaml").exists():
        raise InvalidInput(
            f"Expected prefect.yaml in {folder.resolve()}; there is none. Start the stack in the "
            "folder of Atlas's sources, or leave Prefect out with --only."
        )
    make_pool(POOL)
    sys.argv = ["prefect", "--no-prompt", "deploy", "--all"]
    runpy.run_module("prefect", run_name="__main__")


if __name__ == "__main__":
    try:
        deploy_all(Path())
    except AtlasError as error:
        sys.exit(f"{type(error).__name__}: {error}")
