"""What a desk is told of a symbol's regime: the model's word, steadied against flicker.

A change is told when the new regime is likely enough, likelier than the present one by a margin,
the present one has lasted its minimum, and not too many changes lie behind. Otherwise the present
one stands, and why is said.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Any, Self

from atlas.errors import ArtifactCorrupt, InvalidInput

__all__ = ["Held", "Steadied", "Steadier", "SteadyRules"]

_FORMAT = "atlas-regime-steady/1"
_HOUR_US = 3_600_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class SteadyRules:
    """When a change of regime is told."""

    min_confidence: float = 0.70
    """Probability that a regime must reach."""
    margin: float = 0.10
    """Hysteresis: by how much likelier than the present regime it must be."""
    min_dwell: timedelta = timedelta(hours=2)
    """How long a regime stands at least once it was told."""
    max_changes: int = 10
    """Changes in any hour."""

    def __post_init__(self) -> None:
        fits = 0 < self.min_confidence <= 1 and 0 <= self.margin < 1 and self.max_changes >= 1
        if not fits or self.min_dwell < timedelta(0):
            raise InvalidInput(
                "Expected a confidence in (0, 1], a margin in [0, 1), at least one change an hour "
                f"and a dwell from 0; found {self}."
            )


class Held(StrEnum):
    """Why the likeliest regime is not the one that is told."""

    INPUTS = "inputs"
    """The row says too little to be believed."""
    CONFIDENCE = "confidence"
    """It is not likely enough."""
    MARGIN = "margin"
    """It is hardly likelier than the present one."""
    DWELL = "dwell"
    """The present one has not lasted its minimum."""
    CHANGES = "changes"
    """There were as many changes within the hour as there may be."""


@dataclass(frozen=True, slots=True)
class Steadied:
    """What is told after a row."""

    regime: int | None
    """None before the first that was likely enough."""
    confidence: float | None
    """Probability of that regime by the last row that could be believed."""
    since_us: int | None
    """Event time of the row that it is told since."""
    former: int | None
    """The regime before, where this row changed it."""
    changed: bool
    held: Held | None


class Steadier:
    """Remembers which regime is told and when it changed; rows come in order of their events."""

    def __init__(self, rules: SteadyRules) -> None:
        self._rules = rules
        self._event_us: int | None = None
        self._regime: int | None = None
        self._confidence: float | None = None
        self._since_us: int | None = None
        self._changes_us: list[int] = []

    @property
    def event_us(self) -> int | None:
        """Event time of the last row, None before the first."""
        return self._event_us

    @property
    def told(self) -> Steadied:
        """What is told now, without what the last row made of it."""
        return self._told()

    def update(self, event_us: int, probabilities: Sequence[float] | None) -> Steadied:
        """Take in a row and return what is told now.

        Parameters
        ----------
        event_us : int
            Event time in microseconds since 1970, later than the last one.
        probabilities : sequence of float or None
            Of each regime, by its name; None where the row cannot be believed.

        Raises
        ------
        InvalidInput
            If the row is not later than the last one.
        """
        if self._event_us is not None and event_us <= self._event_us:
            raise InvalidInput(
                f"Expected a row after {self._event_us}; found one of {event_us}. Each row is read "
                "once, in order."
            )
        self._event_us = event_us
        self._changes_us = [at for at in self._changes_us if at > event_us - _HOUR_US]
        if probabilities is None:
            return self._told(held=Held.INPUTS)
        best = max(range(len(probabilities)), key=probabilities.__getitem__)
        known = self._regime is not None and self._regime < len(probabilities)
        present = probabilities[self._regime] if known and self._regime is not None else 0.0
        held = None if best == self._regime else self._objection(probabilities[best], present)
        if best == self._regime or held is not None:
            self._confidence = present if self._regime is not None else None
            return self._told(held=held)
        former, self._regime = self._regime, best
        self._confidence, self._since_us = probabilities[best], event_us
        self._changes_us.append(event_us)
        return self._told(former=former, changed=True)

    def snapshot(self) -> dict[str, Any]:
        """Return what is remembered as JSON-able fields, from which `restore` goes on."""
        return {
            "format": _FORMAT,
            "event_us": self._event_us,
            "regime": self._regime,
            "confidence": self._confidence,
            "since_us": self._since_us,
            "changes_us": list(self._changes_us),
        }

    def restore(self, snapshot: Any) -> Self:
        """Go on where a snapshot left off.

        Raises
        ------
        ArtifactCorrupt
            If it is none.
        """
        try:
            if snapshot["format"] != _FORMAT:
                raise ValueError(f"format {snapshot['format']!r}")
            whole = [snapshot[name] for name in ("event_us", "regime", "since_us")]
            changes = list(snapshot["changes_us"])
            confidence = snapshot["confidence"]
            fits = all(n is None or type(n) is int for n in whole)
            fits = fits and all(type(n) is int for n in changes)
            if not fits or not (confidence is None or math.isfinite(confidence)):
                raise ValueError("fields of other kinds")
        except (ValueError, TypeError, KeyError) as error:
            raise ArtifactCorrupt(
                f"Expected what Steadier.snapshot returned; found {json.dumps(snapshot)[:80]} "
                f"({error}). Start anew and read the rows since."
            ) from error
        self._event_us, self._regime, self._since_us = whole
        self._confidence, self._changes_us = confidence, changes
        return self

    def _objection(self, likely: float, present: float) -> Held | None:
        rules = self._rules
        if not likely >= rules.min_confidence:  # NaN fails
            return Held.CONFIDENCE
        if self._regime is None:
            return None
        if likely - present < rules.margin:
            return Held.MARGIN
        assert self._since_us is not None
        assert self._event_us is not None
        if timedelta(microseconds=self._event_us - self._since_us) < rules.min_dwell:
            return Held.DWELL
        return Held.CHANGES if len(self._changes_us) >= rules.max_changes else None

    def _told(
        self, *, former: int | None = None, changed: bool = False, held: Held | None = None
    ) -> Steadied:
        return Steadied(self._regime, self._confidence, self._since_us, former, changed, held)
