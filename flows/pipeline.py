"""Everything in one run: candles to judged models, and to live for the one that passed."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from prefect import flow

from atlas.features import feature_set
from atlas.gates import Report
from atlas.runtime.installation import Installation
from flows.deploy import deploy, rows_to_watch
from flows.features import compute_features
from flows.gate import gate
from flows.ingest import ingest
from flows.materialise import materialise
from flows.train import train

__all__ = ["Judgement", "judge_candidates", "pipeline"]


@dataclass(frozen=True, slots=True)
class Judgement:
    """A trained version and what the gates said of it."""

    view: str
    model: str
    version: int
    report: Report


@flow(name="judge-candidates", timeout_seconds=12 * 3600)
def judge_candidates(
    views: list[str],
    symbols: list[str],
    since: datetime,
    until: datetime,
    trials: int | None = None,
    seed: int = 0,
) -> list[Judgement]:
    """Train and judge one candidate a view."""
    judgements = []
    for view in views:
        model, version = train(view, symbols, since, until, trials, seed)
        judgements.append(Judgement(view, model, version, gate(model, version)))
    return judgements


@flow(name="pipeline", timeout_seconds=24 * 3600)
def pipeline(
    data: str,
    views: list[str],
    symbols: list[str],
    since: datetime,
    until: datetime | None = None,
    trials: int | None = None,
    seed: int = 0,
) -> list[Judgement]:
    """Ingest, compute, materialise, train, judge, and deploy the first candidate that passes."""
    moment = until or Installation().clock.now()
    ingest(data)
    compute_features(views, moment, since, symbols)
    materialise(views, moment)
    judgements = judge_candidates(views, symbols, since, moment, trials, seed)
    for judged in judgements:
        if judged.report.passed:
            rows = rows_to_watch(feature_set(judged.view).interval, len(symbols))
            deploy(judged.model, judged.version, min_rows=rows)
            break
    return judgements
