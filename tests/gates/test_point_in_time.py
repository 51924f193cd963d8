"""A feature that knows the future fails its model, whatever the model earns."""

import json

import pytest

from atlas.errors import InvalidInput
from atlas.gates import Outcome, judge


def test_features_that_came_out_the_same_pass(changed, quick):
    report = judge(changed(audited=200), quick)
    verdict = report["point_in_time"]
    assert (verdict.outcome, verdict.value, verdict.n) == (Outcome.PASS, 0.0, 200)
    assert report.passed


def test_a_feature_that_leaked_fails_a_model_that_passes_everything_else(changed, quick):
    report = judge(changed(audited=200, leaked=("rsi_14", "peek")), quick)
    verdict = report["point_in_time"]
    assert [each.name for each in report.verdicts if not each.passed] == ["point_in_time"]
    assert (verdict.outcome, verdict.value, verdict.n) == (Outcome.FAIL, 2.0, 200)
    assert verdict.reason.startswith("peek, rsi_14: ")
    assert report.outcome is Outcome.FAIL


def test_an_audit_of_no_row_concludes_nothing(changed, quick):
    report = judge(changed(audited=0), quick)
    assert report["point_in_time"].outcome is Outcome.INCONCLUSIVE
    assert not report.passed


def test_evidence_without_an_audit_is_judged_as_before(skilled, quick):
    assert "point_in_time" not in {verdict.name for verdict in judge(skilled, quick).verdicts}


def test_the_audit_is_part_of_the_evidence(skilled, changed):
    audits = [
        skilled,
        changed(audited=0),
        changed(audited=1),
        changed(audited=1, leaked=("a",)),
        changed(audited=1, leaked=("a", "b")),
    ]
    assert len({evidence.digest for evidence in audits}) == len(audits)
    found = json.loads(json.dumps(audits[-1].as_dict()))
    assert (found["audited"], found["leaked"]) == (1, ["a", "b"])


@pytest.mark.parametrize(
    "audit",
    [
        {"audited": -1},
        {"audited": 0.5},
        {"audited": True},
        {"audited": "200"},
        {"leaked": ("a",)},
        {"audited": 0, "leaked": ("a",)},
        {"audited": 9, "leaked": "rsi_14"},
        {"audited": 9, "leaked": (1,)},
        {"audited": 9, "leaked": ("",)},
        {"audited": 9, "leaked": None},
    ],
)
def test_an_audit_that_cannot_be_is_refused(changed, audit):
    with pytest.raises(InvalidInput, match=r"audited|leaked"):
        changed(**audit)
