"""An ensemble mixes as its members' forecasts of unseen rows deserve."""

from typing import Any

import numpy as np
import pytest
from engines_under_test import LSTM, TREES, market, needs_torch
from scipy.optimize import minimize

from atlas.engines import Dataset, EnsembleEngine, load_engine, predict_rows
from atlas.engines.blending import blend_log_odds, blend_odds
from atlas.errors import ArtifactCorrupt, FeatureMismatch, InvalidInput

OWN = "own_engine:BetweenMeans"


@pytest.fixture(scope="module")
def forecasts() -> Any:
    """Return a sharp forecast, a dull one and a worthless one, what happened, and weights."""
    random = np.random.default_rng(0)
    signal = random.normal(size=600)
    happened = signal + random.normal(scale=0.7, size=600) > 0
    said = [signal * 2, signal + random.normal(size=600), random.normal(size=600)]
    odds = np.column_stack([1 / (1 + np.exp(-x)) for x in said])
    return odds, happened, random.uniform(0.1, 1.0, 600)


def weighted_loss(odds: Any, happened: Any, weights: Any) -> float:
    return float(-(weights * np.log(np.where(happened, odds, 1 - odds))).sum())


def test_the_average_is_that_of_a_general_optimiser(forecasts: Any) -> None:
    odds, happened, weights = forecasts
    found = minimize(
        lambda share: weighted_loss(odds @ share, happened, weights),
        np.full(3, 1 / 3),
        bounds=[(0, 1)] * 3,
        constraints={"type": "eq", "fun": lambda share: share.sum() - 1},
    )
    blend = blend_odds(odds, happened, weights)
    assert sum(blend.coefficients) == pytest.approx(1.0)
    np.testing.assert_allclose(blend.coefficients, found.x, atol=5e-3)
    mixed = blend.mix_odds(list(odds.T))
    assert weighted_loss(mixed, happened, weights) <= found.fun + 1e-3


def test_the_regression_is_that_of_a_general_optimiser(forecasts: Any) -> None:
    odds, happened, weights = forecasts
    known = np.column_stack((np.log(odds / (1 - odds)), np.ones(len(odds))))
    average = np.array([1 / 3, 1 / 3, 1 / 3, 0])

    def loss(coefficients: Any) -> float:
        said = 1 / (1 + np.exp(-(known @ coefficients)))
        away = ((coefficients - average) ** 2).sum()
        return weighted_loss(said, happened, weights) + 0.5 * 10.0 * away

    found = minimize(loss, average, method="BFGS", options={"gtol": 1e-8})
    blend = blend_log_odds(odds, happened, weights, ridge=10.0)
    np.testing.assert_allclose([*blend.coefficients, blend.offset], found.x, atol=1e-5)


def test_without_evidence_stacking_is_the_plain_average(forecasts: Any) -> None:
    odds, happened, weights = forecasts
    blend = blend_log_odds(odds, happened, weights, ridge=1e12)
    assert [*blend.coefficients, blend.offset] == pytest.approx([1 / 3] * 3 + [0], abs=1e-6)


@pytest.mark.parametrize("method", ["weighted", "stacking"])
def test_a_member_that_knows_nothing_counts_little(method: Any) -> None:
    dataset = market(600)
    # One round of one split on a market whose label is in the first feature, against pure noise.
    useless = {"n_rounds": 1, "learning_rate": 1e-6}
    members = (("xgboost", TREES), ("xgboost", useless))
    engine = EnsembleEngine(members=members, method=method, n_splits=3).fit(dataset)
    good, bad = engine.blend_.coefficients
    assert good > bad + 0.2


def test_members_of_different_windows_see_their_own_part() -> None:
    dataset = market()
    members = ((OWN, {}), ("xgboost", TREES))
    engine = EnsembleEngine(members=members, n_splits=2).fit(dataset)
    assert engine.window == 2
    own, trees = (predict_rows(member, dataset)[:, 1] for member in engine.members_)
    expected = engine.blend_.mix_log_odds([own.astype(np.float32), trees.astype(np.float32)])
    said = predict_rows(engine, dataset)[:, 1]
    np.testing.assert_allclose(said, expected, rtol=0, atol=1e-7)


def test_the_mix_is_learned_from_rows_that_the_members_had_not_seen(monkeypatch: Any) -> None:
    import own_engine

    n, length, embargo = 120, 5, 3
    starts = np.arange(n)
    dataset = Dataset(
        starts[:, None].astype(np.float64),  # a row's feature is its number
        np.where(starts % 2, 1, -1),
        features=("row",),
        intervals=np.column_stack((starts, starts + length)),
        symbols=np.repeat("S", n),
    )
    taught: list[set[int]] = []
    told: list[tuple[set[int], set[int]]] = []
    fit, score = own_engine.BetweenMeans.fit, own_engine.BetweenMeans.score

    def fit_and_note(self: Any, given: Any) -> Any:
        taught.append(set(given.intervals[:, 0].tolist()))
        return fit(self, given)

    def score_and_note(self: Any, rows: Any) -> Any:
        told.append((taught[-1], set(rows[:, -1, 0].astype(int).tolist())))
        return score(self, rows)

    monkeypatch.setattr(own_engine.BetweenMeans, "fit", fit_and_note)
    monkeypatch.setattr(own_engine.BetweenMeans, "score", score_and_note)
    EnsembleEngine(members=((OWN, {}),), n_splits=4, embargo=embargo).fit(dataset)
    assert [sorted(block) for _, block in told] == [
        list(range(first, first + 30)) for first in (0, 30, 60, 90)
    ]
    expected = [
        {
            row
            for row in range(n)
            if row + length < min(block) or row > max(block) + length + embargo
        }
        for _, block in told
    ]
    assert [lesson for lesson, _ in told] == expected
    assert taught[-1] == set(range(n))  # those that serve learn from all


@needs_torch
def test_nets_and_trees_mix() -> None:
    dataset, unseen = market(), market(seed=1)
    members = (("xgboost", TREES), ("lstm", LSTM))
    engine = EnsembleEngine(members=members, n_splits=2).fit(dataset)
    again = load_engine("ensemble", engine.dump(), features=dataset.features)
    said = predict_rows(engine, unseen)
    np.testing.assert_array_equal(predict_rows(again, unseen), said)
    assert ((said[:, 1] > 0.5) == (unseen.y > 0)).mean() > 0.65


@pytest.mark.parametrize(
    "given",
    [
        {"members": ()},
        {"members": (("ensemble", {}),)},
        {"members": (("xgboost", {}),), "method": "median"},
    ],
)
def test_an_impossible_ensemble_is_refused(given: Any) -> None:
    with pytest.raises(InvalidInput, match="members that are no ensembles"):
        EnsembleEngine(**given).fit(market())


@pytest.fixture(scope="module")
def artifact() -> bytes:
    members = (("xgboost", {**TREES, "n_rounds": 2}), ("xgboost", {"n_rounds": 1}))
    return EnsembleEngine(members=members, n_splits=2).fit(market()).dump()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"atlas-ensemble 1", b"atlas-ensemble 2"),
        (b'"offset": ', b'"offset": NaN, "other": '),
        (b'"offset": ', b'"offset": 1, "offset": '),
        (b'"sizes": [', b'"sizes": [0, '),
        (b'"sizes": [', b'"sizes": [-1, '),
        (b'"coefficients": [', b'"coefficients": [0.5, '),
        (b'"method": "stacking"', b'"method": "sum"'),
        (b'["xgboost"', b'["ensemble"'),
        (b'"seed": 0', b'"seed": 0, "colour": "red"'),
    ],
)
def test_a_changed_ensemble_is_refused(artifact: bytes, old: bytes, new: bytes) -> None:
    assert old in artifact
    with pytest.raises(ArtifactCorrupt):
        load_engine("ensemble", artifact.replace(old, new, 1))


def test_a_damaged_member_is_refused(artifact: bytes) -> None:
    at = len(artifact) - 200
    with pytest.raises(ArtifactCorrupt):
        load_engine("ensemble", artifact[:at] + b"\xff" + artifact[at + 1 :])


def test_an_ensemble_names_the_features_it_misses(artifact: bytes) -> None:
    with pytest.raises(FeatureMismatch, match=r"Missing: feature_4\."):
        load_engine("ensemble", artifact, features=[f"feature_{i}" for i in range(4)])
