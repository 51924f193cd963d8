"""A model version serves after every check, or not at all."""

from dataclasses import replace

import numpy as np
import pytest
from serving_desk import HASH, MODEL, PLAN, trained

from atlas.errors import (
    ArtifactCorrupt,
    DeploymentRefused,
    FeatureMismatch,
    InvalidInput,
    UnknownInterval,
)
from atlas.inference.candidate import Tally, check_role, make_ready
from atlas.serving import Stage, feature_hash

OTHER = replace(PLAN, features=(*PLAN.features[1:], PLAN.features[0]))


def test_a_sound_candidate_scores_as_when_it_was_trained(desk):
    served = make_ready(desk.manifest(1, Stage.SHADOW), desk.blobs)
    row = desk.rows(1).astype(np.float32)
    assert served.engine.score(row) == trained(1).engine.score(row)


def test_a_damaged_blob_is_refused(desk):
    manifest = desk.manifest(1, Stage.SHADOW)
    path = desk.blobs.home.folder / manifest.blob[:2] / manifest.blob
    path.write_bytes(path.read_bytes()[:-1] + b"\0")
    with pytest.raises(ArtifactCorrupt, match=manifest.blob):
        make_ready(manifest, desk.blobs)


@pytest.mark.parametrize(
    ("changes", "error", "says"),
    [
        ({"blob": "0" * 64}, ArtifactCorrupt, "found none"),
        ({"feature_hash": "0" * 16}, FeatureMismatch, "has " + HASH),
        (
            {"plan": OTHER, "feature_hash": feature_hash(OTHER.view, OTHER.features)},
            FeatureMismatch,
            "Out of order",
        ),
        ({"golden_rows": (), "golden_scores": ()}, DeploymentRefused, "golden"),
        ({"golden_scores": (0.5,) * 3}, DeploymentRefused, "3 scores"),
        ({"golden_scores": (0.5,) * 4}, DeploymentRefused, "difference of"),
        ({"golden_scores": (float("nan"),) * 4}, DeploymentRefused, "difference of"),
        ({"engine": "pickle"}, InvalidInput, "pickle"),
        ({"interval": "7m"}, UnknownInterval, "7m"),
        ({"threshold": 0.5}, DeploymentRefused, "threshold"),
        ({"decision_bars": 0}, DeploymentRefused, "decision"),
        ({"task": "return"}, InvalidInput, "tells the return"),
        ({"window": 60}, DeploymentRefused, "keep the 60 last rows"),
    ],
)
def test_a_candidate_that_fails_a_check_is_refused(desk, changes, error, says):
    with pytest.raises(error, match=says):
        make_ready(desk.manifest(1, Stage.SHADOW, **changes), desk.blobs)


def test_another_models_bytes_are_refused(desk):
    manifest = desk.manifest(1, Stage.SHADOW, blob=desk.blobs.put(trained(2).data))
    with pytest.raises(DeploymentRefused, match="golden rows"):
        make_ready(manifest, desk.blobs)


def test_a_shadow_goes_live_without_being_fetched_again(desk):
    shadow = make_ready(desk.manifest(1, Stage.SHADOW), desk.blobs)
    path = desk.blobs.home.folder / shadow.manifest.blob[:2] / shadow.manifest.blob
    path.unlink()
    live = make_ready(desk.manifest(1, Stage.LIVE), desk.blobs, loaded=shadow)
    assert (live.engine, live.manifest.stage) == (shadow.engine, Stage.LIVE)


def test_a_rejected_version_is_never_taken_for_live(desk):
    with pytest.raises(DeploymentRefused, match="stage rejected"):
        check_role(desk.manifest(1, Stage.REJECTED), Stage.LIVE, MODEL)


def test_a_tally_remembers_the_slowest_of_the_recent_predictions():
    tally = Tally(rows=200, errors=1)
    tally.latencies_us.extend([100] * 198 + [900] * 2)
    served = tally.snapshot()
    assert (served.rows, served.errors) == (200, 1)
    assert 100 < served.latency_p99_us <= 900
