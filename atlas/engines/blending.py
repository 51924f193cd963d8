"""How several forecasts of one event become one: weights learned from rows nobody had seen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Blend", "blend_log_odds", "blend_odds"]

Probabilities = NDArray[np.floating]

_SMALLEST = 1e-6
_ROUNDS = 500
_NEWTON_STEPS = 50


@dataclass(frozen=True)
class Blend:
    """What each forecast counts, and what is added."""

    coefficients: tuple[float, ...]
    offset: float

    def mix_odds(self, forecasts: Sequence[Probabilities]) -> NDArray[np.float64]:
        """Average probabilities, each (n_rows,)."""
        return self._sum([forecast.astype(np.float64) for forecast in forecasts])

    def mix_log_odds(self, forecasts: Sequence[Probabilities]) -> NDArray[np.float64]:
        """Add log odds, each forecast a probability (n_rows,), and return a probability."""
        return _logistic(self._sum([_log_odds(forecast) for forecast in forecasts]))

    def _sum(self, parts: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
        # One after another: how a product of matrices shares its sums depends on their sizes.
        total = np.full(len(parts[0]), self.offset)
        for coefficient, part in zip(self.coefficients, parts, strict=True):
            total = total + coefficient * part
        return total


def blend_odds(
    forecasts: Probabilities, happened: NDArray[np.bool_], weights: NDArray[np.float64]
) -> Blend:
    """Find the average under which what happened was likeliest, by expectation maximisation.

    Parameters
    ----------
    forecasts : (n_rows, n_forecasts)
        Probabilities.
    happened : (n_rows,)
    weights : (n_rows,)
        What each row counts.

    Returns
    -------
    Blend
        Coefficients from 0 that sum to 1.

    References
    ----------
    Dempster, Laird, Rubin (1977), "Maximum Likelihood from Incomplete Data via the EM Algorithm".
    """
    likely = np.where(happened[:, None], forecasts, 1.0 - forecasts).clip(_SMALLEST, 1.0)
    share = np.full(forecasts.shape[1], 1.0 / forecasts.shape[1])
    for _ in range(_ROUNDS):
        blame = likely * share
        blame /= blame.sum(axis=1, keepdims=True)
        share = (blame * weights[:, None]).sum(axis=0) / weights.sum()
    return Blend(tuple((share / share.sum()).tolist()), 0.0)


def blend_log_odds(
    forecasts: Probabilities,
    happened: NDArray[np.bool_],
    weights: NDArray[np.float64],
    *,
    ridge: float,
) -> Blend:
    """Regress what happened on log odds, drawn to their plain average, by Newton's method.

    Parameters
    ----------
    forecasts : (n_rows, n_forecasts)
        Probabilities.
    happened : (n_rows,)
    weights : (n_rows,)
        What each row counts.
    ridge : float
        Half of it times the squared distance of coefficients and offset from the average is added
        to the weighted loss.

    References
    ----------
    Wolpert (1992), "Stacked Generalization".
    """
    known = np.column_stack(
        [_log_odds(column) for column in forecasts.T] + [np.ones(len(happened))]
    )
    average = np.append(np.full(forecasts.shape[1], 1.0 / forecasts.shape[1]), 0.0)
    coefficients = average
    for _ in range(_NEWTON_STEPS):
        said = _logistic((known * coefficients).sum(axis=1))
        slope = (((said - happened) * weights)[:, None] * known).sum(axis=0) + ridge * (
            coefficients - average
        )
        bend = np.einsum("ni,n,nj->ij", known, weights * said * (1.0 - said), known)
        move = np.linalg.solve(bend + ridge * np.eye(len(average)), slope)
        coefficients = coefficients - move
        if np.abs(move).max() < 1e-10:
            break
    return Blend(tuple(coefficients[:-1].tolist()), float(coefficients[-1]))


def _log_odds(probability: Probabilities) -> NDArray[np.float64]:
    clipped = np.clip(probability.astype(np.float64), _SMALLEST, 1.0 - _SMALLEST)
    return np.log(clipped) - np.log1p(-clipped)


def _logistic(value: NDArray[np.float64]) -> NDArray[np.float64]:
    return 1.0 / (1.0 + np.exp(-np.clip(value, -500.0, 500.0)))
