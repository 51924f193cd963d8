"""What a gate says, and on what grounds."""

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Self

__all__ = ["ONE_SIDED_95", "Outcome", "Verdict", "plain"]

# Quantile of the normal law behind every bound that is not exact.
ONE_SIDED_95 = 1.6448536269514722

# A share or a ratio that equals its threshold by arithmetic may differ in the last binary digit.
ROUNDING = 1e-12


class Outcome(StrEnum):
    """The three answers; only PASS goes on."""

    PASS = "PASS"
    FAIL = "FAIL"
    INCONCLUSIVE = "INCONCLUSIVE"


@dataclass(frozen=True, slots=True)
class Verdict:
    """One gate's answer, with what it was given on."""

    name: str
    outcome: Outcome
    value: float
    """The figure found; NaN when there is none."""
    threshold: float
    """The figure must be strictly beyond it."""
    bound: float | None
    """One-sided 95 % confidence bound on the unfavourable side, where there is one."""
    n: int
    """Trades, windows, trials or periods that the figure rests on."""
    reason: str

    @property
    def passed(self) -> bool:
        """Whether this gate lets the model through."""
        return self.outcome is Outcome.PASS

    @classmethod
    def above(
        cls, name: str, value: float, *, threshold: float, n: int, bound: float | None = None
    ) -> Self:
        """Pass strictly above the threshold; equal, NaN and infinite fail."""
        passed = _beyond(value, threshold) and value > threshold
        reason = f"{value:.4g} is {'' if passed else 'not '}above {threshold:g}"
        return cls(name, _outcome(passed), value, threshold, bound, n, reason)

    @classmethod
    def below(
        cls, name: str, value: float, *, threshold: float, n: int, bound: float | None = None
    ) -> Self:
        """Pass strictly below the threshold, with the bound too where one is given."""
        judged = value if bound is None else bound
        passed = _beyond(judged, threshold) and value <= judged < threshold
        which = "" if bound is None else "the upper bound "
        reason = f"{which}{judged:.4g} is {'' if passed else 'not '}below {threshold:g}"
        return cls(name, _outcome(passed), value, threshold, bound, n, reason)

    @classmethod
    def inconclusive(
        cls, name: str, *, threshold: float, n: int, needed: int, unit: str, value: float = math.nan
    ) -> Self:
        """Say that there is too little to judge; it does not go on."""
        reason = f"needs {needed} {unit}, found {n}"
        return cls(name, Outcome.INCONCLUSIVE, value, threshold, None, n, reason)

    @classmethod
    def refused(cls, name: str, *, threshold: float, reason: str) -> Self:
        """Fail because the evidence cannot be used."""
        return cls(name, Outcome.FAIL, math.nan, threshold, None, 0, reason)

    def as_dict(self) -> dict[str, Any]:
        """Return the verdict in JSON's types; what is not a number is null."""
        return {
            "name": self.name,
            "outcome": str(self.outcome),
            "value": plain(self.value),
            "threshold": plain(self.threshold),
            "bound": plain(self.bound),
            "n": self.n,
            "reason": self.reason,
        }


def plain(value: float | None) -> float | None:
    """Return a finite Python float, else None: JSON has neither NaN nor infinity."""
    return float(value) if value is not None and math.isfinite(value) else None


def _beyond(value: float, threshold: float) -> bool:
    return math.isfinite(value) and not math.isclose(
        value, threshold, rel_tol=ROUNDING, abs_tol=ROUNDING
    )


def _outcome(passed: bool) -> Outcome:
    return Outcome.PASS if passed else Outcome.FAIL
