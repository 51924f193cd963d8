"""The jump model as an engine, against a slow filter, slow sums, and arithmetic by hand."""

import json
import math
from typing import Any

import numpy as np
import pytest
from engines_under_test import TREES, market
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from atlas.engines import (
    Dataset,
    EnsembleEngine,
    JumpEngine,
    load_engine,
    predict_rows,
)
from atlas.engines.jump_regimes import Regime
from atlas.errors import ArtifactCorrupt, FeatureMismatch, InvalidInput, NotEnoughData

FEATURES = ("calm", "noise", "trend")


def persistent(n_rows: int = 900, *, seed: int = 0, share: float = 0.4) -> Dataset:
    """Two symbols with regimes of about 30 rows, in which returns differ; a tenth is null."""
    random = np.random.default_rng(seed)
    half = n_rows // 2
    regime = np.repeat(random.random(2 * (half // 30) + 2) < share, 30)[: 2 * half]
    symbols = np.repeat(["BTC_USDT", "ETH_USDT"], half)
    X = random.normal(size=(2 * half, 3))
    X[:, 0] += np.where(regime, 2.5, -2.5)
    X[:, 2] = 100.0 + 5.0 * (X[:, 2] + regime)
    X[random.random(X.shape) < 0.1] = np.nan
    returns = np.where(regime, 0.008, -0.004) + random.normal(scale=0.01, size=2 * half)
    starts = np.tile(np.arange(half), 2)
    return Dataset(
        X,
        np.where(returns > 0, 1, -1),
        features=FEATURES,
        intervals=np.column_stack((starts, starts + 4)),
        symbols=symbols,
        weights=random.uniform(0.2, 1.0, 2 * half),
        returns=returns,
    )


USUAL: dict[str, Any] = {"penalty": 3.0, "sequence": 40, "columns": ("calm", "trend")}


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    return persistent()


@pytest.fixture(scope="module")
def engine(dataset: Dataset) -> JumpEngine:
    return JumpEngine(**USUAL).fit(dataset)


def slow_regime(engine: JumpEngine, window: Any) -> int:
    """Filter a window with Python's own numbers; NaN says nothing."""
    said = json.loads(engine.dump())
    centroids, at = said["model"]["centroids"], [said["features"].index(n) for n in said["used"]]
    values, state = [0.0] * len(centroids), -1
    for row in window.tolist():
        scaled = [
            max(-8.0, min(8.0, (row[i] - mean) * scale)) if not math.isnan(row[i]) else None
            for i, mean, scale in zip(at, said["mean"], said["scale"], strict=True)
        ]
        if all(x is None for x in scaled):
            continue
        for k, centroid in enumerate(centroids):
            loss = 0.0
            for x, centre in zip(scaled, centroid, strict=True):
                loss += 0.0 if x is None else (x - centre) ** 2
            values[k] = min(values[k], engine.penalty) + 0.5 * loss
        state = values.index(min(values))
        values = [value - min(values) for value in values]
    return state


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_a_score_is_that_of_a_slow_filter_over_the_window(
    engine: JumpEngine, data: st.DataObject
) -> None:
    usual = st.floats(-9, 9, width=32) | st.just(math.nan) | st.floats(width=32)
    window = data.draw(arrays(np.float32, (40, 3), elements=usual))
    window[:, 2] = 100 + 5 * np.clip(window[:, 2], -1e6, 1e6)
    state = slow_regime(engine, window)
    expected = 0.5 if state < 0 else engine.regimes_[state].probability(engine.cost_bps)
    assert engine.score(window[None])[0] == np.float32(expected)


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_rows_one_by_one_give_the_score_of_their_window(
    engine: JumpEngine, data: st.DataObject
) -> None:
    usual = st.floats(-5, 5, width=32) | st.just(math.nan) | st.floats(width=32)
    windows = data.draw(arrays(np.float32, (3, 40, 3), elements=usual))
    state = None
    for t in range(40):
        scores, state = engine.step(windows[:, t], state)
    np.testing.assert_array_equal(scores, engine.score(windows))
    assert state is not None
    assert state[:, -1].tolist() == [slow_regime(engine, window) for window in windows]


def test_a_stored_state_goes_on_as_if_nothing_had_happened(
    engine: JumpEngine, dataset: Dataset
) -> None:
    rows = dataset.X[:60].astype(np.float32)
    state, stored = None, None
    for t, row in enumerate(rows):
        score, state = engine.step(row[None], state)
        again, after = engine.step(row[None], stored)
        assert score == again, t
        stored = np.array(json.loads(json.dumps(after.tolist())))


def test_the_regimes_of_a_dataset_are_those_of_its_windows(
    engine: JumpEngine, dataset: Dataset
) -> None:
    fold = dataset.take(np.random.default_rng(0).permutation(len(dataset))[:150])
    windows = fold.windows(40)[:]
    assert engine.regimes(fold).tolist() == [slow_regime(engine, window) for window in windows]


def test_the_regime_of_a_row_does_not_change_when_time_goes_on(
    engine: JumpEngine, dataset: Dataset
) -> None:
    early = dataset.take(np.flatnonzero(dataset.intervals[:, 0] < 200))
    cut = Dataset(
        early.X,
        early.y,
        features=FEATURES,
        intervals=early.intervals,
        symbols=early.symbols,
    )
    np.testing.assert_array_equal(engine.regimes(cut), engine.regimes(early))


def test_it_finds_the_regimes_that_were_planted(engine: JumpEngine, dataset: Dataset) -> None:
    sides = [regime.side(engine.cost_bps) for regime in engine.regimes_]
    assert sides == [-1, 1]  # the more frequent one is 0
    unseen = persistent(seed=1)
    right = (predict_rows(engine, unseen)[:, 1] > 0.5) == (unseen.returns > 0)
    # Known regimes would be right on 74 %.
    assert right.mean() > 0.68


def test_what_a_regime_is_worth_is_a_slow_sum(engine: JumpEngine, dataset: Dataset) -> None:
    # One stretch a symbol, so what training saw of a row is its window.
    states = engine.regimes(dataset).tolist()
    expected = []
    for k in range(2):
        mine = [i for i, state in enumerate(states) if state == k]
        before = [
            states[i - 1] if i > 0 and dataset.symbols[i] == dataset.symbols[i - 1] else None
            for i in mine
        ]
        weight = sum(dataset.weights[i] for i in mine)
        expected.append(
            (
                len(mine),
                sum(state != k for state in before),
                pytest.approx(weight),
                pytest.approx(sum(dataset.weights[i] for i in mine if dataset.y[i] > 0)),
                pytest.approx(sum(dataset.weights[i] * dataset.returns[i] for i in mine) / weight),
            )
        )
    found = [(r.rows, r.entries, r.weight, r.up_weight, r.mean_return) for r in engine.regimes_]
    assert found == expected


@pytest.mark.parametrize(
    ("regime", "cost_bps", "side", "probability"),
    [
        # Ten entries in a hundred rows at 5 bps a side: each row bears 1 bp.
        (Regime(100, 10, 98.0, 59.0, 0.00011), 5.0, 1, 0.6),
        (Regime(100, 10, 98.0, 59.0, 0.0001), 5.0, 0, 0.5),
        (Regime(100, 10, 98.0, 39.0, -0.00011), 5.0, -1, 0.4),
        (Regime(100, 10, 98.0, 39.0, -0.00009), 5.0, 0, 0.5),
        # It rises seldom and far: long, though most labels went down.
        (Regime(100, 1, 98.0, 39.0, 0.01), 5.0, 1, 0.5 + 1e-6),
        (Regime(100, 1, 98.0, 59.0, -0.01), 5.0, -1, 0.5 - 1e-6),
        (Regime(0, 0, 0.0, 0.0, 0.0), 0.0, 0, 0.5),
    ],
)
def test_a_side_is_that_of_the_mean_return_beyond_costs(
    regime: Regime, cost_bps: float, side: int, probability: float
) -> None:
    assert regime.side(cost_bps) == side
    assert regime.probability(cost_bps) == pytest.approx(probability, abs=1e-12)


def test_the_smallest_edge_is_told_from_a_half_in_32_bits() -> None:
    assert np.float32(0.5 - 1e-6) < np.float32(0.5) < np.float32(0.5 + 1e-6)


def test_costs_can_take_every_position(dataset: Dataset) -> None:
    dear = JumpEngine(**USUAL, cost_bps=5_000.0).fit(dataset)
    assert set(predict_rows(dear, dataset)[:, 1]) == {0.5}


def test_a_regressor_tells_the_mean_return_of_the_regime(dataset: Dataset) -> None:
    engine = JumpEngine(**USUAL, task="return").fit(dataset)
    again = load_engine("jump", engine.dump(), task="return")
    means = np.array([regime.mean_return for regime in engine.regimes_], np.float32)
    said = predict_rows(again, dataset)
    assert said.shape == (len(dataset), 1)
    np.testing.assert_array_equal(said[:, 0].astype(np.float32), means[engine.regimes(dataset)])
    assert engine.score(np.full((1, 40, 3), np.nan, np.float32)) == [0.0]


def test_it_is_a_member_of_an_ensemble(dataset: Dataset) -> None:
    members = (("jump", USUAL), ("xgboost", TREES))
    mixed = EnsembleEngine(members=members, n_splits=3).fit(dataset)
    again = load_engine("ensemble", mixed.dump(), features=FEATURES)
    unseen = persistent(seed=1)
    said = predict_rows(again, unseen)
    np.testing.assert_array_equal(said, predict_rows(mixed, unseen))
    assert mixed.window == 40
    assert ((said[:, 1] > 0.5) == (unseen.y > 0)).mean() > 0.65


def test_names_outlast_a_refit_in_another_scale(engine: JumpEngine) -> None:
    # The regime that was rare is the frequent one now, so that means and deviations differ too.
    later = persistent(seed=3, share=0.7)
    alone, kept = JumpEngine(**USUAL).fit(later), JumpEngine(**USUAL).fit(later, former=engine)
    sides = [[r.side(7.0) for r in each.regimes_] for each in (alone, kept)]
    assert sides == [[1, -1], [-1, 1]]
    same = engine.regimes(later) == kept.regimes(later)
    assert same.mean() > 0.95


def test_a_former_engine_of_other_features_is_refused(engine: JumpEngine, dataset: Dataset) -> None:
    with pytest.raises(FeatureMismatch, match="former engine's features"):
        JumpEngine(penalty=3.0, sequence=40).fit(dataset, former=engine)
    with pytest.raises(FeatureMismatch, match="Names cannot be kept"):
        JumpEngine(**USUAL, n_states=3).fit(dataset, former=engine)


def test_a_feature_that_never_varies_is_left_out(dataset: Dataset) -> None:
    X = dataset.X.copy()
    X[:, 0], X[:, 1] = np.nan, 4.0
    still = Dataset(
        X,
        dataset.y,
        features=FEATURES,
        intervals=dataset.intervals,
        symbols=dataset.symbols,
        returns=dataset.returns,
    )
    told = JumpEngine(penalty=3.0, sequence=40).fit(still)
    assert json.loads(told.dump())["used"] == ["trend"]
    with pytest.raises(NotEnoughData, match="a feature that varies"):
        JumpEngine(columns=("calm", "noise")).fit(still)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"sequence": 1}, "sequence as a whole number from 2; found 1"),
        ({"sequence": 2.5}, "sequence as a whole number"),
        ({"cost_bps": -1.0}, "cost_bps as basis points from 0"),
        ({"cost_bps": math.nan}, "cost_bps as basis points from 0"),
        ({"columns": ()}, "columns that tell regimes apart"),
        ({"columns": ("calm", "mood")}, "each once; found mood"),
        ({"columns": ("calm", "calm")}, "each once; found calm, calm"),
        ({"penalty": -1.0}, "finite penalty"),
        ({"task": "mood"}, "direction or return"),
    ],
)
def test_an_impossible_engine_is_refused(given: Any, message: str, dataset: Dataset) -> None:
    with pytest.raises(InvalidInput, match=message):
        JumpEngine(**given).fit(dataset)


def test_without_returns_no_side_can_be_told() -> None:
    known = market()
    labels = Dataset(
        known.X,
        known.y,
        features=known.features,
        intervals=known.intervals,
        symbols=known.symbols,
    )
    with pytest.raises(InvalidInput, match="Expected the return of every label"):
        JumpEngine().fit(labels)


@pytest.mark.parametrize(
    "state",
    [
        np.zeros((2, 3), np.float32),
        np.zeros((2, 2)),
        np.zeros((1, 3)),
        np.full((2, 3), np.nan),
        np.array([[0.0, 1.0, 0.0], [0.0, 1.0, 2.0]]),
        np.array([[0.0, 1.0, 0.0], [0.0, -1.0, 0.0]]),
        np.array([[0.0, 1.0, 0.0], [0.0, 1.0, 0.5]]),
    ],
)
def test_what_is_no_state_is_refused(engine: JumpEngine, state: Any) -> None:
    with pytest.raises(InvalidInput, match="Expected"):
        engine.step(np.zeros((2, 3), np.float32), state)


def test_a_step_leaves_the_state_that_it_was_given_alone(engine: JumpEngine) -> None:
    _, state = engine.step(np.zeros((2, 3), np.float32))
    before = state.copy()
    engine.step(np.full((2, 3), 100.0, np.float32), state)
    np.testing.assert_array_equal(state, before)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"atlas-jump-engine/1"', b'"atlas-jump-engine/2"'),
        (b'"cost_bps": 7.0', b'"cost_bps": -7.0'),
        (b'"cost_bps": 7.0', b'"cost_bps": NaN'),
        (b'"n_starts": 10', b'"n_starts": 11'),
        (b'"sequence": 40', b'"sequence": 1'),
        (b'"task": "direction"', b'"task": "mood"'),
        (b'"seed": 0, "sequence"', b'"colour": "red", "seed": 0, "sequence"'),
        (b'"used": ["calm", "trend"]', b'"used": ["calm", "noise"]'),
        (b'"used": ["calm", "trend"]', b'"used": ["calm", "calm"]'),
        (b'"used": ["calm", "trend"]', b'"used": ["calm"]'),
        (b'"entries": ', b'"entries": -'),
        (b'"entries": ', b'"entries": 9999'),
        (b'"mean_return": ', b'"mean_return": 1e999, "x": '),
        (b'"scale": [', b'"scale": [-'),
        (b'"regimes": [', b'"regimes": [], "other": ['),
        (b'"centroids": [[', b'"centroids": [[1.0, '),
        (b'{"features"', b'{ "features"'),
    ],
)
def test_a_changed_artifact_is_refused(engine: JumpEngine, old: bytes, new: bytes) -> None:
    data = engine.dump()
    assert old in data
    with pytest.raises(ArtifactCorrupt, match="Expected a model that J"):
        load_engine("jump", data.replace(old, new, 1))


def test_a_reloaded_engine_writes_the_same_bytes(engine: JumpEngine, dataset: Dataset) -> None:
    again = load_engine("jump", engine.dump(), features=FEATURES)
    assert again.dump() == engine.dump()
    assert isinstance(again, JumpEngine)
    np.testing.assert_array_equal(again.regimes(dataset), engine.regimes(dataset))
