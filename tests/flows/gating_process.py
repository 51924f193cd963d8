"""Runs the gate flow over Prefect's own server on two filed versions; prints its artifacts.

The argument is the state folder, which is also in ATLAS_HOME. A process of its own, since Prefect
leaves connections open that only the end of a process closes.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

from filed_versions import MODEL, file_versions
from prefect.artifacts import Artifact
from prefect.testing.utilities import prefect_test_harness

from flows.gate import gate


def run(version: int) -> dict[str, Any]:
    report = gate(MODEL, version, "tester")
    key = f"gates-{MODEL.replace('_', '-')}-{version}"
    table: Any = Artifact.get(key)
    page: Any = Artifact.get(f"{key}-report")
    return {"outcome": report.outcome, "table": json.loads(table.data), "page": page.data}


if __name__ == "__main__":
    file_versions(Path(sys.argv[1]))
    with prefect_test_harness(server_startup_timeout=120):
        answers = [run(version) for version in (1, 2)]
    print("ANSWERS " + json.dumps(answers), flush=True)
    os._exit(0)
