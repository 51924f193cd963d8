"""What MLflow and the version's file keep of a training, for every kind of engine."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from labelled_market import candidate, frame

from atlas.clock import WallClock
from atlas.engines import load_engine
from atlas.errors import InvalidInput
from atlas.gates import GatePolicy
from atlas.registry import BlobStore
from atlas.registry.sealing import Keyring
from atlas.training import Dossier, Prices, Trained, file_version, record_report, track, train
from atlas.training.mlflow_flavor import load_model

# MLflow warns of itself: of its own type hints, and of files that it leaves to be collected.
pytestmark = pytest.mark.filterwarnings("ignore::Warning")

OWN = "momentum_engine:Momentum"
ALWAYS = {
    "trial_returns.parquet",
    "selection_returns.parquet",
    "trials.json",
    "feature_importance.png",
    "feature_importance.json",
    "confusion_matrix.png",
    "calibration.png",
    "equity.png",
    "gate_report.json",
    "input_example.json",
}
SHAP = {"shap_summary.png", "shap_mean.json"}


def trained_of(engine: str) -> Trained:
    """A small training of that engine."""
    wanted = candidate(engine=engine, n_trials=2)
    return train(wanted, frame(wanted=wanted))


@pytest.mark.parametrize("engine", ["xgboost", OWN])
def test_a_version_is_tracked_filed_and_read_back(engine: str, tmp_path: Path) -> None:
    import mlflow

    trained = trained_of(engine)
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    tracked = track(
        trained,
        tracking_uri=uri,
        experiment="test",
        artifacts=tmp_path / "artifacts",
        code_version="0",
        prices=Prices(cpu_hour=3_600.0),
        budget=1e-9,
    )
    assert tracked.version == 1
    assert tracked.price == pytest.approx(trained.cost.cpu_s)
    blobs = BlobStore(tmp_path / "blobs")
    dossier = file_version(
        trained, tracked, home=tmp_path, blobs=blobs, code_version="0", now=WallClock().now()
    )
    report = dossier.judge(GatePolicy(n_paths=500), who="tester", now=WallClock().now())
    record_report(
        report, tracked.run_id, tracking_uri=uri, model=tracked.model, version=tracked.version
    )

    found = Dossier.of(tmp_path, tracked.model, 1)
    assert found.evidence().digest == trained.evidence.digest
    assert found.manifest["report"] == report.as_dict()
    assert len(found.periods()) == trained.evidence.n_periods
    manifest = found.serving_manifest()
    again = load_engine(manifest.engine, blobs.get(manifest.blob), trusted=(OWN,))
    golden = np.array(manifest.golden_rows, dtype=np.float64)
    if manifest.window > 1:
        golden = golden.reshape(len(golden), manifest.window, -1)
    assert again.predict(golden)[:, -1].tolist() == list(manifest.golden_scores)

    client = mlflow.MlflowClient(uri)
    run = client.get_run(tracked.run_id)
    names = {item.path for item in client.list_artifacts(tracked.run_id)}
    assert ALWAYS | (SHAP if engine == "xgboost" else set()) <= names
    assert run.data.tags["feature_hash"] == trained.feature_hash
    assert run.data.tags["over_budget"] == "true"
    assert run.data.params["view"] == "ohlcv_1m"
    assert run.data.metrics["test_accuracy"] == pytest.approx(trained.evidence.hits.mean())
    version = client.get_model_version(tracked.model, "1")
    assert version.tags["engine"] == engine
    assert version.tags["gates"] == str(report.outcome)
    assert client.get_model_version_by_alias(tracked.model, "newest").version == version.version
    _scores_alike(f"models:/{tracked.model}/1", trained)


def test_of_a_model_that_is_kept_encrypted_mlflow_holds_what_is_known_and_its_hash(
    tmp_path: Path,
) -> None:
    import mlflow

    trained = trained_of("xgboost")
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    tracked = track(
        trained,
        tracking_uri=uri,
        experiment="test",
        artifacts=tmp_path / "artifacts",
        code_version="0",
        encrypted=True,
    )
    blobs = BlobStore(tmp_path / "blobs", keys=Keyring(bytes(32)))
    dossier = file_version(
        trained, tracked, home=tmp_path, blobs=blobs, code_version="0", now=WallClock().now()
    )

    client = mlflow.MlflowClient(uri)
    names = {item.path for item in client.list_artifacts(tracked.run_id)}
    assert names == ALWAYS - {
        "feature_importance.png",
        "feature_importance.json",
        "gate_report.json",
        "input_example.json",
    }
    version = client.get_model_version(tracked.model, "1")
    assert version.tags["encrypted"] == "true"
    assert version.tags["blob"] == dossier.manifest["blob"]
    model = f"models:/{tracked.model}/1"
    assert mlflow.models.get_model_info(model).signature is not None
    with pytest.raises(InvalidInput, match="kept encrypted"):
        load_model(mlflow.artifacts.download_artifacts(model))
    # Nowhere in what lies on disk is there anything that begins as the model's bytes do.
    begins = trained.engine.dump()[:48]
    lying = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert [path for path in lying if begins in path.read_bytes()] == []
    assert blobs.get(version.tags["blob"]) == trained.engine.dump()


def test_contributions_and_bias_sum_to_the_log_odds() -> None:
    import xgboost

    from atlas.training.figures import contributions

    trained = trained_of("xgboost")
    values, rows = contributions(trained)
    matrix = xgboost.DMatrix(rows, feature_names=list(trained.frame.features))
    margin = trained.engine.booster_.predict(matrix, output_margin=True)  # type: ignore[attr-defined]
    rest = margin - values.sum(axis=1)
    np.testing.assert_allclose(rest, rest[0], rtol=0, atol=1e-4)


def _scores_alike(model: str, trained: Trained) -> None:
    import mlflow
    import pandas as pd

    dataset, engine = trained.dataset, trained.engine
    if engine.name == "xgboost":
        loaded = mlflow.pyfunc.load_model(model)
        assert loaded.metadata.signature is not None
        rows: Any = dataset.X[:20]
        said = loaded.predict(pd.DataFrame(rows, columns=list(dataset.features)))
    else:
        # One's own class is run only where somebody says so.
        with pytest.raises(InvalidInput, match="trusted"):
            mlflow.pyfunc.load_model(model)
        folder = mlflow.artifacts.download_artifacts(model)
        rows = dataset.windows(engine.window)[np.arange(20)]
        said = load_model(folder, trusted=(OWN,)).predict(rows)[:, -1]
    np.testing.assert_allclose(said, engine.predict(rows)[:, -1], rtol=0, atol=1e-6)


def test_the_trials_file_says_what_became_of_each(tmp_path: Path) -> None:
    from atlas.training.tracking import _write_files

    trained = trained_of("xgboost")
    _write_files(trained, tmp_path)
    told = json.loads((tmp_path / "trials.json").read_text())
    assert [each["number"] for each in told] == [0, 1]
    assert told[0]["sharpe_per_period"] == trained.trials[0].sharpe
    assert told[0]["pruned"] is False
