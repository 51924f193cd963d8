"""Every package's face is what it promises, and importing Atlas has no effects."""

import importlib
import pkgutil
import subprocess
import sys

import pytest

import atlas

PACKAGES = sorted(
    module.name for module in pkgutil.iter_modules(atlas.__path__, "atlas.") if module.ispkg
)


@pytest.mark.parametrize("name", PACKAGES)
def test_every_promised_name_is_there_once(name: str) -> None:
    package = importlib.import_module(name)
    assert package.__doc__
    assert len(set(package.__all__)) == len(package.__all__)
    assert all(getattr(package, each) is not None for each in package.__all__)


@pytest.mark.parametrize("name", PACKAGES)
def test_no_promised_name_is_hidden_by_a_module_of_that_name(name: str) -> None:
    package = importlib.import_module(name)
    modules = {module.name for module in pkgutil.iter_modules(package.__path__)}
    lazy = set(package.__all__) - vars(package).keys()
    assert lazy & modules == set()


def test_importing_atlas_writes_nothing_and_configures_no_logging() -> None:
    code = (
        "import logging, atlas.serving, atlas.bus, atlas.clickhouse, atlas.features; "
        "assert not logging.getLogger().handlers"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert (done.stdout, done.stderr) == (b"", b"")
