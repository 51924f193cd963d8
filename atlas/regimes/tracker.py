"""One symbol's regime, row after row, as one checkpoint tells it: the online filter and its age."""

from __future__ import annotations

import math
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from atlas.errors import ArtifactCorrupt, InvalidInput
from atlas.regimes.checkpoint import Checkpoint

__all__ = ["Step", "Tracker"]

_FORMAT = "atlas-regime-tracker/1"


class Step(NamedTuple):
    """What a row says."""

    regime: int
    gap: float
    """By how much the second best is worse; infinite where rows were in one regime only."""
    age: int
    """Rows since the regime last changed, through refits."""
    told: bool
    """Whether the row said anything."""


class Tracker:
    """Remembers the filter's state, the regime and its age; what it says is never revised.

    It begins where the checkpoint's training ended. A row costs the same however long the stream.
    """

    def __init__(self, checkpoint: Checkpoint) -> None:
        self._checkpoint = checkpoint
        self._stream = checkpoint.model.stream()
        carried = checkpoint.carried
        self._regime: int | None = carried.regime if carried else None
        self._age = carried.age if carried else -1

    @property
    def checkpoint(self) -> Checkpoint:
        """What it tells by."""
        return self._checkpoint

    @property
    def probabilities(self) -> NDArray[np.float64]:
        """How likely each regime is by the rows so far, shape (n_states,); they sum to 1.

        The cost of a history is half its squared distance in standard deviations, so to normal
        noise the negative logarithm of its likelihood: the best histories that end in each regime
        are weighed by theirs.
        """
        likely = np.exp(-self._stream.values)
        shares: NDArray[np.float64] = likely / likely.sum()
        return shares

    def update(self, row: NDArray[np.float64]) -> Step:
        """Move on by one row of `atlas.regimes.inputs`, shape (n_inputs,); NaN is null."""
        scaled = self._checkpoint.scale.apply(row)
        state = self._stream.update(scaled)
        self._age = self._age + 1 if state == self._regime or self._regime is None else 0
        self._regime = state
        values = self._stream.values
        gap = float(np.partition(values, 1)[1]) if len(values) > 1 else math.inf
        return Step(state, gap, self._age, not np.isnan(scaled).all())

    def snapshot(self) -> dict[str, Any]:
        """Return what is remembered as JSON-able fields; `restore` goes on to the bit."""
        return {
            "format": _FORMAT,
            "model_version": self._checkpoint.stamp,
            "filter": self._stream.snapshot().decode(),
            "regime": self._regime,
            "age": self._age,
        }

    def restore(self, snapshot: Any) -> Self:
        """Go on where a snapshot of the same checkpoint left off.

        Raises
        ------
        ArtifactCorrupt
            If it is none.
        InvalidInput
            If it is of another checkpoint.
        """
        try:
            if snapshot["format"] != _FORMAT:
                raise ValueError(f"format {snapshot['format']!r}")
            regime, age, state = snapshot["regime"], snapshot["age"], snapshot["filter"]
            stamp = snapshot["model_version"]
            if type(age) is not int or not (regime is None or type(regime) is int):
                raise ValueError("fields of other kinds")
            state = state.encode()
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise ArtifactCorrupt(
                f"Expected what Tracker.snapshot returned; found {str(snapshot)[:80]} ({error}). "
                "Start from the checkpoint and read the rows since its training."
            ) from error
        if stamp != self._checkpoint.stamp:
            raise InvalidInput(
                f"Expected the state of {self._checkpoint.stamp}; found that of {stamp}. Start "
                "from the checkpoint and read the rows since its training."
            )
        self._stream.restore(state)
        self._regime, self._age = regime, age
        return self
