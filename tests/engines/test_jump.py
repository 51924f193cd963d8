"""What the jump model promises: names, nulls, repeatability, bytes and refusals."""

import json
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atlas.engines import JumpModel
from atlas.engines.jump_names import by_former
from atlas.errors import ArtifactCorrupt, AtlasError, FeatureMismatch, InvalidInput, NotEnoughData


def regimes(n_rows: int = 600, *, seed: int = 0, centres: Any = ((0, 0), (3, 1), (-2, 4))) -> Any:
    """Rows that dwell about one of the centres for 20 rows, half of the time about the first."""
    random = np.random.default_rng(seed)
    n_blocks = n_rows // 20
    which = np.where(random.random(n_blocks) < 0.5, 0, random.integers(len(centres), size=n_blocks))
    return random.normal(size=(n_rows, 2)) + np.array(centres, float)[np.repeat(which, 20)]


@pytest.fixture(scope="module")
def model() -> JumpModel:
    return JumpModel(3, 8.0, n_starts=5).fit(regimes())


def test_planted_regimes_are_found(model: JumpModel) -> None:
    order = [0, *(np.argsort(-model.centroids_[1:, 0]) + 1)]
    np.testing.assert_allclose(model.centroids_[order], [[0, 0], [3, 1], [-2, 4]], atol=0.2)


def test_the_most_frequent_state_of_a_first_fit_is_0(model: JumpModel) -> None:
    occupancy = model.occupancy_.tolist()
    assert occupancy == sorted(occupancy, reverse=True)
    assert sum(occupancy) == 600


def test_equally_frequent_states_come_in_the_order_of_their_first_feature() -> None:
    X = np.repeat([5.0, -5.0, 0.0], 10)[:, None]
    assert JumpModel(3, 1.0).fit(X).centroids_.tolist() == [[-5.0], [0.0], [5.0]]


def test_equal_rows_give_equal_bytes(model: JumpModel) -> None:
    again = JumpModel(3, 8.0, n_starts=5).fit(np.asfortranarray(regimes()))
    assert again.dump() == model.dump()


def test_fitting_again_on_the_same_rows_changes_nothing(model: JumpModel) -> None:
    again = JumpModel.load(model.dump()).fit(regimes())
    assert again.dump() == model.dump()


def test_names_survive_a_refit_that_turns_the_frequencies_round() -> None:
    first = np.repeat([0.0, 10.0, 0.0], 20)[:, None]
    later = np.repeat([10.5, 0.5, 10.5], 20)[:, None]
    model = JumpModel(2, 1.0).fit(first)
    assert model.centroids_.tolist() == [[0.0], [10.0]]
    assert model.fit(later).centroids_.tolist() == [[0.5], [10.5]]
    assert JumpModel(2, 1.0).fit(later).centroids_.tolist() == [[10.5], [0.5]]
    assert JumpModel(2, 1.0).fit(later, former=model).centroids_.tolist() == [[0.5], [10.5]]


def test_a_name_waits_for_a_state_that_was_away() -> None:
    both = np.repeat([0.0, 10.0, 0.0], 20)[:, None]
    model = JumpModel(2, 1.0).fit(both)
    alone = np.full((30, 1), 9.0)
    np.testing.assert_array_equal(model.fit(alone).centroids_, [[np.nan], [9.0]])
    assert JumpModel.load(model.dump()).fit(both).centroids_.tolist() == [[0.0], [10.0]]


def test_a_new_name_is_given_only_when_the_others_are_taken() -> None:
    alone, both = np.full((30, 1), 9.0), np.repeat([0.0, 10.0, 0.0], 20)[:, None]
    model = JumpModel(2, 1.0).fit(alone)
    np.testing.assert_array_equal(model.centroids_, [[9.0], [np.nan]])
    assert model.fit(both).centroids_.tolist() == [[10.0], [0.0]]


def test_names_minimise_the_sum_of_squared_distances_not_each_one() -> None:
    # Nearest first would give name 0 to the state at 2 and leave 0 for the one at 3.5.
    former, centroids = np.array([[1.9], [3.0], [9.0]]), np.array([[2.0], [9.0], [1.0]])
    assert by_former(centroids, former).tolist() == [2, 0, 1]


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), n_states=st.integers(1, 5))
def test_names_follow_states_that_were_only_renumbered(seed: int, n_states: int) -> None:
    random = np.random.default_rng(seed)
    former = random.normal(size=(n_states, 2))
    order = random.permutation(n_states)
    np.testing.assert_array_equal(order[by_former(former[order], former)], np.arange(n_states))


def test_the_future_changes_no_online_state(model: JumpModel) -> None:
    X = regimes(seed=1)
    X[np.random.default_rng(1).random(X.shape) < 0.3] = np.nan
    for warm in (True, False):
        whole = model.filter(X, warm=warm)
        for t in (0, 1, 2, 57, 300, 599, 600):
            np.testing.assert_array_equal(model.filter(X[:t], warm=warm), whole[:t])
        changed = np.vstack((X[:300], -10 * X[300:]))
        np.testing.assert_array_equal(model.filter(changed, warm=warm)[:300], whole[:300])


def test_a_warm_filter_goes_on_where_the_training_ended(model: JumpModel) -> None:
    train, later = regimes(), regimes(seed=2)
    cold = model.filter(np.vstack((train, later)), warm=False)
    np.testing.assert_array_equal(model.filter(later), cold[600:])
    # One row is not enough to leave a state when it follows the training.
    far = model.centroids_[[(int(cold[599]) + 1) % 3]] * 0.9
    assert model.filter(far).tolist() == [cold[599]]
    assert model.filter(far, warm=False).tolist() != [cold[599]]


def test_a_row_of_nulls_keeps_the_state_and_costs_nothing(model: JumpModel) -> None:
    X = regimes(200, seed=3)
    gaps = np.insert(X, [0, 40, 40, 120], np.nan, axis=0)
    kept = ~np.isnan(gaps[:, 0])
    for warm in (True, False):
        states = model.filter(gaps, warm=warm)
        np.testing.assert_array_equal(states[kept], model.filter(X, warm=warm))
        carried = states[np.maximum.accumulate(np.where(kept, np.arange(len(gaps)), 0))]
        np.testing.assert_array_equal(states, carried)
    path = model.predict(gaps)
    np.testing.assert_array_equal(path[kept], model.predict(X))
    assert path[0] == path[1]


def test_before_any_value_a_cold_filter_says_unknown(model: JumpModel) -> None:
    X = np.vstack((np.full((2, 2), np.nan), model.centroids_[[1]]))
    assert model.filter(X, warm=False).tolist() == [-1, -1, 1]
    assert model.filter(X)[:2].tolist() == [model.stream().state] * 2
    assert model.predict(X[:2]).tolist() == [-1, -1]
    free = JumpModel(2, 0.0).fit(np.repeat([0.0, 9.0], [9, 5])[:, None])
    assert free.predict([[np.nan], [9.0], [np.nan], [0.0]]).tolist() == [1, 1, 1, 0]
    assert free.filter([[np.nan], [9.0], [np.nan]], warm=False).tolist() == [-1, 1, 1]


def test_a_null_enters_no_mean() -> None:
    nan = np.nan
    X = np.array([[0, 1], [nan, 1], [0, nan], [8, 5], [nan, 7], [8, nan]], float)
    model = JumpModel(2, 0.5).fit(np.repeat(X, 5, axis=0))
    assert sorted(model.centroids_.tolist()) == [[0.0, 1.0], [8.0, 6.0]]


@settings(max_examples=15, deadline=None)
@given(
    seed=st.integers(0, 49),
    shift=st.integers(-1000, 1000),
    power=st.integers(-3, 3),
)
def test_shifting_and_scaling_change_no_state(seed: int, shift: int, power: int) -> None:
    X = regimes(200, seed=seed)
    X = np.round(X * 1024) / 1024  # so that the shift is exact
    scale = 2.0**power
    plain = JumpModel(3, 4.0, n_starts=20).fit(X)
    moved = JumpModel(3, 4.0 * scale**2, n_starts=20).fit((X + shift) * scale)
    assert moved.objective_ == pytest.approx(plain.objective_ * scale**2, rel=1e-9)
    np.testing.assert_array_equal(moved.predict((X + shift) * scale), plain.predict(X))


def test_a_loaded_model_is_the_same_model(model: JumpModel) -> None:
    loaded, X = JumpModel.load(model.dump()), regimes(seed=4)
    assert loaded.dump() == model.dump()
    assert dict(loaded.hyperparameters) == dict(model.hyperparameters)
    np.testing.assert_array_equal(loaded.centroids_, model.centroids_)
    np.testing.assert_array_equal(loaded.predict(X), model.predict(X))
    np.testing.assert_array_equal(loaded.filter(X), model.filter(X))
    np.testing.assert_array_equal(loaded.filter(X, warm=False), model.filter(X, warm=False))
    assert loaded.stream().snapshot() == model.stream().snapshot()


def _with(model: JumpModel, **changes: Any) -> bytes:
    return json.dumps({**json.loads(model.dump()), **changes}, sort_keys=True).encode()


@pytest.mark.parametrize(
    "damage",
    [
        lambda m: b"",
        lambda m: b"\x80\x04\x95",
        lambda m: b"[]",
        lambda m: b"{}",
        lambda m: m.dump()[:-1],
        lambda m: m.dump() + b" ",
        lambda m: _with(m, format="atlas-jump/2"),
        lambda m: _with(m, centroids=[[0.0, 0.0]] * 3),
        lambda m: _with(m, centroids=[]),
        lambda m: _with(m, centroids=[[0.0], [1.0, 2.0], [3.0]]),
        lambda m: _with(m, values=[0.0, float("nan"), 1.0]),
        lambda m: _with(m, values=[0.0, -1.0, 1.0]),
        lambda m: _with(m, values=[1.0, 1.0, 1.0]),
        lambda m: _with(m, occupancy=[600, 0, 0]),
        lambda m: _with(m, state=3),
        lambda m: _with(m, state=True),
        lambda m: _with(m, objective=None),
        lambda m: _with(m, recipe={"n_states": 2, "penalty": 8.0}),
        lambda m: _with(m, recipe={"n_states": 3, "penalty": -8.0}),
        lambda m: _with(m, recipe={"n_states": 3, "penalty": 8.0, "code": "x"}),
        lambda m: _with(m, more=1),
    ],
)
def test_bytes_that_are_no_model_are_refused(model: JumpModel, damage: Any) -> None:
    with pytest.raises(ArtifactCorrupt, match=r"Expected .* found"):
        JumpModel.load(damage(model))


@pytest.mark.parametrize(
    "arguments",
    [
        {"n_states": 0},
        {"n_states": 256},
        {"n_states": 2.0},
        {"penalty": -1.0},
        {"penalty": np.inf},
        {"penalty": np.nan},
        {"n_starts": 0},
        {"max_iter": 0},
        {"seed": -1},
    ],
)
def test_hyperparameters_out_of_range_are_refused(arguments: Any) -> None:
    with pytest.raises(InvalidInput, match="found"):
        JumpModel(**{"n_states": 2, "penalty": 1.0, **arguments})


def test_an_infinite_or_boundless_value_is_refused(model: JumpModel) -> None:
    for bad in (np.inf, -np.inf, 1e200):
        X = regimes(40)
        X[7, 1] = bad
        with pytest.raises(InvalidInput, match="row 7, column 1"):
            JumpModel(2, 1.0).fit(X)
        with pytest.raises(InvalidInput, match="in row 7"):
            model.filter(X)
        with pytest.raises(InvalidInput, match="finite"):
            model.predict(X)


def test_too_few_rows_or_a_silent_feature_are_refused() -> None:
    X = regimes(40)
    with pytest.raises(NotEnoughData, match="at least 3 rows"):
        JumpModel(3, 1.0).fit(np.vstack((X[:2], np.full((5, 2), np.nan))))
    X[:, 1] = np.nan
    with pytest.raises(NotEnoughData, match=r"columns \[1\]"):
        JumpModel(2, 1.0).fit(X)


def test_other_features_or_states_are_refused(model: JumpModel) -> None:
    for call in (model.predict, model.filter, JumpModel.load(model.dump()).fit):
        with pytest.raises(FeatureMismatch, match="3"):
            call(np.zeros((9, 3)))
    with pytest.raises(FeatureMismatch, match="3 states"):
        JumpModel(2, 1.0).fit(regimes(), former=model)
    with pytest.raises(InvalidInput, match="shape"):
        model.predict(np.zeros(2))


def test_a_refused_fit_leaves_what_was_learned(model: JumpModel) -> None:
    again = JumpModel.load(model.dump())
    with pytest.raises(InvalidInput):
        again.fit(np.full((9, 2), np.inf))
    assert again.dump() == model.dump()


def test_a_model_that_learned_nothing_says_so() -> None:
    new = JumpModel(2, 1.0)
    for call in (new.dump, new.stream, lambda: new.filter([[0.0]]), lambda: new.predict([[0.0]])):
        with pytest.raises(AtlasError, match="learned nothing"):
            call()


def test_no_rows_give_no_states(model: JumpModel) -> None:
    assert model.predict(np.empty((0, 2))).shape == (0,)
    assert model.filter(np.empty((0, 2))).shape == (0,)


def test_rows_alike_need_no_second_state() -> None:
    model = JumpModel(3, 0.0).fit(np.ones((10, 2)))
    np.testing.assert_array_equal(model.centroids_, [[1, 1], [np.nan] * 2, [np.nan] * 2])
    assert model.objective_ == 0.0


def test_nothing_of_the_rows_is_changed(model: JumpModel) -> None:
    X = regimes(100)
    X.flags.writeable = False
    before = X.copy()
    JumpModel(2, 1.0, n_starts=2).fit(X)
    model.predict(X), model.filter(X)
    np.testing.assert_array_equal(X, before)


def test_importing_it_brings_neither_numba_nor_scipy() -> None:
    code = "import sys, atlas.engines.jump; print(sorted({'numba', 'scipy'} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert done.stdout.strip() == b"[]"
