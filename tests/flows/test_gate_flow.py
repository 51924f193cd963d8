"""The gate flow leaves every verdict, and everything beside them, where Prefect shows them."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]


@pytest.mark.slow
@pytest.mark.timeout(700)
def test_the_gate_flow_shows_verdicts_and_report_of_each_version(tmp_path):
    home = tmp_path / "home"
    done = subprocess.run(
        [sys.executable, str(TESTS / "flows" / "gating_process.py"), str(home)],
        env=os.environ
        | {"ATLAS_HOME": str(home), "PYTHONPATH": os.pathsep.join([str(TESTS), os.getcwd()])},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2_000:]
    answer = next(line for line in done.stdout.splitlines() if line.startswith("ANSWERS "))
    passed, failed = json.loads(answer.removeprefix("ANSWERS "))
    assert (passed["outcome"], failed["outcome"]) == ("PASS", "FAIL")
    assert [row["gate"] for row in passed["table"]][:2] == ["win_rate", "walk_forward"]
    assert {row["outcome"] for row in passed["table"]} == {"PASS"}
    assert "| deepest drawdown of the record |" in failed["page"]
    assert "judged by | tester" in failed["page"]
