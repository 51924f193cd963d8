"""What a version earned on paper is judged by what its gates saw, where both are known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from filed_versions import MODEL, file_versions
from sqlalchemy import create_engine, insert

from atlas.config import load_settings
from atlas.matured import HOUR_US
from atlas.paper import Order, PaperLedger
from atlas.paper.tables import PROFITS
from atlas.runtime.earnings import expected_hourly, gate_returns, matured_of
from atlas.runtime.installation import Installation
from atlas.serving import Stage, signals_stream
from atlas.training import Dossier

# MLflow warns of itself: of its own type hints, and of files that it leaves to be collected.
pytestmark = pytest.mark.filterwarnings("ignore::Warning")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A state folder with the files of two versions."""
    folder = tmp_path_factory.mktemp("home")
    file_versions(folder)
    return folder


@pytest.fixture
def installation(home: Path, tmp_path: Path) -> Installation:
    url = f"sqlite:///{tmp_path / 'books.db'}"
    return Installation(load_settings({}, home=home, database_url=url))


def keep_books(installation: Installation, version: int, returns: np.ndarray) -> None:
    """Let a broker have read the signals, and write what it would have."""
    url = installation.settings.deployments_url
    orders: list[Order] = []
    PaperLedger(url).take(signals_stream(Stage.LIVE), orders, after="0-0", upto="5-1")
    rows = [
        {
            "model": MODEL,
            "stage": "live",
            "version": version,
            "symbol": "A",
            "from_us": hour * HOUR_US,
            "to_us": (hour + 1) * HOUR_US,
            "side": 1,
            "gross": float(net),
            "cost": 0.0,
        }
        for hour, net in enumerate(returns)
    ]
    engine = create_engine(url)
    with engine.begin() as connection:
        connection.execute(insert(PROFITS), rows)
    engine.dispose()


def test_the_expectation_is_the_mean_hour_of_the_trial_that_was_deployed(home: Path) -> None:
    evidence = Dossier.of(home, MODEL, 1).evidence()
    found = gate_returns(home, MODEL, 1)
    assert found is not None
    returns, hours = found
    assert hours == 1.0
    assert list(returns) == list(evidence.trial_returns[:, evidence.selected])
    assert expected_hourly(home, MODEL, 1) == pytest.approx(0.001, abs=3e-4)


def test_a_version_that_was_trained_elsewhere_has_no_expectation(home: Path) -> None:
    assert gate_returns(home, MODEL, 77) is None
    assert expected_hourly(home, MODEL, 77) is None


def test_nobody_has_earned_anything_where_no_books_are_kept(installation: Installation) -> None:
    assert matured_of(installation, MODEL)(1, Stage.LIVE) is None


def test_profit_far_below_what_the_gates_saw_is_told(installation: Installation) -> None:
    keep_books(installation, 1, np.random.default_rng(1).normal(-0.001, 0.003, 400))
    matured = matured_of(installation, MODEL)
    live, nobody = matured(1, Stage.LIVE), matured(2, Stage.CANARY)
    assert live is not None
    assert nobody is not None
    assert (live.hours, nobody.hours, nobody.shortfall_p) == (400, 0, None)
    assert live.expected == expected_hourly(installation.settings.home, MODEL, 1)
    assert live.meets_expectation(0.01) is False
