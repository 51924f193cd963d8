"""`atlas gate` judges the version meant, keeps the desk's verdict, and only shows a what-if."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from filed_versions import MODEL, file_versions
from typer.testing import CliRunner, Result

from atlas.cli import app
from atlas.config import load_settings
from atlas.errors import InvalidInput
from atlas.runtime.filed import filed_versions
from atlas.runtime.installation import Installation
from atlas.training import Dossier

# MLflow warns of itself: of its own type hints, and of files that it leaves to be collected.
pytestmark = pytest.mark.filterwarnings("ignore::Warning")


@dataclass(frozen=True)
class Filed:
    """A state folder with two versions of one model: the first is skilled, the second is not."""

    home: Path

    @property
    def folder(self) -> Path:
        return self.home / "models" / MODEL

    def dossier(self, version: int) -> Dossier:
        return Dossier.of(self.home, MODEL, version)


@pytest.fixture(scope="module")
def filed(tmp_path_factory: pytest.TempPathFactory) -> Filed:
    """Return the folder with both versions."""
    home = tmp_path_factory.mktemp("home")
    file_versions(home)
    return Filed(home)


@pytest.fixture
def ask(filed: Filed, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Return the command, over that folder."""
    monkeypatch.setenv("ATLAS_HOME", str(filed.home))

    def run(*arguments: str) -> Result:
        return CliRunner().invoke(app, ["gate", *arguments])

    return run


def test_the_newest_version_is_judged_recorded_and_refused(ask, filed):
    said = ask(MODEL)
    manifest = filed.dossier(2).manifest
    page = filed.folder / "2" / "gates.html"
    assert said.exit_code == 1
    assert f"{MODEL}/2: FAIL" in said.output
    assert f"Report: {page}" in said.output
    assert manifest["report"]["outcome"] == "FAIL"
    assert manifest["judged_by"]
    assert f"{MODEL}/2" in page.read_text()
    assert stage(filed, 2) == "rejected"


def test_a_version_that_passes_is_gated_and_exits_with_0(ask, filed):
    said = ask(f"{MODEL}/1", "--min-accuracy", "0.54", "--min-sharpe", "1.0")
    assert said.exit_code == 0
    assert f"{MODEL}/1: PASS" in said.output
    assert filed.dossier(1).manifest["report"]["policy"]["version"] == "2"
    assert stage(filed, 1) == "gated"


def stage(filed: Filed, version: int) -> str:
    """Return what the deployment log says of a version."""
    log = Installation(load_settings({}, home=filed.home)).deployments
    return str(log.state(MODEL).versions[version].stage)


def kept(folder: Path) -> dict[str, bytes]:
    """Return every file kept on the versions."""
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_verdicts_and_what_stands_beside_them_are_printed(ask):
    said = ask(f"{MODEL}/1", "--min-sharpe", "0.5").output
    assert "win_rate" in said
    assert "probability that the winner loses out of sample" in said
    assert "deepest drawdown of the record" in said


@pytest.mark.parametrize(
    ("version", "asked", "code"),
    [
        (1, ("--min-sharpe", "0.5"), 0),
        (1, ("--min-sharpe", "1000"), 1),  # stricter: the answer is to what was asked
        (2, ("--min-accuracy", "0.01", "--min-sharpe", "-1000"), 1),  # the other gates still fail
    ],
)
def test_other_thresholds_are_shown_and_recorded_nowhere(ask, filed, version, asked, code):
    before = kept(filed.folder)
    said = ask(f"{MODEL}/{version}", *asked)
    assert said.exit_code == code
    assert "nothing is recorded" in said.output
    assert kept(filed.folder) == before


def test_the_desks_settings_are_the_thresholds(ask, filed, monkeypatch):
    monkeypatch.setenv("MIN_MODEL_ACCURACY", "0.6")
    ask(f"{MODEL}/2")
    policy = filed.dossier(2).manifest["report"]["policy"]
    assert (policy["accuracy"], policy["version"]) == (0.6, "2+desk")


def test_the_files_of_versions_are_found(filed, tmp_path):
    assert filed_versions(filed.home) == {MODEL: [1, 2]}
    assert filed_versions(tmp_path) == {}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("direction_nothing",), f"found 'direction_nothing'. Known are {MODEL}."),
        ((f"{MODEL}/7",), f"Expected a version of {MODEL}, found 7. Known are 1, 2."),
        ((MODEL, "--version", "0"), "found 0. Known are 1, 2."),
        ((f"{MODEL}/new",), "with a whole number"),
        ((f"{MODEL}/1", "--version", "2"), "Name it once."),
        (("../models",), "found '..'"),
        ((MODEL, "--min-sharpe", "nan"), "GatePolicy.sharpe"),
    ],
)
def test_what_cannot_be_judged_is_refused_with_what_can(ask, arguments, message):
    refused = ask(*arguments).exception
    assert isinstance(refused, InvalidInput)
    assert message in str(refused)


def test_a_refusal_is_one_sentence_and_names_the_command_that_makes_a_model(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "atlas.cli", "gate", MODEL],
        env={**os.environ, "ATLAS_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert (done.stderr.count("\n"), "`atlas train`" in done.stderr) == (1, True)
