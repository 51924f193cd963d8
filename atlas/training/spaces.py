"""What is searched: each engine's hyperparameters and their ranges, and the threshold."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import optuna

from atlas.engines import Task, engine_class
from atlas.training.candidate import Candidate

__all__ = ["suggest"]

Space = Callable[[optuna.Trial, Mapping[str, Any]], dict[str, Any]]

# Distance from an even chance that an opinion must exceed.
_THRESHOLDS = (0.0, 0.05, 0.1, 0.15, 0.2)
# Of a forecast return, in round trips' costs that it must exceed.
_ROUND_TRIPS = (0.0, 0.25, 0.5, 1.0, 2.0)


def suggest(trial: optuna.Trial, candidate: Candidate) -> tuple[dict[str, Any], float]:
    """Return one proposal: the engine's keyword arguments, and the threshold.

    An engine of the user's own is asked for its space by a static method `suggest(trial)`, which
    returns keyword arguments; without one only the threshold is searched.
    """
    settled = dict(candidate.settled)
    space = _SPACES.get(candidate.engine)
    if candidate.engine == "jump":
        proposed = _known_columns(_jump(trial, settled), candidate)
    elif space is None:
        own = getattr(engine_class(candidate.engine), "suggest", None)
        proposed = {} if own is None else dict(own(trial))
    else:
        proposed = space(trial, settled)
    return {**settled, **proposed}, _threshold(trial, candidate)


def _known_columns(proposed: dict[str, Any], candidate: Candidate) -> dict[str, Any]:
    """Leave out columns that the feature set lacks; without any, all are used."""
    known = tuple(name for name in proposed["columns"] if name in candidate.features.features)
    return {**proposed, "columns": known or None}


def _threshold(trial: optuna.Trial, candidate: Candidate) -> float:
    if candidate.engine == "jump":
        # A regime's side is the sign of its mean net return, however sure the odds.
        return 0.0
    task: Task = candidate.task
    if task == "return":
        trips = trial.suggest_categorical("round_trips", _ROUND_TRIPS)
        return float(trips) * 2 * candidate.costs.per_side
    return float(trial.suggest_categorical("threshold", _THRESHOLDS))


def _xgboost(trial: optuna.Trial, settled: Mapping[str, Any]) -> dict[str, Any]:
    # Shallow and heavily smoothed: the signal of a market is weak, its noise is not.
    return {
        "n_rounds": trial.suggest_int("n_rounds", 30, 120),
        "learning_rate": trial.suggest_float("learning_rate", 0.05, 0.3, log=True),
        "max_depth": trial.suggest_int("max_depth", 1, 3),
        "min_child_weight": trial.suggest_float("min_child_weight", 3.0, 100.0, log=True),
        "subsample": trial.suggest_float("subsample", 0.5, 1.0),
        "column_sample": trial.suggest_float("column_sample", 0.3, 1.0),
        "reg_lambda": trial.suggest_float("reg_lambda", 1.0, 100.0, log=True),
    }


def _net(trial: optuna.Trial, settled: Mapping[str, Any]) -> dict[str, Any]:
    # The form of the net is the profile's; what is searched is how hard it learns.
    rate = float(settled.get("learning_rate", 1e-3))
    return {
        "learning_rate": trial.suggest_float("learning_rate", rate / 3, rate * 3, log=True),
        "dropout": trial.suggest_float("dropout", 0.0, 0.5),
        "gradient_norm": trial.suggest_float("gradient_norm", 0.3, 3.0, log=True),
    }


def _transformer(trial: optuna.Trial, settled: Mapping[str, Any]) -> dict[str, Any]:
    return _net(trial, {"learning_rate": 1e-4, **settled})


def _jump(trial: optuna.Trial, settled: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "n_states": trial.suggest_int("n_states", 2, 4),
        "penalty": trial.suggest_float("penalty", 1.0, 300.0, log=True),
        "sequence": trial.suggest_categorical("sequence", (120, 240, 480)),
        # Few features that persist serve best.
        "columns": _columns(trial.suggest_categorical("columns", ("risk", "risk and trend"))),
        "n_starts": min(5, int(settled.get("n_starts", 5))),
    }


def _columns(which: str) -> tuple[str, ...]:
    risk = ("realised_vol_30", "realised_vol_120")
    return risk if which == "risk" else (*risk, "trend_60", "trend_240")


def _ensemble(trial: optuna.Trial, settled: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "method": trial.suggest_categorical("method", ("stacking", "weighted")),
        "ridge": trial.suggest_float("ridge", 1.0, 1_000.0, log=True),
    }


_SPACES: Mapping[str, Space] = MappingProxyType(
    {
        "xgboost": _xgboost,
        "lstm": _net,
        "transformer": _transformer,
        "ensemble": _ensemble,
    }
)
