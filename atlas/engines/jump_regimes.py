"""What each regime is worth: what its labels returned, what entering it costs, which side."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Regime", "describe_regimes"]

_LEAST_EDGE = 1e-6


@dataclass(frozen=True, slots=True)
class Regime:
    """What the labels of one regime were like in training.

    Parameters
    ----------
    rows : int
        Labelled rows in it.
    entries : int
        How often such a row follows none, or one of another regime.
    weight, up_weight : float
        Sum of the weights of its labels, and of those that went up.
    mean_return : float
        Weighted mean of the labels' gross returns; 0 without rows.
    """

    rows: int
    entries: int
    weight: float
    up_weight: float
    mean_return: float

    def cost(self, cost_bps: float) -> float:
        """Return what a row bears of the round trips that its regime's entries ask for."""
        return 2e-4 * cost_bps * self.entries / self.rows if self.rows else 0.0

    def side(self, cost_bps: float) -> int:
        """Return the sign of the mean net return: 1 long, −1 short, 0 where costs take it all."""
        gross = self.mean_return
        return int(np.sign(gross)) if abs(gross) > self.cost(cost_bps) else 0

    def probability(self, cost_bps: float) -> float:
        """Return the probability of up, kept on the side of the position.

        It is the weighted share of labels that went up, smoothed by one label of either kind
        (Laplace), but never on the other side of a half than the position, and a half without one:
        a regime may rise seldom and far.
        """
        share = (self.up_weight + 1.0) / (self.weight + 2.0)
        side = self.side(cost_bps)
        if side > 0:
            return max(share, 0.5 + _LEAST_EDGE)
        return min(share, 0.5 - _LEAST_EDGE) if side < 0 else 0.5


def describe_regimes(
    states: NDArray[np.integer[Any]],
    stretches: NDArray[np.integer[Any]],
    *,
    n_states: int,
    up: NDArray[np.bool_],
    returns: NDArray[np.floating[Any]],
    weights: NDArray[np.floating[Any]],
) -> tuple[Regime, ...]:
    """Return what the labels of each state were like.

    Parameters
    ----------
    states : (n_labels,)
        Online state of each label's row, by symbol and time; −1 is none.
    stretches : (n_labels,)
        Rows of another number do not follow each other.
    up, returns, weights : (n_labels,)
    """
    entered = np.ones(len(states), np.bool_)
    entered[1:] = (np.diff(states) != 0) | (np.diff(stretches) != 0)
    return tuple(
        _describe(states == state, entered, up, returns, weights) for state in range(n_states)
    )


def _describe(
    inside: NDArray[np.bool_],
    entered: NDArray[np.bool_],
    up: NDArray[np.bool_],
    returns: NDArray[np.floating[Any]],
    weights: NDArray[np.floating[Any]],
) -> Regime:
    rows = int(inside.sum())
    own = weights[inside].astype(np.float64)
    return Regime(
        rows=rows,
        entries=int((entered & inside).sum()),
        weight=float(own.sum()),
        up_weight=float(own[up[inside]].sum()),
        mean_return=float(np.average(returns[inside], weights=own)) if rows else 0.0,
    )
