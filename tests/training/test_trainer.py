"""Training: evidence out of sample, reproducible, and worthless when the labels are."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from labelled_market import bars, candidate, frame

from atlas.book import Book
from atlas.engines import XGBoostEngine
from atlas.errors import InvalidInput, NotEnoughData
from atlas.gates import GatePolicy, judge
from atlas.stats import uniqueness_weights, walk_forward_splits
from atlas.training import (
    Dossier,
    Trained,
    label_events,
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
    dataset = trained.frame.dataset()
    book = Book.of(
        trained.frame.rows, period=trained.candidate.period, costs=trained.candidate.costs
    )
    returns = []
    splits = list(
        walk_forward_splits(dataset.intervals, n_splits=3, embargo=trained.candidate.embargo_bars)
    )
    for early, late in splits[1:]:
        assert dataset.intervals[early, 1].max() < dataset.intervals[late, 0].min()
        fold = dataset.take(np.sort(early))
        engine = XGBoostEngine(**trained.best.parameters)
        engine.fit(fold.reweighted(fold.weights * uniqueness_weights(fold.intervals)))
        scores = engine.predict(dataset.X[np.sort(late)])[:, 1]
        returns.append(book.play(np.sort(late), scores, trained.best.threshold).period_returns)
    assert np.concatenate(returns).tolist() == trained.best.returns.tolist()


def test_the_audit_of_honest_features_finds_no_leak() -> None:
    audited = train(candidate(n_trials=1), frame(), bars=bars()).evidence
    assert audited.audited is not None
    assert audited.audited > 50
    assert audited.leaked == ()


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


def test_a_version_that_is_not_there_is_told_in_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="version 7 of nothing"):
        Dossier.of(tmp_path, "nothing", 7)
