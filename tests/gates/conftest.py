"""Evidence of planted skill, and policies that are quick to judge by."""

from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from atlas.gates import Evidence, GatePolicy


def evidence_of(selected_returns, others, *, hit_rate=0.6, trades=None, seed=0, **changed):
    """Evidence whose windows and trades are those of the selected returns."""
    rng = np.random.default_rng(seed)
    selected = np.asarray(selected_returns, dtype=float)
    windows = np.array_split(selected, 6)
    hits = np.zeros(1_000, dtype=bool)
    hits[: round(hit_rate * 1_000)] = True
    return Evidence(
        **{
            "trial_returns": np.column_stack([selected, others]),
            "selected": 0,
            "in_sample": tuple(windows[:-1]),
            "out_of_sample": tuple(windows[1:]),
            "trade_returns": selected if trades is None else trades,
            "hits": rng.permutation(hits),
            "period": timedelta(hours=1),
            "model": "xgboost_BTC_20241205_120000",
            "features": "f00d",
            "data_range": (datetime(2024, 1, 1, tzinfo=UTC), datetime(2024, 3, 1, tzinfo=UTC)),
        }
        | changed
    )


@pytest.fixture(scope="session")
def skilled():
    """One trial that earns a third of its deviation an hour, among eleven that earn nothing."""
    rng = np.random.default_rng(42)
    return evidence_of(rng.normal(0.001, 0.003, 1_440), rng.normal(0, 0.003, (1_440, 11)))


@pytest.fixture(scope="session")
def quick():
    """The default policy with fewer paths."""
    return GatePolicy(n_paths=1_000, block_sensitivity=(8, 10))


@pytest.fixture(scope="session")
def changed(skilled):
    """Return the skilled evidence with some fields replaced."""

    def with_fields(**values):
        assert set(values) <= {field.name for field in fields(Evidence)}
        return replace(skilled, **values)

    return with_fields


@pytest.fixture(scope="session")
def build():
    """Return the builder itself, for evidence of another kind."""
    return evidence_of
