"""Training: evidence out of sample, reproducible, and worthless when the labels are."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from labelled_market import bars, candidate, frame

from atlas.clock import WallClock
from atlas.engines import XGBoostEngine, load_engine
from atlas.errors import InvalidInput, NotEnoughData
from atlas.gates import GatePolicy, judge
from atlas.registry import BlobStore
from atlas.training import (
    Dossier,
    Tracked,
    Trained,
    file_version,
    label_events,
    record_report,
    track,
    train,
)


@pytest.fixture(scope="module")
def trained() -> Trained:
    """A candidate trained on the planted market."""
    return train(candidate(), frame())


def test_the_same_data_and_seed_give_the_same_model_and_evidence(trained: Trained) -> None:
    again = train(candidate(), frame())
    assert again.engine.dump() == trained.engine.dump()
    assert again.evidence.digest == trained.evidence.digest
    assert again.frame.digest == trained.frame.digest


def test_every_trial_leaves_its_out_of_sample_returns(trained: Trained) -> None:
    evidence = trained.evidence
    assert evidence.trial_returns.shape == (trained.periods_us.size, 4)
    for column, trial in enumerate(trained.trials):
        assert np.array_equal(evidence.trial_returns[:, column], trial.returns)
    assert evidence.selected_returns.tolist() == trained.best.returns.tolist()


def test_no_fold_is_judged_on_rows_it_was_fitted_to(trained: Trained) -> None:
    """An oracle walks forward by hand with the chosen parameters."""
    from atlas.book import Book
    from atlas.stats import walk_forward_splits
    from atlas.training.search import weighted

    dataset = trained.frame.dataset()
    book = Book.of(
        trained.frame.rows, period=trained.candidate.period, costs=trained.candidate.costs
    )
    returns = []
    for early, late in walk_forward_splits(
        dataset.intervals, n_splits=3, embargo=trained.candidate.embargo_bars
    ):
        assert dataset.intervals[early, 1].max() < dataset.intervals[late, 0].min()
        engine = XGBoostEngine(**trained.best.parameters, seed=0)
        engine.fit(weighted(dataset.take(np.sort(early))))
        scores = engine.predict(dataset.X[np.sort(late)])[:, 1]
        returns.append(book.play(np.sort(late), scores, trained.best.threshold).period_returns)
    assert np.concatenate(returns).tolist() == trained.best.returns.tolist()


def test_shuffled_labels_fail_the_gates() -> None:
    wanted = candidate(n_trials=12)
    events = label_events(bars(), wanted.features.interval, wanted.target)
    rng = np.random.default_rng(0)
    shuffled = events.with_columns(pl.Series("label", rng.permutation(events["label"].to_numpy())))
    report = judge(train(wanted, frame(events=shuffled)).evidence, GatePolicy(n_paths=1_000))
    assert not report.passed
    assert str(report["accuracy"].outcome) == "FAIL"


def test_too_few_rows_are_refused_with_the_setting_that_says_so() -> None:
    wanted = candidate()
    events = label_events(bars(), wanted.features.interval, wanted.target).head(50)
    with pytest.raises(NotEnoughData, match="MIN_TRAINING_DATA_POINTS"):
        frame(events=events)


# MLflow warns of itself: of its own type hints, and of files that it leaves to be collected.
@pytest.mark.filterwarnings("ignore::Warning")
def test_a_version_is_tracked_filed_and_read_back(trained: Trained, tmp_path: Path) -> None:
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    tracked = track(
        trained,
        tracking_uri=uri,
        experiment="test",
        artifacts=tmp_path / "artifacts",
        code_version="0",
    )
    assert tracked.version == 1
    blobs = BlobStore(tmp_path / "blobs")
    dossier = file_version(
        trained, tracked, home=tmp_path, blobs=blobs, code_version="0", now=WallClock().now()
    )
    report = dossier.judge(GatePolicy(n_paths=500), who="tester", now=WallClock().now())
    record_report(report, tracked.run_id, tracking_uri=uri)

    found = Dossier.of(tmp_path, tracked.model, 1)
    assert found.evidence().digest == trained.evidence.digest
    assert found.manifest["report"] == report.as_dict()
    assert len(found.periods()) == trained.evidence.n_periods
    manifest = found.serving_manifest()
    engine = load_engine(manifest.engine, blobs.get(manifest.blob))
    golden = np.array(manifest.golden_rows, dtype=np.float64)
    assert engine.predict(golden)[:, 1].tolist() == list(manifest.golden_scores)
    _check_run(uri, tracked, trained)


def test_a_version_that_is_not_there_is_told_in_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="version 7 of nothing"):
        Dossier.of(tmp_path, "nothing", 7)


def _check_run(uri: str, tracked: Tracked, trained: Trained) -> None:
    import mlflow

    client = mlflow.MlflowClient(uri)
    run = client.get_run(tracked.run_id)
    assert run.data.tags["feature_hash"] == trained.feature_hash
    assert run.data.params["view"] == "ohlcv_1m"
    names = {item.path for item in client.list_artifacts(tracked.run_id)}
    assert {
        "trial_returns.parquet",
        "trials.json",
        "feature_importance.png",
        "confusion_matrix.png",
        "gate_report.json",
    } <= names
