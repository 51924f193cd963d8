"""What is deployed is told apart by its content."""

from __future__ import annotations

from pathlib import Path

import pytest

from atlas.runtime.deployments import fingerprint


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "flows").mkdir()
    (tmp_path / "atlas" / "training").mkdir(parents=True)
    for name in ("prefect.yaml", "flows/train.py", "atlas/training/fit.py"):
        (tmp_path / name).write_text("first")
    return tmp_path


@pytest.mark.parametrize("name", ["prefect.yaml", "flows/train.py", "atlas/training/fit.py"])
def test_a_change_of_the_deployments_or_of_their_code_is_seen(project, name):
    before = fingerprint(project)
    (project / name).write_text("other")
    assert fingerprint(project) != before


def test_a_moved_flow_is_seen(project):
    before = fingerprint(project)
    (project / "flows" / "train.py").rename(project / "flows" / "fit.py")
    assert fingerprint(project) != before


def test_what_flows_do_not_call_changes_nothing(project):
    before = fingerprint(project)
    (project / "README.md").write_text("new")
    (project / "flows" / "train.py").touch()
    assert fingerprint(project) == before
