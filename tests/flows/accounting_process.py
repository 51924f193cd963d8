"""Runs flows over Prefect's own server, and prints what each left: its error and its table.

The argument is a JSON list of `[database, flow, argument]`. A process of its own, since Prefect
leaves connections open that only the end of a process closes.
"""

import json
import os
import sys
from datetime import UTC, datetime
from typing import Any

from prefect.artifacts import Artifact
from prefect.testing.utilities import prefect_test_harness

from atlas.errors import AtlasError
from flows.features import compute_features
from flows.ingest import ingest

NOW = datetime(2024, 1, 2, tzinfo=UTC)
FLOWS: dict[str, Any] = {
    "features": (lambda views: compute_features(views, NOW), "features-rows"),
    "ingest": (ingest, "ingest-rows"),
}


def run(database: str, flow: str, argument: Any) -> dict[str, Any]:
    os.environ["ATLAS_CLICKHOUSE_DATABASE"] = database
    call, key = FLOWS[flow]
    error = None
    try:
        call(argument)
    except AtlasError as raised:
        error = f"{type(raised).__name__}: {raised}"
    artifact: Any = Artifact.get(key)
    return {"error": error, "table": json.loads(artifact.data)}


if __name__ == "__main__":
    with prefect_test_harness(server_startup_timeout=120):
        answers = [run(*each) for each in json.loads(sys.argv[1])]
    print("ANSWERS " + json.dumps(answers), flush=True)
    os._exit(0)
