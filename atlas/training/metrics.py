"""How good a model is, in figures that a desk and a data scientist both know; all net of costs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import timedelta

import numpy as np
from numpy.typing import NDArray

from atlas.engines import predict_rows
from atlas.gates import GatePolicy
from atlas.stats import max_drawdown, sharpe_ratio
from atlas.training.trainer import Trained

__all__ = [
    "calibration_error",
    "forecast_metrics",
    "judged_labels",
    "label_metrics",
    "metrics_of",
    "trading_metrics",
]

Floats = NDArray[np.floating]
Bools = NDArray[np.bool_]

_SMALLEST = 1e-15
_BINS = 10


def label_metrics(up: Bools, probability: Floats) -> dict[str, float]:
    """Compare probabilities of up with what came.

    Parameters
    ----------
    up : (n,)
    probability : (n,)
        In [0, 1].

    Returns
    -------
    dict
        `accuracy`, `precision`, `recall`, `f1` (of up, at one half), `log_loss` (nats),
        `brier`, `calibration_error`. What divides by nothing is 0, as in scikit-learn.
    """
    if not up.size:
        return {}
    said = probability > 0.5
    hits, right = int(np.sum(said & up)), float(np.mean(said == up))
    precision = hits / said.sum() if said.any() else 0.0
    recall = hits / up.sum() if up.any() else 0.0
    clipped = np.clip(probability.astype(np.float64), _SMALLEST, 1.0 - _SMALLEST)
    return {
        "accuracy": right,
        "precision": float(precision),
        "recall": float(recall),
        "f1": float(2 * precision * recall / (precision + recall)) if hits else 0.0,
        "log_loss": float(-np.mean(np.where(up, np.log(clipped), np.log1p(-clipped)))),
        "brier": float(np.mean((probability - up) ** 2)),
        "calibration_error": calibration_error(up, probability),
    }


def calibration_error(up: Bools, probability: Floats, *, n_bins: int = _BINS) -> float:
    """Return the mean distance of said from happened, over bins of equally many rows.

    References
    ----------
    Naeini, Cooper, Hauskrecht (2015), "Obtaining Well Calibrated Probabilities Using Bayesian
    Binning"; bins of equal counts as in Nguyen, O'Connor (2015).
    """
    order = np.argsort(probability, kind="stable")
    parts = [part for part in np.array_split(order, n_bins) if len(part)]
    gaps = [abs(float(probability[part].mean() - up[part].mean())) for part in parts]
    return float(np.average(gaps, weights=[len(part) for part in parts]))


def forecast_metrics(targets: Floats, forecasts: Floats) -> dict[str, float]:
    """Compare forecasts with what came: `mse`, `mae`, `r2` (NaN where the targets are constant)."""
    if not targets.size:
        return {}
    errors = forecasts - targets
    spread = float(np.sum((targets - targets.mean()) ** 2))
    return {
        "mse": float(np.mean(errors**2)),
        "mae": float(np.mean(np.abs(errors))),
        "r2": 1.0 - float(np.sum(errors**2)) / spread if spread > 0 else math.nan,
    }


def trading_metrics(
    period_returns: Floats, trade_returns: Floats, *, periods_per_year: float
) -> dict[str, float]:
    """Return what a record of net returns is worth.

    Parameters
    ----------
    period_returns : (n_periods,)
        Net return per period, as a fraction.
    trade_returns : (n_trades,)
        Net return of each trade.

    Returns
    -------
    dict
        `sharpe` (annualised), `max_drawdown` (fraction, compounding), `net_return` (sum),
        `trades`, `win_rate` and `profit_factor` (won over lost; infinite without a loss, NaN
        without a trade).
    """
    won, lost = trade_returns[trade_returns > 0].sum(), -trade_returns[trade_returns < 0].sum()
    return {
        "sharpe": float(sharpe_ratio(period_returns)) * math.sqrt(periods_per_year),
        "max_drawdown": float(max_drawdown(period_returns)),
        "net_return": float(period_returns.sum()),
        "trades": float(trade_returns.size),
        "win_rate": float(np.mean(trade_returns > 0)) if trade_returns.size else math.nan,
        "profit_factor": float(won / lost) if lost > 0 else math.inf if won > 0 else math.nan,
    }


def judged_labels(trained: Trained) -> tuple[Bools, NDArray[np.float64]]:
    """Return whether up came, and the score, of every labelled row that the gates judge."""
    dataset, rows = trained.dataset, trained.folds.judged_rows
    labelled = dataset.weights[rows] > 0
    return dataset.y[rows][labelled] > 0, trained.best.scores[labelled]


def metrics_of(trained: Trained) -> Mapping[str, float]:
    """Return every figure of a training: `train_` of the final fit, on what it has learned from;
    `validation_` of the folds it was chosen by; `test_` of those that the gates judge.
    """
    best, dataset = trained.best, trained.dataset
    yearly = GatePolicy().periods_per_year(max(trained.candidate.period, timedelta(hours=1)))
    up, scores = judged_labels(trained)
    labelled = dataset.weights > 0
    known = dataset.take(labelled)
    fitted = predict_rows(trained.engine, known)[:, -1]
    found: dict[str, float] = {}
    if trained.candidate.task == "direction":
        groups = {"train": label_metrics(known.y > 0, fitted), "test": label_metrics(up, scores)}
    else:
        targets = dataset.require_returns()
        judged = trained.folds.judged_rows
        unseen = targets[judged][dataset.weights[judged] > 0]
        groups = {
            "train": forecast_metrics(targets[labelled], fitted),
            "test": forecast_metrics(unseen, scores),
        }
    # As the gate has it: a score that favours no side is neither right nor wrong.
    hits = trained.evidence.hits
    groups["test"]["accuracy"] = float(hits.mean()) if hits.size else math.nan
    selection = np.concatenate(best.selection)
    groups["validation"] = {
        "sharpe": best.selection_sharpe * math.sqrt(yearly),
        "max_drawdown": float(max_drawdown(selection)),
        "net_return": float(selection.sum()),
    }
    inside = np.concatenate(best.in_sample)
    groups["train"]["sharpe"] = float(sharpe_ratio(inside)) * math.sqrt(yearly)
    groups["test"] |= trading_metrics(best.returns, best.trade_returns, periods_per_year=yearly)
    for group, figures in groups.items():
        found |= {f"{group}_{name}": value for name, value in figures.items()}
    return found | {
        "trials": float(len(trained.trials)),
        "trials_pruned": float(sum(trial.pruned for trial in trained.trials)),
        "trials_failed": float(sum(bool(trial.failure) for trial in trained.trials)),
        "periods": float(trained.evidence.n_periods),
    }
