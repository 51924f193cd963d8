"""Two versions of one model with their files: the first is skilled, the second learned noise."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl

from atlas.config import load_settings
from atlas.features import feature_set
from atlas.gates import Evidence
from atlas.ingest import MarketRecipe, simulate
from atlas.runtime import workflow
from atlas.runtime.installation import Installation
from atlas.training import SearchPlan, candidate_for, join_features, label_events, train

MODEL = "direction_lunar_1m"


def file_versions(home: Path) -> None:
    """Train on what is noise, and file it beside a version that has something to show."""
    bars = simulate(MarketRecipe(days=6, seed=3))
    features = feature_set("lunar_1m")
    candidate = candidate_for(features, search=SearchPlan(n_trials=2, n_folds=3, n_selection=1))
    rows = features.compute(bars.lazy()).collect()

    def join(_: str, keys: pl.DataFrame) -> object:
        return keys.join(
            rows, on=["symbol", "event_timestamp"], how="left", maintain_order="left"
        ).to_arrow()

    events = label_events(bars, features.interval, candidate.target)
    frame = join_features(events, candidate, join, min_rows=100)  # type: ignore[arg-type]
    trained = train(candidate, frame)
    installation = Installation(load_settings({}, home=home))
    evidence = skilled(trained.evidence)
    hours = np.arange(evidence.n_periods) * 3_600_000_000
    workflow.keep_version(installation, replace(trained, evidence=evidence, periods_us=hours))
    workflow.keep_version(installation, trained)


def skilled(evidence: Evidence) -> Evidence:
    """Return the evidence of another search, whose winner earns a third of its deviation."""
    rng = np.random.default_rng(42)
    trials = rng.normal(0, 0.003, (1_440, 12))
    trials[:, 0] += 0.001
    windows = tuple(np.array_split(trials[:, 0], 6))
    return replace(
        evidence,
        trial_returns=trials,
        selected=0,
        in_sample=windows[:-1],
        out_of_sample=windows[1:],
        trade_returns=trials[:, 0],
        hits=rng.random(1_000) < 0.6,
    )
