"""No feature may know what was not yet known at its time."""

from atlas.gates.evidence import Evidence
from atlas.gates.policy import GatePolicy
from atlas.gates.verdict import Outcome, Verdict

__all__ = ["LEAKS_REFUSED", "point_in_time"]

# From the first on. No policy loosens it: a leak is an error in the data, not a weakness.
LEAKS_REFUSED = 1


def point_in_time(evidence: Evidence, policy: GatePolicy) -> Verdict:
    """Judge the audit of the features, where the evidence carries one.

    Each audited row's features were computed again from only the data known at the row's time; a
    feature that came out otherwise has leaked, and every other figure of the evidence with it.
    """
    audited, leaked = evidence.audited or 0, evidence.leaked
    if not audited:
        return Verdict.inconclusive(
            "point_in_time", threshold=LEAKS_REFUSED, n=0, needed=1, unit="rows audited"
        )
    verdict = Verdict.below("point_in_time", float(len(leaked)), threshold=LEAKS_REFUSED, n=audited)
    if not leaked:
        return verdict
    return Verdict(
        "point_in_time",
        Outcome.FAIL,
        verdict.value,
        verdict.threshold,
        None,
        audited,
        f"{', '.join(leaked)}: other values from only what was known at the time",
    )
