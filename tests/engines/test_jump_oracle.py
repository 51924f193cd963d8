"""The jump model against an oracle that tries every path, and against arithmetic by hand."""

import itertools
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atlas.engines import JumpModel

# Quarters: every loss and sum is exact in a float, so ties are ties.
quarters = st.integers(-8, 8).map(lambda n: n / 4)
nullable = st.one_of(quarters, st.just(math.nan))


def tables(rows: st.SearchStrategy[int], columns: int, cells: Any = quarters) -> Any:
    return rows.flatmap(
        lambda n: st.lists(
            st.lists(cells, min_size=columns, max_size=columns), min_size=n, max_size=n
        )
    ).map(lambda table: np.array(table, np.float64).reshape(-1, columns))


def loss(row: Any, centroid: Any) -> float:
    return sum(0.5 * (x - m) ** 2 for x, m in zip(row, centroid, strict=True) if not math.isnan(x))


def path_cost(X: Any, path: Any, centroids: Any, penalty: float) -> float:
    jumps = sum(a != b for a, b in itertools.pairwise(path))
    rows = zip(X, path, strict=True)
    return sum(loss(row, centroids[k]) for row, k in rows) + penalty * jumps


def least_cost(X: Any, centroids: Any, penalty: float, *, last: int | None = None) -> float:
    paths = itertools.product(range(len(centroids)), repeat=len(X))
    return min(
        path_cost(X, path, centroids, penalty) for path in paths if last is None or path[-1] == last
    )


def with_centroids(X: Any, n_states: int, penalty: float) -> JumpModel:
    """A model of few starts: the oracles here take its centroids as they are."""
    return JumpModel(n_states, penalty, n_starts=2).fit(X)


@settings(max_examples=60, deadline=None)
@given(
    train=tables(st.integers(8, 12), 2),
    X=tables(st.integers(1, 6), 2, nullable),
    n_states=st.integers(1, 3),
    penalty=st.sampled_from([0.0, 0.25, 1.0, 4.0]),
)
def test_no_path_of_all_is_cheaper_than_the_offline_one(
    train: Any, X: Any, n_states: int, penalty: float
) -> None:
    model = with_centroids(train, n_states, penalty)
    centroids = model.centroids_
    live = [k for k in range(n_states) if not np.isnan(centroids[k, 0])]
    found = model.predict(X)
    if np.isnan(X).all():
        assert found.tolist() == [-1] * len(X)
        return
    assert set(found.tolist()) <= set(live)
    cost = path_cost(X, found, centroids, penalty)
    assert cost == pytest.approx(least_cost(X, centroids[live], penalty), rel=1e-12, abs=1e-12)


@settings(max_examples=60, deadline=None)
@given(
    train=tables(st.integers(8, 12), 2),
    X=tables(st.integers(1, 5), 2, nullable),
    n_states=st.integers(1, 3),
    penalty=st.sampled_from([0.25, 1.0, 4.0]),
)
def test_the_online_state_ends_the_cheapest_path_of_all_up_to_its_row(
    train: Any, X: Any, n_states: int, penalty: float
) -> None:
    model = with_centroids(train, n_states, penalty)
    centroids = model.centroids_
    live = [k for k in range(n_states) if not np.isnan(centroids[k, 0])]
    stream = model.stream(warm=False)
    for t, state in enumerate(model.filter(X, warm=False).tolist()):
        assert stream.update(X[t]) == state
        if np.isnan(X[: t + 1]).all():
            assert state == -1
            continue
        ends = [least_cost(X[: t + 1], centroids, penalty, last=k) for k in live]
        assert ends[live.index(state)] == pytest.approx(min(ends), rel=1e-12, abs=1e-12)
        # Beyond one penalty nothing is remembered, so costs agree up to there.
        np.testing.assert_allclose(
            np.minimum(stream.values[live], penalty),
            np.minimum(np.array(ends) - min(ends), penalty),
            rtol=0,
            atol=1e-12,
        )


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    X=tables(st.integers(3, 7), 1, quarters),
    n_states=st.integers(1, 3),
    penalty=st.sampled_from([0.0, 0.25, 1.0]),
)
def test_no_split_of_few_rows_has_a_lower_objective(X: Any, n_states: int, penalty: float) -> None:
    def best_of(path: Any) -> float:
        centres = [
            X[np.array(path) == k].mean(axis=0) if k in path else [0.0] for k in range(n_states)
        ]
        return path_cost(X, path, centres, penalty)

    oracle = min(best_of(path) for path in itertools.product(range(n_states), repeat=len(X)))
    found = JumpModel(n_states, penalty, n_starts=100).fit(X).objective_
    assert found == pytest.approx(oracle, rel=1e-12, abs=1e-12)


def test_the_objective_is_that_of_the_training_path_and_its_means() -> None:
    random = np.random.default_rng(5)
    X = random.normal(size=(500, 3)) + np.repeat(random.normal(size=(10, 3)), 50, axis=0)
    X[random.random(X.shape) < 0.1] = np.nan
    model = JumpModel(3, 5.0).fit(X)
    path = model.predict(X)
    means = np.array([np.nanmean(X[path == k], axis=0) for k in range(3)])
    np.testing.assert_allclose(model.centroids_, means, rtol=0, atol=1e-13)
    assert model.objective_ == pytest.approx(path_cost(X, path, means, 5.0), rel=1e-13)
    np.testing.assert_array_equal(model.occupancy_, np.bincount(path, minlength=3))


def test_two_levels_by_hand() -> None:
    # Five rows at 0, three at 4. One state: mean 1.5, half squares 5 · 1.125 + 3 · 3.125 = 15.
    X = np.array([0, 0, 0, 0, 0, 4, 4, 4], np.float64)[:, None]
    cheap, dear = JumpModel(2, 14.0).fit(X), JumpModel(2, 16.0).fit(X)
    assert cheap.objective_ == 14.0
    assert cheap.centroids_.tolist() == [[0.0], [4.0]]
    assert cheap.predict(X).tolist() == [0, 0, 0, 0, 0, 1, 1, 1]
    # Online a row at 4 speaks for state 1 by 8, so two of them pay for the jump.
    assert cheap.filter(X, warm=False).tolist() == [0, 0, 0, 0, 0, 0, 1, 1]
    assert dear.objective_ == 15.0
    assert dear.occupancy_.tolist() == [8, 0]
    np.testing.assert_array_equal(dear.centroids_, [[1.5], [np.nan]])
    assert dear.filter(X).tolist() == [0] * 8
