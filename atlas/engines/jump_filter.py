"""The regime now: a jump model's online state, moved by one row at a time."""

from __future__ import annotations

import hashlib
import json
import math
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from atlas.errors import ArtifactCorrupt, FeatureMismatch, InvalidInput

__all__ = ["UNKNOWN", "JumpFilter"]

Floats = NDArray[np.float64]

UNKNOWN = -1
"""The state before the first row that says anything."""

_FAR = -2
_FORMAT = "atlas-jump-filter/1"


class JumpFilter:
    """What is remembered between ticks: one number a state, and the state itself.

    It is the forward value recursion of the model, never revised, so the state after a row is that
    of `JumpModel.filter` to the bit. A tick costs `O(n_states n_features)`, however long the
    stream.

    Parameters
    ----------
    centroids : (n_states, n_features)
    penalty : float
        Cost of a change of state.
    values : (n_states,)
        Cost of the cheapest path into each state beyond the cheapest of all.
    state : int
        The state now, −1 where no row has said anything yet.
    """

    __slots__ = ("_centroids", "_penalty", "_room", "_row", "_state", "_step", "_values")

    def __init__(self, centroids: Floats, penalty: float, values: Floats, state: int) -> None:
        # Not with this module: it brings numba, which serving other engines does without.
        from atlas.engines.jump_paths import step

        self._centroids = np.array(centroids, np.float64, order="C")
        self._penalty = float(penalty)
        self._values = np.array(values, np.float64)
        self._state = int(state)
        self._room = np.empty(len(self._values))
        self._row = np.full(self._centroids.shape[1], np.nan)
        self._step = step
        # A row of nulls changes nothing, but has the kernel ready before the first tick.
        step(self._row, self._centroids, self._penalty, self._values, self._room)

    @property
    def state(self) -> int:
        """The state after the last row, −1 where no row has said anything yet."""
        return self._state

    @property
    def values(self) -> Floats:
        """A copy of the value vector, shape (n_states,); infinite for a state without centroid."""
        return self._values.copy()

    def update(self, row: ArrayLike) -> int:
        """Move on by one row, shape (n_features,), and return the state; NaN is null.

        A row of nulls alone changes nothing, nor does one that is refused.

        Raises
        ------
        FeatureMismatch
            If the row has another number of features.
        InvalidInput
            If a value is infinite, or so large that its square is.
        """
        x = np.asarray(row, np.float64)
        if x.shape != self._centroids.shape[1:]:
            raise FeatureMismatch(
                f"The model was trained on {self._centroids.shape[1]} features; expected a row of "
                f"shape ({self._centroids.shape[1]},), found {x.shape}."
            )
        # Of rows in another layout numba would compile another kernel, in the middle of a stream.
        self._row[:] = x
        found = int(self._step(self._row, self._centroids, self._penalty, self._values, self._room))
        if found == _FAR:
            raise InvalidInput(
                f"Expected finite values or NaN for null, near enough to square; found {x.tolist()}"
            )
        if found != UNKNOWN:
            self._state = found
        return self._state

    def snapshot(self) -> bytes:
        """Return the state as JSON, from which `JumpModel.resume` goes on to the bit."""
        return json.dumps(
            {
                "format": _FORMAT,
                "model": self._model(),
                "state": self._state,
                "values": [v if math.isfinite(v) else None for v in self._values.tolist()],
            }
        ).encode()

    def restore(self, snapshot: bytes) -> Self:
        """Go on where a snapshot of the same model left off.

        Raises
        ------
        ArtifactCorrupt
            If the bytes are not a snapshot.
        InvalidInput
            If it is of a model with other centroids or another penalty.
        """
        try:
            found = json.loads(snapshot)
            if found["format"] != _FORMAT or type(found["model"]) is not str:
                raise ValueError("another format")
            ours = found["model"] == self._model()
            values = self._checked(found) if ours else self._values
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise ArtifactCorrupt(
                f"Expected what JumpFilter.snapshot wrote; found {snapshot[:80]!r} ({error}). "
                "Start from the training end and replay the rows since."
            ) from error
        if not ours:
            raise InvalidInput(
                f"Expected the state of model {self._model()[:12]}; found that of "
                f"{found['model'][:12]}. Start from the training end and replay the rows since."
            )
        self._values[:] = values
        self._state = found["state"]
        return self

    def _checked(self, found: dict[str, Any]) -> Floats:
        state, numbers = found["state"], found["values"]
        if type(state) is not int or not -1 <= state < len(self._values):
            raise ValueError("no such state")
        if not all(n is None or type(n) is float for n in numbers):
            raise ValueError("values are no numbers")
        values = np.array([math.inf if n is None else n for n in numbers])
        reached = ~np.isnan(self._centroids[:, 0]) | (state == UNKNOWN)
        if values.shape != self._values.shape or not np.array_equal(np.isfinite(values), reached):
            raise ValueError("values of other states")
        if values.min() != 0.0 or (state != UNKNOWN and values[state] != 0.0):
            raise ValueError("the state is not the cheapest")
        return values

    def _model(self) -> str:
        facts = hashlib.sha256(repr(self._centroids.shape).encode())
        facts.update(self._centroids.astype("<f8").tobytes())
        facts.update(np.float64(self._penalty).astype("<f8").tobytes())
        return facts.hexdigest()
