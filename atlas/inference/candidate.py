"""How a model version is made ready to serve, or refused: nothing half checked is ever served."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from atlas.bus import Served
from atlas.engines import Engine, Task, check_features, load_engine
from atlas.errors import DeploymentRefused, FeatureMismatch
from atlas.inference.lane import Lane
from atlas.market import interval_of
from atlas.serving import Manifest, Stage, feature_hash

__all__ = ["Blobs", "ServedModel", "Tally", "check_role", "make_ready"]

# The same bytes score the same row to the last bit on one build; another build may round once more.
_GOLDEN_TOLERANCE = 1e-6
_WARM_UPS = 3
_LATENCIES = 1_024


class Blobs(Protocol):
    """Where the bytes of models are, by their SHA-256."""

    def get(self, name: str) -> bytes:
        """Return the bytes of that hash, verified."""
        ...


@dataclass(slots=True)
class Tally:
    """How one model version fares since it was loaded."""

    rows: int = 0
    errors: int = 0
    latencies_us: deque[int] = field(default_factory=lambda: deque(maxlen=_LATENCIES))

    def snapshot(self) -> Served:
        """Return the counts as an acknowledgement says them."""
        recent = self.latencies_us
        p99 = float(np.percentile(np.fromiter(recent, np.float64), 99)) if recent else 0.0
        return Served(rows=self.rows, errors=self.errors, latency_p99_us=p99)


@dataclass(frozen=True, slots=True)
class ServedModel:
    """One model version that has passed every check here and can be asked for scores."""

    manifest: Manifest
    engine: Engine
    interval_us: int
    tally: Tally
    lane: Lane


def make_ready(
    manifest: Manifest,
    blobs: Blobs,
    *,
    loaded: ServedModel | None = None,
    trusted: Collection[str] = (),
) -> ServedModel:
    """Fetch, verify, check, try on the golden rows and warm up one model version.

    Parameters
    ----------
    loaded : ServedModel or None
        The same blob in another role: a shadow that goes live is checked again, not fetched.
    trusted : collection of str
        Dotted paths of the desk's own engines that may be loaded here.

    Raises
    ------
    ArtifactCorrupt
        If the blob is not the bytes that its name promises.
    FeatureMismatch
        If the feature hash, the plan and the model disagree.
    DeploymentRefused
        If it has no golden rows, or scores them otherwise than when it was trained.
    """
    # Cheap checks first: a manifest that contradicts itself need not be fetched.
    _check_manifest(manifest)
    if loaded is None or loaded.manifest.blob != manifest.blob:
        data = blobs.get(manifest.blob)
        engine, tally = _load(manifest, data, trusted), Tally()
        lane = Lane(engine, is_probability=manifest.task == "direction")
    else:
        engine, tally, lane = loaded.engine, loaded.tally, loaded.lane
    check_features(engine.features_, manifest.plan.features, model=_name(manifest))
    if engine.window != manifest.window:
        raise DeploymentRefused(
            f"Expected {_name(manifest)} to look at {manifest.window} rows, as its manifest says; "
            f"its engine looks at {engine.window}. Register it again."
        )
    _try_golden_rows(manifest, engine)
    return ServedModel(manifest, engine, interval_of(manifest.interval).micros, tally, lane)


def check_role(manifest: Manifest, expected: Stage, model: str) -> None:
    """Raise unless the manifest belongs where its model's route names it.

    Raises
    ------
    DeploymentRefused
        A rejected version that a route calls live must not trade.
    """
    if manifest.stage is not expected or manifest.model != model:
        raise DeploymentRefused(
            f"Expected the {expected} version of {model} in its route; found {_name(manifest)} "
            f"at stage {manifest.stage}. Write the route again from the deployment log."
        )


def _load(manifest: Manifest, data: bytes, trusted: Collection[str]) -> Engine:
    task: Task = "return" if manifest.task == "return" else "direction"
    return load_engine(manifest.engine, data, task=task, n_threads=1, trusted=trusted)


def _try_golden_rows(manifest: Manifest, engine: Engine) -> None:
    rows = np.array(manifest.golden_rows, dtype=np.float64).astype(np.float32)
    if manifest.window > 1:
        rows = rows.reshape(len(rows), manifest.window, len(manifest.plan.features))
    scores = engine.score(rows).astype(np.float64)
    expected = np.array(manifest.golden_scores, dtype=np.float64)
    worst = float(np.abs(scores - expected).max()) if scores.shape == expected.shape else np.inf
    if not worst <= _GOLDEN_TOLERANCE:  # NaN fails
        raise DeploymentRefused(
            f"Expected {_name(manifest)} to score its {len(expected)} golden rows as when it was "
            f"trained, to {_GOLDEN_TOLERANCE}; found a difference of {worst:.3g}. Its blob, its "
            "engine's release or its golden rows are not those of its training: train it again."
        )
    for _ in range(_WARM_UPS):
        engine.score(rows[:1])


def _check_manifest(manifest: Manifest) -> None:
    plan = manifest.plan
    promised = feature_hash(plan.view, plan.features)
    if manifest.feature_hash != promised:
        raise FeatureMismatch(
            f"{_name(manifest)} was trained on features with hash {manifest.feature_hash}; its "
            f"read plan of {len(plan.features)} features of {plan.view} has {promised}. "
            "Compile the plan again, or roll back to an earlier version."
        )
    manifest.require_history()
    width = manifest.window * len(plan.features)
    n_rows, widths = len(manifest.golden_rows), {len(row) for row in manifest.golden_rows}
    if n_rows == 0 or n_rows != len(manifest.golden_scores) or widths != {width}:
        raise DeploymentRefused(
            f"Expected {_name(manifest)} to bring golden rows of {width} values, {manifest.window} "
            f"× {len(plan.features)} features, and a score for each; found {n_rows} rows of widths "
            f"{sorted(widths)} and {len(manifest.golden_scores)} scores. Register it with a golden "
            "sample."
        )
    if not 0.0 <= manifest.threshold < 0.5 or manifest.decision_bars < 1:
        raise DeploymentRefused(
            f"Expected {_name(manifest)} to have a threshold in [0, 0.5) and at least one decision "
            f"bar; found {manifest.threshold} and {manifest.decision_bars}. Register it again."
        )


def _name(manifest: Manifest) -> str:
    return f"{manifest.model}/{manifest.version}"
