"""What versions earned on paper and what their gates saw, for those who compare the two."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from atlas.errors import InvalidInput
from atlas.matured import HOUR_US, Matured, mature
from atlas.paper import PaperLedger
from atlas.serving import Stage, signals_stream

if TYPE_CHECKING:
    from atlas.runtime.installation import Installation

__all__ = ["expected_hourly", "gate_returns", "matured_of"]


def matured_of(installation: Installation, model: str) -> Callable[[int, Stage], Matured | None]:
    """Return a function that says what a version has earned at a stage.

    It returns None where nobody has kept the books of that stage yet.
    """
    ledger = PaperLedger(installation.settings.deployments_url)
    expected: dict[int, float | None] = {}

    def matured(version: int, stage: Stage) -> Matured | None:
        if not ledger.keeps(signals_stream(stage)):
            return None
        rows = ledger.profits(model, stage=stage, version=version)
        if rows.height and version not in expected:
            expected[version] = expected_hourly(installation.settings.home, model, version)
        return mature(rows, expected=expected.get(version))

    return matured


def expected_hourly(home: Path, model: str, version: int) -> float | None:
    """Return the mean net return an hour that the gates saw; None without the version's file."""
    found = gate_returns(home, model, version)
    if found is None or not found[0].size:
        return None
    returns, hours = found
    return float(returns.mean()) / hours


def gate_returns(home: Path, model: str, version: int) -> tuple[NDArray[np.float64], float] | None:
    """Return the out-of-sample net returns that the gates judged, and the hours of one period.

    None where this state folder has no file on the version: it was trained elsewhere.
    """
    from atlas.training import Dossier

    try:
        evidence = Dossier.of(home, model, version).evidence()
    except InvalidInput:
        return None
    returns = evidence.trial_returns[:, evidence.selected]
    return returns, evidence.period.total_seconds() * 1e6 / HOUR_US
