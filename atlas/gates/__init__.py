"""The gates: no model goes on unless every one of them passes on its evidence."""

from atlas.gates.context import Context
from atlas.gates.conventions import CONVENTIONS
from atlas.gates.desk import desk_policy
from atlas.gates.evidence import Evidence
from atlas.gates.judge import judge
from atlas.gates.policy import GatePolicy
from atlas.gates.report import Report
from atlas.gates.verdict import Outcome, Verdict

__all__ = [
    "CONVENTIONS",
    "Context",
    "Evidence",
    "GatePolicy",
    "Outcome",
    "Report",
    "Verdict",
    "desk_policy",
    "judge",
]
