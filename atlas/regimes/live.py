"""One symbol's regime on the live path: rows in as they become known, what is told of them out."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from atlas.clock import to_micros
from atlas.errors import ArtifactCorrupt, FeatureMismatch
from atlas.features.regimes import RegimeSet
from atlas.regimes.checkpoint import Checkpoint
from atlas.regimes.follow import finite, levels
from atlas.regimes.inputs import transformed
from atlas.regimes.steady import Steadied, Steadier, SteadyRules
from atlas.regimes.tracker import Tracker

__all__ = ["Change", "LiveRegime", "Moved", "RegimeRow", "Rows"]

_FORMAT = "atlas-regime-live/1"
_LONG_AGO = -(2**62)


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows of one symbol in order of time, each event once."""

    event_us: NDArray[np.int64]
    """(n_rows,) in microseconds since 1970."""
    known_us: NDArray[np.int64]
    inputs: NDArray[np.float64]
    """(n_rows, n_inputs) as they are stored; NaN is null."""

    def __len__(self) -> int:
        return len(self.event_us)

    def after(self, event_us: int, *, before: int) -> Rows:
        """Return those whose events lie between two moments, neither included."""
        inside = (self.event_us > event_us) & (self.event_us < before)
        return Rows(self.event_us[inside], self.known_us[inside], self.inputs[inside])


class RegimeRow(NamedTuple):
    """A row of the regime view, as the offline history has it; None is null."""

    event_us: int
    known_us: int
    regime: int | None
    level: float | None
    gap: float | None
    age: int | None


class Change(NamedTuple):
    """A change of the regime that is told."""

    event_us: int
    regime: int
    former: int | None
    confidence: float


@dataclass(frozen=True, slots=True)
class Moved:
    """What rows came to."""

    event_us: int
    """Of the last row read."""
    row: RegimeRow | None
    """Of the last row; None where it lies before the refit that speaks."""
    steadied: Steadied
    changes: tuple[Change, ...]
    gap_bars: int
    """Bars that were not there before the last row."""


class LiveRegime:
    """Remembers which row was read last, the filter's state, and what is told.

    Parameters
    ----------
    regimes : RegimeSet
        The view whose rows it tells.
    rules : SteadyRules
        When a change is told.
    max_empty : float
        Share of a row's inputs that may be null or zero; above it the row changes nothing that is
        told. The filter reads it all the same, as the offline history does.
    """

    def __init__(
        self,
        regimes: RegimeSet,
        checkpoint: Checkpoint,
        rules: SteadyRules,
        *,
        max_empty: float = 0.5,
    ) -> None:
        recipe = regimes.recipe
        if checkpoint.inputs != recipe.names:
            raise FeatureMismatch(
                f"Expected a regime model of {', '.join(recipe.names)}; {checkpoint.stamp} was "
                f"fitted to {', '.join(checkpoint.inputs)}. Compute {regimes.view} with --rebuild."
            )
        self._recipe = recipe
        self._interval_us = regimes.interval.micros
        self._max_empty = max_empty
        self._refit_us = to_micros(checkpoint.refit_at)
        self._until_us = to_micros(checkpoint.refit_at + recipe.refit_every)
        self._levels = levels(checkpoint, recipe)
        self._tracker = Tracker(checkpoint)
        self._steadier = Steadier(rules)
        self._steadied = Steadied(None, None, None, None, False, None)
        self._event_us = to_micros(checkpoint.trained_until)
        self._known_us = _LONG_AGO

    @property
    def model_version(self) -> str:
        """Stamp of the checkpoint that speaks."""
        return self._tracker.checkpoint.stamp

    @property
    def event_us(self) -> int:
        """Event time of the last row read, or of the last row of the training."""
        return self._event_us

    @property
    def has_read(self) -> bool:
        """Whether a row after the training was read."""
        return self._known_us > _LONG_AGO

    @property
    def until_us(self) -> int:
        """Event time from which the next refit speaks."""
        return self._until_us

    def update(self, rows: Rows) -> Moved | None:
        """Read the rows that were not read yet and that this refit speaks of; None if none is.

        All rows since the last one read must be there.
        """
        fresh = rows.after(self._event_us, before=self._until_us)
        if not len(fresh):
            return None
        columns = transformed(list(fresh.inputs.T), self._recipe)
        row, changes, gap_bars = None, list[Change](), 0
        for event, known, stored, inputs in zip(
            fresh.event_us.tolist(), fresh.known_us.tolist(), fresh.inputs, columns, strict=True
        ):
            gap_bars = max((event - self._event_us) // self._interval_us - 1, 0)
            self._event_us, self._known_us = event, max(known, self._known_us)
            step = self._tracker.update(inputs)
            if event < self._refit_us:
                continue
            level, gap = self._levels[step.regime], finite(step.gap)
            told = (step.regime, level, gap, step.age) if step.told else (None,) * 4
            row = RegimeRow(event, self._known_us, *told)
            last = self._steadier.event_us
            if last is None or event > last:
                changes += self._steady(event, step.told and self._is_believable(stored))
        return Moved(self._event_us, row, self._steadied, tuple(changes), gap_bars)

    def snapshot(self) -> str:
        """Return what is remembered as JSON, from which `restore` goes on to the bit."""
        facts = {
            "format": _FORMAT,
            "model_version": self.model_version,
            "event_us": self._event_us,
            "known_us": self._known_us,
            "tracker": self._tracker.snapshot(),
            "steadier": self._steadier.snapshot(),
        }
        return json.dumps(facts, allow_nan=False)

    def restore(self, snapshot: str) -> Self:
        """Go on where a snapshot left off.

        Of one that another refit left, what is told goes on; the filter begins at the training end.

        Raises
        ------
        ArtifactCorrupt
            If it is none.
        """
        try:
            facts = json.loads(snapshot)
            if facts["format"] != _FORMAT:
                raise ValueError(f"format {facts['format']!r}")
            event_us, known_us = facts["event_us"], facts["known_us"]
            tracker, steadier = facts["tracker"], facts["steadier"]
            ours = facts["model_version"] == self.model_version
            if type(event_us) is not int or type(known_us) is not int:
                raise ValueError("times that are no whole numbers")
        except (ValueError, TypeError, KeyError) as error:
            raise ArtifactCorrupt(
                f"Expected what LiveRegime.snapshot returned; found {snapshot[:80]!r} ({error}). "
                "Start from the checkpoint and read the rows since its training."
            ) from error
        self._steadier.restore(steadier)
        self._steadied = self._steadier.told
        if ours:
            self._tracker.restore(tracker)
            self._event_us, self._known_us = event_us, known_us
        return self

    def _steady(self, event_us: int, believable: bool) -> list[Change]:
        likely = self._tracker.probabilities.tolist() if believable else None
        found = self._steadied = self._steadier.update(event_us, likely)
        if not found.changed:
            return []
        assert found.regime is not None
        assert found.confidence is not None
        return [Change(event_us, found.regime, found.former, found.confidence)]

    def _is_believable(self, stored: NDArray[np.float64]) -> bool:
        empty = np.count_nonzero(np.isnan(stored) | (stored == 0.0))
        return bool(empty <= self._max_empty * len(stored))
