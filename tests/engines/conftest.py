"""The engines that the conformance checks run on, and the markets that they meet."""

import pytest
from engines_under_test import KINDS, Kind, market, needs_torch

from atlas.engines import Dataset


@pytest.fixture(
    params=[
        pytest.param(name, marks=needs_torch if kind.name in ("lstm", "transformer") else ())
        for name, kind in KINDS.items()
    ]
)
def kind(request: pytest.FixtureRequest) -> Kind:
    return KINDS[request.param]


@pytest.fixture(scope="session")
def dataset() -> Dataset:
    return market()


@pytest.fixture(scope="session")
def unseen() -> Dataset:
    return market(seed=1)
