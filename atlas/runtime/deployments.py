"""Deploys `prefect.yaml`: the stack's component `prefect-deployments`.

Run as `python -m atlas.runtime.deployments` in the folder of `prefect.yaml`. It makes the work pool
and then does what `prefect deploy --all` does. What was deployed is remembered in Prefect itself:
as long as neither `prefect.yaml` nor the code has changed, nothing is done, since that takes 8 s of
importing flows, and Prefect may double the runs of a schedule that is deployed a second time.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import runpy
import sys
from pathlib import Path
from typing import Any

from atlas.config import Settings, load_settings
from atlas.errors import AtlasError, InvalidInput, StoreUnavailable
from atlas.runtime.stack import POOL

__all__ = ["deploy_all", "fingerprint"]

_VARIABLE = "atlas_deployed"
_CODE = ("atlas", "flows")


def deploy_all(folder: Path, settings: Settings) -> None:
    """Deploy everything in the folder's `prefect.yaml`, unless just that is deployed.

    Raises
    ------
    InvalidInput
        If there is no `prefect.yaml` in the folder.
    StoreUnavailable
        If Prefect's server does not answer.
    """
    if not (folder / "prefect.yaml").exists():
        raise InvalidInput(
            f"Expected prefect.yaml in {folder.resolve()}; there is none. Start the stack in the "
            "folder of Atlas's sources, or leave Prefect out with --only."
        )
    wanted = fingerprint(folder)
    if _remembered(settings) == {"fingerprint": wanted, "deployments": _count(settings)}:
        print("prefect.yaml and the code are those that are deployed.")
        return
    _make_pool()
    _run_prefect("--no-prompt", "deploy", "--all")
    _remember(settings, {"fingerprint": wanted, "deployments": _count(settings)})


def fingerprint(folder: Path) -> str:
    """Return the hash of `prefect.yaml`, of the flows, and of the code that they call."""
    digest = hashlib.sha256()
    sources = (path for name in _CODE for path in (folder / name).rglob("*.py"))
    for path in sorted([folder / "prefect.yaml", *sources]):
        content = path.read_bytes()
        digest.update(f"{path.relative_to(folder)} {len(content)}\n".encode())
        digest.update(content)
    return digest.hexdigest()


def _make_pool() -> None:
    """Create the work pool in which flows run as processes of this machine."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.actions import WorkPoolCreate
    from prefect.exceptions import ObjectAlreadyExists
    from prefect.workers.process import ProcessWorker

    template = ProcessWorker.get_default_base_job_template()
    with get_client(sync_client=True) as client:
        try:
            client.create_work_pool(
                WorkPoolCreate(name=POOL, type=ProcessWorker.type, base_job_template=template)
            )
        except ObjectAlreadyExists:
            return


def _run_prefect(*arguments: str) -> None:
    """Run Prefect's command line in this process, as it takes two seconds to import."""
    sys.argv = ["prefect", *arguments]
    try:
        runpy.run_module("prefect", run_name="__main__")
    except SystemExit as ended:
        if ended.code not in (None, 0):
            raise


def _remembered(settings: Settings) -> Any:
    status, variable = _ask(settings, "GET", f"variables/name/{_VARIABLE}")
    return variable["value"] if status == 200 else None


def _remember(settings: Settings, value: Any) -> None:
    status, _ = _ask(settings, "PATCH", f"variables/name/{_VARIABLE}", {"value": value})
    if status == 404:
        _ask(settings, "POST", "variables/", {"name": _VARIABLE, "value": value})


def _count(settings: Settings) -> int:
    _, count = _ask(settings, "POST", "deployments/count", {})
    return int(count)


def _ask(settings: Settings, method: str, path: str, body: Any = None) -> tuple[int, Any]:
    """Ask Prefect's API; its client would take longer to import than the answer takes."""
    connection = http.client.HTTPConnection(settings.host, settings.prefect_port, timeout=10)
    try:
        text = None if body is None else json.dumps(body)
        connection.request(method, f"/api/{path}", text, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        content = answer.read()
        return answer.status, json.loads(content) if content else None
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise StoreUnavailable(
            f"Expected Prefect at {settings.host}:{settings.prefect_port}; found: {error!r}. "
            "See the log of the component prefect."
        ) from error
    finally:
        connection.close()


if __name__ == "__main__":
    try:
        deploy_all(Path(), load_settings())
    except AtlasError as error:
        sys.exit(f"{type(error).__name__}: {error}")
