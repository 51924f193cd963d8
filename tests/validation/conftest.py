"""An installation over this test's own stores, and the command line over them."""

import sys
from collections.abc import Callable
from dataclasses import dataclass

import pytest
from feature_market import VIEW

from atlas.cli import main
from atlas.clickhouse import create_feature_table
from atlas.runtime.installation import Installation


@pytest.fixture
def environment(clickhouse_port, redis_port, redis, database, tmp_path, monkeypatch):
    """The variables that name this test's stores."""
    monkeypatch.setenv("ATLAS_CLICKHOUSE_PORT", str(clickhouse_port))
    monkeypatch.setenv("ATLAS_CLICKHOUSE_DATABASE", database)
    monkeypatch.setenv("ATLAS_REDIS_PORT", str(redis_port))
    monkeypatch.setenv("ATLAS_HOME", str(tmp_path / "home"))


@pytest.fixture
def installation(environment):
    """This test's installation, with a table of one view."""
    made = Installation()
    create_feature_table(made.clickhouse, VIEW.view, VIEW.features)
    yield made
    made.clickhouse.close()


@dataclass
class Said:
    """What a command said."""

    code: int
    out: str
    err: str


@pytest.fixture
def atlas(environment, monkeypatch, capsys) -> Callable[..., Said]:
    """Run a command in this process."""

    def run(*arguments: str) -> Said:
        monkeypatch.setattr(sys, "argv", ["atlas", *arguments])
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            main()
        said = capsys.readouterr()
        return Said(end.value.code or 0, said.out, said.err)

    return run
