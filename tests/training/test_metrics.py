"""The figures are those of scikit-learn, and of arithmetic by hand."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as reference

from atlas.training.metrics import (
    calibration_error,
    forecast_metrics,
    label_metrics,
    trading_metrics,
)

ROWS = st.lists(st.tuples(st.booleans(), st.floats(0.001, 0.999)), min_size=2, max_size=60)


@settings(max_examples=100, deadline=None)
@given(ROWS)
def test_label_metrics_are_scikit_learns(rows: list[tuple[bool, float]]) -> None:
    up, p = np.array([u for u, _ in rows]), np.array([x for _, x in rows])
    found = label_metrics(up, p)
    precision, recall, f1, _ = reference.precision_recall_fscore_support(
        up, p > 0.5, average="binary", pos_label=True, zero_division=0
    )
    expected = {
        "accuracy": reference.accuracy_score(up, p > 0.5),
        "precision": precision,
        "recall": recall,
        "f1": f1,
        "log_loss": reference.log_loss(up, p, labels=[False, True]),
        "brier": np.mean((p - up) ** 2),
    }
    assert {name: found[name] for name in expected} == pytest.approx(expected)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.floats(-1, 1), st.floats(-1, 1)), min_size=2, max_size=60))
def test_forecast_metrics_are_scikit_learns(rows: list[tuple[float, float]]) -> None:
    targets, forecasts = np.array([t for t, _ in rows]), np.array([f for _, f in rows])
    found = forecast_metrics(targets, forecasts)
    assert found["mse"] == pytest.approx(reference.mean_squared_error(targets, forecasts))
    assert found["mae"] == pytest.approx(reference.mean_absolute_error(targets, forecasts))
    if np.ptp(targets) > 1e-3:
        assert found["r2"] == pytest.approx(reference.r2_score(targets, forecasts))


def test_probabilities_that_are_kept_are_calibrated() -> None:
    up = np.tile([True, False, False, False], 100)
    assert calibration_error(up, np.full(400, 0.25)) < 0.1
    assert calibration_error(up, np.full(400, 0.75)) == pytest.approx(0.5, abs=0.1)
    ordered = np.sort(up)
    assert calibration_error(ordered, ordered.astype(float)) == 0.0


def test_trading_metrics_by_hand() -> None:
    periods = np.array([0.10, -0.05, 0.02, -0.01])
    found = trading_metrics(periods, np.array([0.04, 0.02, -0.03]), periods_per_year=4)
    mean, deviation = periods.mean(), periods.std(ddof=1)
    assert found == pytest.approx(
        {
            "sharpe": mean / deviation * 2,
            "max_drawdown": 0.05,
            "net_return": 0.06,
            "trades": 3,
            "win_rate": 2 / 3,
            "profit_factor": 2.0,
        }
    )


def test_a_record_without_a_loss_or_a_trade_says_so() -> None:
    still = np.zeros(3)
    assert trading_metrics(still, np.array([0.1]), periods_per_year=1)["profit_factor"] == math.inf
    none = trading_metrics(still, np.empty(0), periods_per_year=1)
    assert math.isnan(none["profit_factor"])
    assert math.isnan(none["win_rate"])
    assert none["sharpe"] == 0.0
