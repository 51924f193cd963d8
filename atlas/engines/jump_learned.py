"""What a jump model learned, and the JSON that carries it."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from atlas.errors import ArtifactCorrupt

__all__ = ["Learned", "read_learned", "write_learned"]

Floats = NDArray[np.float64]

_FORMAT = "atlas-jump/1"


@dataclass(frozen=True, slots=True, eq=False)
class Learned:
    """The states of a jump model, in the order of their names.

    Parameters
    ----------
    centroids : (n_states, n_features)
        NaN in the rows of states that no row of training is in.
    anchors : (n_states, n_features)
        The latest centroid that each name had; NaN where nobody bore it.
    occupancy : (n_states,)
        Rows of training in each state.
    objective : float
        Cost of the training path.
    values : (n_states,)
        Value vector at the training end; infinite for states without rows.
    state : int
        Online state at the training end.
    """

    centroids: Floats
    anchors: Floats
    occupancy: NDArray[np.int64]
    objective: float
    values: Floats
    state: int


def write_learned(learned: Learned, recipe: Mapping[str, Any]) -> bytes:
    """Return hyperparameters and what was learned as JSON; equal models give equal bytes."""
    return json.dumps(
        {
            "format": _FORMAT,
            "recipe": dict(recipe),
            "centroids": _rows(learned.centroids),
            "anchors": _rows(learned.anchors),
            "occupancy": learned.occupancy.tolist(),
            "objective": learned.objective,
            "values": [v if math.isfinite(v) else None for v in learned.values.tolist()],
            "state": learned.state,
        },
        sort_keys=True,
        allow_nan=False,
    ).encode()


def read_learned(data: bytes) -> tuple[dict[str, Any], Learned]:
    """Return the hyperparameters and what was learned; no code of theirs is run.

    Raises
    ------
    ArtifactCorrupt
        If the bytes are not what `write_learned` wrote.
    """
    try:
        facts = json.loads(data)
        if facts["format"] != _FORMAT:
            raise ValueError(f"format {facts['format']!r}")
        learned = Learned(
            centroids=_table(facts["centroids"]),
            anchors=_table(facts["anchors"]),
            occupancy=np.array([_whole(n) for n in facts["occupancy"]], np.int64),
            objective=_real(facts["objective"]),
            values=np.array([math.inf if v is None else _real(v) for v in facts["values"]]),
            state=_whole(facts["state"]),
        )
        _check(learned)
        recipe = dict(facts["recipe"])
        if write_learned(learned, recipe) != data:
            raise ValueError("bytes that it does not write")
    except (ValueError, TypeError, KeyError, IndexError, RecursionError) as error:
        raise ArtifactCorrupt(
            f"Expected a model that JumpModel.dump wrote; found {data[:40]!r} ({error!r:.200}). "
            "Fetch the blob again, or roll back to an earlier version."
        ) from error
    return recipe, learned


def _rows(table: Floats) -> list[list[float] | None]:
    return [None if math.isnan(row[0]) else row for row in table.tolist()]


def _table(rows: list[list[float] | None]) -> Floats:
    width = len(next(row for row in [*rows, []] if row is not None))
    return np.array(
        [[math.nan] * width if row is None else [_real(x) for x in row] for row in rows]
    )


def _real(number: Any) -> float:
    if type(number) is not float or not math.isfinite(number):
        raise ValueError(f"{number!r} where a finite number belongs")
    return number


def _whole(number: Any) -> int:
    if type(number) is not int or not -(2**63) <= number < 2**63:
        raise ValueError(f"{number!r} where a whole number belongs")
    return number


def _check(learned: Learned) -> None:
    n_states = len(learned.centroids)
    live = learned.occupancy > 0
    agree = (
        learned.centroids.ndim == 2
        and learned.centroids.shape[1] > 0
        and learned.anchors.shape == learned.centroids.shape
        and learned.occupancy.shape == learned.values.shape == (n_states,)
        and np.array_equal(live, ~np.isnan(learned.centroids[:, 0]))
        and np.array_equal(live, np.isfinite(learned.values))
        and np.array_equal(learned.anchors[live], learned.centroids[live])
        and 0 <= learned.state < n_states
        and learned.values.min() == learned.values[learned.state] == 0.0
    )
    if not agree:
        raise ValueError("states that contradict each other")
