"""What MLflow is told of a training run: enough to say later why a version is what it is."""

from __future__ import annotations

import json
import math
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import polars as pl

from atlas.gates import Report
from atlas.stats import sharpe_ratio
from atlas.training.trainer import Trained

__all__ = ["Tracked", "record_report", "track"]

# A server or a worker has no screen.
matplotlib.use("Agg")


@dataclass(frozen=True, slots=True)
class Tracked:
    """Where MLflow keeps a run and the version that it registered."""

    run_id: str
    model: str
    version: int


def track(
    trained: Trained, *, tracking_uri: str, experiment: str, artifacts: Path, code_version: str
) -> Tracked:
    """Log a run with its parameters, data, metrics, trials and figures; register a version.

    Parameters
    ----------
    artifacts : Path
        Where a new experiment keeps its files, unless a tracking server decides that.
    """
    import mlflow
    import mlflow.xgboost
    from mlflow.models import infer_signature

    mlflow.set_tracking_uri(tracking_uri)
    _set_experiment(experiment, artifacts)
    model = trained.candidate.model
    dataset = trained.frame.dataset()
    with mlflow.start_run(run_name=model) as run:
        mlflow.log_params(_parameters(trained))
        mlflow.log_metrics(_metrics(trained))
        mlflow.set_tags(
            {
                "model": model,
                "features": ",".join(trained.frame.features),
                "feature_hash": trained.feature_hash,
                "data_hash": trained.frame.digest,
                "code_version": code_version,
            }
        )
        with tempfile.TemporaryDirectory() as folder:
            _write_files(trained, Path(folder))
            mlflow.log_artifacts(folder)
        sample = dataset.X[:100]
        mlflow.xgboost.log_model(
            trained.engine.booster_,
            name="model",
            model_format="ubj",
            signature=infer_signature(sample, trained.engine.predict(sample)[:, 1]),
            registered_model_name=model,
            # Given, since inferring them loads the model in a process of its own: 6 s.
            pip_requirements=["xgboost-cpu", "numpy"],
        )
    client = mlflow.MlflowClient(tracking_uri)
    versions = client.search_model_versions(f"name = '{model}' and run_id = '{run.info.run_id}'")
    return Tracked(run.info.run_id, model, max(int(version.version) for version in versions))


def record_report(report: Report, run_id: str, *, tracking_uri: str) -> None:
    """Add the gates' verdicts to the run of the version that they judged."""
    import mlflow

    client = mlflow.MlflowClient(tracking_uri)
    client.log_dict(run_id, report.as_dict(), "gate_report.json")
    client.set_tag(run_id, "gates", str(report.outcome))
    for verdict in report.verdicts:
        client.set_tag(run_id, f"gate_{verdict.name}", str(verdict.outcome))
        if math.isfinite(verdict.value):
            client.log_metric(run_id, f"gate_{verdict.name}", verdict.value)


def _set_experiment(name: str, artifacts: Path) -> None:
    import mlflow

    local = mlflow.get_tracking_uri().startswith("sqlite:")
    if mlflow.get_experiment_by_name(name) is None:
        location = artifacts.resolve().as_uri() if local else None
        mlflow.create_experiment(name, artifact_location=location)
    mlflow.set_experiment(name)


def _parameters(trained: Trained) -> dict[str, Any]:
    candidate, frame = trained.candidate, trained.frame
    times = frame.rows["event_timestamp"]
    return {
        **trained.best.parameters,
        "engine": trained.engine.name,
        "threshold": trained.best.threshold,
        **{f"target_{name}": value for name, value in asdict(candidate.target).items()},
        **{f"search_{name}": value for name, value in asdict(candidate.search).items()},
        **asdict(candidate.costs),
        "view": candidate.features.view,
        "symbols": ",".join(frame.rows["symbol"].unique().sort()),
        "first_row": str(times.min()),
        "last_row": str(times.max()),
        "rows": frame.rows.height,
        "rows_unusable": frame.unusable,
    }


def _metrics(trained: Trained) -> dict[str, float]:
    best, evidence = trained.best, trained.evidence
    trades = best.trade_returns
    inside = np.concatenate(best.in_sample)
    return {
        "accuracy": float(best.hits.mean()),
        "sharpe_per_period": best.sharpe,
        "sharpe_per_period_in_sample": float(sharpe_ratio(inside)),
        "net_return": float(best.returns.sum()),
        "trades": float(trades.size),
        "win_rate": float((trades > 0).mean()) if trades.size else 0.0,
        "trials": float(len(trained.trials)),
        "periods": float(evidence.n_periods),
    }


def _write_files(trained: Trained, folder: Path) -> None:
    returns = {f"trial_{trial.number}": trial.returns for trial in trained.trials}
    pl.DataFrame(returns).write_parquet(folder / "trial_returns.parquet")
    trials = [
        {
            "number": trial.number,
            "parameters": dict(trial.parameters),
            "threshold": trial.threshold,
            "sharpe_per_period": trial.sharpe,
            "trades": int(trial.trade_returns.size),
        }
        for trial in trained.trials
    ]
    (folder / "trials.json").write_text(json.dumps(trials, indent=1))
    _draw_importance(trained, folder / "feature_importance.png")
    _draw_confusion(trained, folder / "confusion_matrix.png")


def _draw_importance(trained: Trained, path: Path) -> None:
    from matplotlib.figure import Figure

    gain = trained.engine.booster_.get_score(importance_type="gain")
    names = sorted(trained.frame.features, key=lambda name: gain.get(name, 0.0))
    figure = Figure(figsize=(7, 0.28 * len(names) + 1.2), layout="constrained")
    axes = figure.subplots()
    axes.barh(names, [gain.get(name, 0.0) for name in names], color="#3b6ea5")
    axes.set_xlabel("gain")
    axes.set_title(f"What {trained.candidate.model} splits on")
    figure.savefig(path, dpi=110)


def _draw_confusion(trained: Trained, path: Path) -> None:
    from matplotlib.figure import Figure

    dataset = trained.frame.dataset()
    up, said = dataset.y > 0, trained.engine.predict(dataset.X)[:, 1] > 0.5
    counts = np.array([[np.sum((up == a) & (said == b)) for b in (0, 1)] for a in (0, 1)])
    figure = Figure(figsize=(4, 3.6), layout="constrained")
    axes = figure.subplots()
    axes.imshow(counts, cmap="Blues")
    for row, column in np.ndindex(2, 2):
        axes.text(column, row, f"{counts[row, column]}", ha="center", va="center")
    axes.set_xticks([0, 1], ["down", "up"])
    axes.set_yticks([0, 1], ["down", "up"])
    axes.set_xlabel("said")
    axes.set_ylabel("was")
    axes.set_title("Barrier labels, final fit (in sample)")
    figure.savefig(path, dpi=110)
