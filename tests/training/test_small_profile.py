"""A version of the profile `verify` is never deployed, whatever its gates say."""

from dataclasses import replace
from pathlib import Path

import pytest
from labelled_market import candidate, frame

from atlas.clock import WallClock
from atlas.config import load_settings
from atlas.engines import Profile
from atlas.gates import GatePolicy
from atlas.runtime import workflow
from atlas.runtime.installation import Installation
from atlas.serving import Stage
from atlas.training import Tracked, file_version, plan_of, train


@pytest.mark.parametrize(("profile", "stage"), [("full", "gated"), ("verify", "rejected")])
def test_only_a_full_profile_becomes_deployable(
    profile: Profile, stage: str, tmp_path: Path
) -> None:
    installation = Installation(load_settings({}, home=tmp_path))
    wanted = replace(candidate(n_trials=1), profile=profile)
    trained = train(wanted, frame())
    dossier = file_version(
        trained,
        Tracked("run", wanted.model, 1),
        home=tmp_path,
        blobs=installation.blobs,
        code_version="0",
        now=WallClock().now(),
    )
    # Gates that ask for next to nothing, so that the profile alone decides.
    lenient = GatePolicy(
        version="lenient",
        win_rate=-1.0,
        walk_forward=-1e9,
        overfitting=2.0,
        drawdown=2.0,
        accuracy=-1.0,
        sharpe=-1e9,
        min_trades=1,
        min_trials=2,
        min_rows_per_block=1,
        n_paths=10,
    )
    report = dossier.judge(lenient, who="tester", now=WallClock().now())
    passed = replace(report, verdicts=tuple(v for v in report.verdicts if v.passed))
    assert passed.passed
    workflow.register_verdict(installation, wanted.model, 1, passed, who="tester")
    state = installation.deployments.state(wanted.model)
    assert state.versions[1].stage is Stage(stage)


def test_verify_is_ten_trials_on_three_folds() -> None:
    plan = plan_of("verify")
    assert (plan.n_trials, plan.n_folds, plan.n_selection) == (10, 3, 1)
    assert plan_of("verify", n_trials=2).n_trials == 2
