"""The verdicts of all gates on one model, for machines and for people."""

from dataclasses import dataclass
from typing import Any

from atlas.gates.context import Context
from atlas.gates.policy import GatePolicy
from atlas.gates.verdict import Outcome, Verdict

__all__ = ["Report"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What the gates said about one model; it goes on only if every gate passed."""

    verdicts: tuple[Verdict, ...]
    context: Context
    evidence: dict[str, Any]
    """What identifies the evidence, with its digest."""
    policy: GatePolicy

    @property
    def outcome(self) -> Outcome:
        """PASS if every gate passed, FAIL if any failed, else INCONCLUSIVE."""
        outcomes = {verdict.outcome for verdict in self.verdicts}
        if Outcome.FAIL in outcomes or not outcomes:
            return Outcome.FAIL
        return Outcome.INCONCLUSIVE if Outcome.INCONCLUSIVE in outcomes else Outcome.PASS

    @property
    def passed(self) -> bool:
        """Whether the model may become a shadow."""
        return self.outcome is Outcome.PASS

    def __getitem__(self, name: str) -> Verdict:
        """Return the verdict of one gate by its name."""
        for verdict in self.verdicts:
            if verdict.name == name:
                return verdict
        raise KeyError(name)

    def as_dict(self) -> dict[str, Any]:
        """Return the whole report in JSON's types."""
        return {
            "outcome": str(self.outcome),
            "passed": self.passed,
            "verdicts": [verdict.as_dict() for verdict in self.verdicts],
            "context": self.context.as_dict(),
            "evidence": dict(self.evidence),
            "policy": self.policy.as_dict(),
        }

    def table(self) -> list[tuple[str, ...]]:
        """Return rows of text, one a gate, with the heading first."""
        heading = ("gate", "outcome", "value", "threshold", "bound", "n", "reason")
        return [heading, *(_row(verdict) for verdict in self.verdicts)]


def _row(verdict: Verdict) -> tuple[str, ...]:
    return (
        verdict.name,
        str(verdict.outcome),
        f"{verdict.value:.4g}",
        f"{verdict.threshold:g}",
        "" if verdict.bound is None else f"{verdict.bound:.4g}",
        str(verdict.n),
        verdict.reason,
    )
