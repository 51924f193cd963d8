"""What MLflow is told of a training run: enough to say later why a version is what it is."""

from __future__ import annotations

import hashlib
import json
import math
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from atlas.engines import XGBoostEngine
from atlas.gates import Report
from atlas.telemetry import get_logger
from atlas.training.cost import Prices
from atlas.training.figures import contributions, draw_figures, importance
from atlas.training.metrics import metrics_of
from atlas.training.trainer import Trained

__all__ = ["Tracked", "record_report", "track"]

log = get_logger(__name__)

_EXAMPLE_ROWS = 5
_SIGNATURE_ROWS = 100


@dataclass(frozen=True, slots=True)
class Tracked:
    """Where MLflow keeps a run and the version that it registered."""

    run_id: str
    model: str
    version: int
    price: float = 0.0
    """Of the training, at the desk's prices."""


def track(
    trained: Trained,
    *,
    tracking_uri: str,
    experiment: str,
    artifacts: Path,
    code_version: str,
    prices: Prices | None = None,
    budget: float | None = None,
    encrypted: bool = False,
) -> Tracked:
    """Log a run with its parameters, data, metrics, trials, figures and cost; register a version.

    Parameters
    ----------
    artifacts : Path
        Where a new experiment keeps its files, unless a tracking server decides that.
    prices : Prices, optional
        Of an hour of processor and of GPU; 0 if not given.
    budget : float, optional
        Price above which the run is tagged `over_budget` and the log warns.
    encrypted : bool
        Whether models are kept encrypted. MLflow then holds what is known of the version and its
        bytes' hash; neither the model, nor rows it was trained on, nor what explains it.
    """
    import mlflow

    mlflow.set_tracking_uri(tracking_uri)
    _set_experiment(experiment, artifacts)
    model = trained.candidate.model
    price = (prices or Prices()).of(trained.cost)
    over = budget is not None and price > budget
    tags = {
        "model": model,
        "engine": trained.engine.name,
        "profile": trained.candidate.profile,
        "features": ",".join(trained.frame.features),
        "feature_hash": trained.feature_hash,
        "data_hash": trained.frame.digest,
        "code_version": code_version,
        "over_budget": str(over).lower(),
        "blob": hashlib.sha256(trained.engine.dump()).hexdigest(),
        "encrypted": str(encrypted).lower(),
    }
    with mlflow.start_run(run_name=model) as run:
        mlflow.log_params(_parameters(trained))
        mlflow.log_metrics(_finite(metrics_of(trained)))
        mlflow.log_metrics(
            {
                "cost_cpu_seconds": trained.cost.cpu_s,
                "cost_gpu_seconds": trained.cost.gpu_s,
                "cost_price": price,
            }
        )
        mlflow.set_tags(tags)
        with tempfile.TemporaryDirectory() as folder:
            _write_files(trained, Path(folder), revealing=not encrypted)
            mlflow.log_artifacts(folder)
        _log_model(trained, encrypted=encrypted)
    client = mlflow.MlflowClient(tracking_uri)
    found = client.search_model_versions(f"name = '{model}' and run_id = '{run.info.run_id}'")
    version = max(int(each.version) for each in found)
    for name, value in tags.items():
        client.set_model_version_tag(model, str(version), name, value)
    client.set_registered_model_alias(model, "newest", str(version))
    if over:
        log.warning(
            "training_over_budget", model=model, version=version, price=price, budget=budget
        )
    return Tracked(run.info.run_id, model, version, price)


def record_report(
    report: Report, run_id: str, *, tracking_uri: str, model: str, version: int, page: str = ""
) -> None:
    """Add the gates' verdicts to the run and to the version that they judged.

    Parameters
    ----------
    page : str, optional
        The report as HTML.
    """
    import mlflow

    client = mlflow.MlflowClient(tracking_uri)
    client.log_dict(run_id, report.as_dict(), "gate_report.json")
    if page:
        client.log_text(run_id, page, "gate_report.html")
    client.set_tag(run_id, "gates", str(report.outcome))
    client.set_model_version_tag(model, str(version), "gates", str(report.outcome))
    for verdict in report.verdicts:
        client.set_tag(run_id, f"gate_{verdict.name}", str(verdict.outcome))
        if math.isfinite(verdict.value):
            client.log_metric(run_id, f"gate_{verdict.name}", verdict.value)
    if report.passed:
        client.set_registered_model_alias(model, "gated", str(version))


def _log_model(trained: Trained, *, encrypted: bool) -> None:
    """Register the model: XGBoost's in its own form, so that other tools read it, or ours.

    One that is kept encrypted is registered with its signature and its hash alone.
    """
    import mlflow.xgboost
    from mlflow.models import Model, infer_signature

    from atlas.training import mlflow_flavor

    dataset, engine = trained.dataset, trained.engine
    given: dict[str, Any] = {
        "name": "model",
        "registered_model_name": trained.candidate.model,
        # Given, since inferring them loads the model in a process of its own: 6 s.
        "pip_requirements": ["atlas-desk"],
    }
    rows = np.arange(min(_SIGNATURE_ROWS, len(dataset)))
    if isinstance(engine, XGBoostEngine) and not encrypted:
        sample = pl.DataFrame(dataset.X[rows], schema=list(dataset.features)).to_pandas()
        mlflow.xgboost.log_model(
            engine.booster_,
            model_format="ubj",
            signature=infer_signature(sample, engine.predict(dataset.X[rows])[:, -1]),
            **given | {"pip_requirements": ["xgboost-cpu", "numpy", "pandas"]},
        )
        return
    seen = _seen(trained, rows)
    Model.log(
        flavor=mlflow_flavor,
        engine=engine,
        with_bytes=not encrypted,
        signature=infer_signature(seen, engine.predict(seen)),
        artifact_path=None,
        **given,
    )


def _seen(trained: Trained, rows: NDArray[np.intp]) -> NDArray[np.float32]:
    """Return what the engine is asked about: rows, or windows of them."""
    dataset, window = trained.dataset, trained.engine.window
    seen = dataset.X[rows] if window == 1 else dataset.windows(window)[rows]
    return seen.astype(np.float32)


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


def _finite(figures: Mapping[str, float]) -> dict[str, float]:
    """Return what MLflow can draw; it takes neither NaN nor infinity everywhere."""
    return {name: value for name, value in figures.items() if math.isfinite(value)}


def _write_files(trained: Trained, folder: Path, *, revealing: bool = True) -> None:
    """Write what the trials earned and, where `revealing`, what shows the model from inside."""
    returns = {f"trial_{trial.number}": trial.returns for trial in trained.trials}
    pl.DataFrame(returns).write_parquet(folder / "trial_returns.parquet")
    # A pruned trial has fewer: they are told in lists, not in columns of one length.
    chosen_by = [np.concatenate(trial.selection).tolist() for trial in trained.trials]
    pl.DataFrame(
        {"trial": [trial.number for trial in trained.trials], "returns": chosen_by}
    ).write_parquet(folder / "selection_returns.parquet")
    trials = [
        {
            "number": trial.number,
            "parameters": dict(trial.parameters),
            "threshold": trial.threshold,
            "sharpe_per_period": trial.sharpe,
            "sharpe_per_period_selection": trial.selection_sharpe,
            "pruned": trial.pruned,
            "failure": trial.failure,
            "trades": int(trial.trade_returns.size),
        }
        for trial in trained.trials
    ]
    (folder / "trials.json").write_text(json.dumps(trials, indent=1))
    draw_figures(trained, folder, revealing=revealing)
    if not revealing:
        return
    # Beside the model: handed to MLflow with it, it would be scored in another process, for 20 s.
    example = _seen(trained, np.arange(min(_EXAMPLE_ROWS, len(trained.dataset))))
    told_rows = [[None if np.isnan(x) else float(x) for x in row.ravel()] for row in example]
    (folder / "input_example.json").write_text(
        json.dumps({"shape": example.shape, "features": trained.frame.features, "rows": told_rows})
    )
    what, worth = importance(trained)
    told = dict(zip(trained.frame.features, map(float, worth), strict=True))
    (folder / "feature_importance.json").write_text(json.dumps({"in": what, **told}, indent=1))
    if isinstance(trained.engine, XGBoostEngine):
        mean = np.abs(contributions(trained)[0]).mean(axis=0)
        shap = dict(zip(trained.frame.features, map(float, mean), strict=True))
        (folder / "shap_mean.json").write_text(json.dumps(shap, indent=1))
