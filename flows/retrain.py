"""A new candidate on the stored bars of one view: train, judge, and deploy what passes."""

from __future__ import annotations

from datetime import timedelta

from prefect import flow

from atlas.engines import Profile
from atlas.features import feature_set
from atlas.runtime import workflow
from atlas.runtime.installation import Installation
from flows.deploy import deploy, rows_to_watch
from flows.features import compute_features
from flows.gate import gate
from flows.pipeline import Judgement
from flows.train import train

__all__ = ["retrain"]


@flow(name="retrain", timeout_seconds=12 * 3600)
def retrain(
    view: str,
    window_days: int = 60,
    trials: int | None = None,
    seed: int = 0,
    engine: str = "xgboost",
    profile: Profile = "full",
    reason: str = "schedule",
) -> Judgement:
    """Train on the last `window_days` of bars that are known now, by the project's clock.

    A version that passes every gate is deployed: shadow first, then live. Whatever asked for it,
    a schedule, drift or a worse performance, is kept as `reason` in the run's parameters.
    """
    installation = Installation()
    now = installation.clock.now()
    stored = workflow.stored_bars(installation, feature_set(view).interval, until=now)
    since = max(stored.first, stored.last - timedelta(days=window_days))
    compute_features([view], now, since, stored.symbols)
    model, version = train(view, stored.symbols, since, now, trials, seed, engine, profile)
    judged = Judgement(view, model, version, gate(model, version))
    if judged.report.passed and profile == "full":
        rows = rows_to_watch(feature_set(view).interval, len(stored.symbols))
        deploy(model, version, min_rows=rows)
    return judged
