"""The jump model equals the package of its authors, on data of our choosing."""

import importlib
import json
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atlas.engines import Dataset, JumpEngine, JumpModel


@contextmanager
def quiet() -> Iterator[None]:
    """Let the package warn, and undo its change of NumPy's error handling for the process."""
    with warnings.catch_warnings(), np.errstate():
        warnings.simplefilter("ignore")
        np.seterr(all="ignore")
        yield


@pytest.fixture(scope="module")
def reference() -> Callable[..., Any]:
    """Fit the package's model, its states in the order of their frequency."""
    with quiet():
        package = importlib.import_module("jumpmodels.jump")

    def fit(X: Any, n_states: int, penalty: float) -> Any:
        with quiet():
            return package.JumpModel(n_states, penalty, random_state=0).fit(X, sort_by="freq")

    return fit


def assert_equal_models(ours: JumpModel, theirs: Any, later: Any) -> None:
    with quiet():
        online = theirs.predict_online(later)
        offline = theirs.predict(later)
    assert ours.objective_ == pytest.approx(theirs.val_, rel=1e-12)
    np.testing.assert_allclose(ours.centroids_, theirs.centers_, rtol=1e-10, atol=1e-12)
    np.testing.assert_array_equal(ours.predict(later), np.asarray(offline))
    np.testing.assert_array_equal(ours.filter(later, warm=False), np.asarray(online))


def regimes(n_rows: int, n_states: int, n_features: int, *, seed: int) -> Any:
    random = np.random.default_rng(seed)
    centres = 1.5 * random.normal(size=(n_states, n_features))
    share = 0.5 ** np.arange(n_states)
    which = random.choice(n_states, size=n_rows // 25, p=share / share.sum())
    return random.normal(size=(n_rows, n_features)) + np.repeat(centres[which], 25, axis=0)


@pytest.mark.parametrize("n_states", [1, 2, 3, 4])
@pytest.mark.parametrize("penalty", [0.0, 2.0, 20.0])
def test_it_equals_the_package_on_regimes(
    reference: Callable[..., Any], n_states: int, penalty: float
) -> None:
    X = regimes(1_500, n_states, 3, seed=10 + n_states)
    train, later = X[:1_000], X[1_000:]
    ours, theirs = JumpModel(n_states, penalty).fit(train), reference(train, n_states, penalty)
    assert_equal_models(ours, theirs, later)
    np.testing.assert_array_equal(ours.predict(train), np.asarray(theirs.labels_))


@settings(max_examples=40, deadline=None)
@given(
    X=st.lists(st.lists(st.integers(-8, 8), min_size=2, max_size=2), min_size=12, max_size=40),
    penalty=st.sampled_from([0.0, 0.5, 2.0, 8.0]),
)
def test_ties_go_the_same_way(reference: Callable[..., Any], X: Any, penalty: float) -> None:
    # Whole numbers about whole centroids: every cost is exact, and many paths cost the same.
    levels = np.repeat([[-8.0, 0.0], [0.0, 0.0], [0.0, 8.0]], [40, 30, 20], axis=0)
    ours, theirs = JumpModel(3, penalty).fit(levels), reference(levels, 3, penalty)
    assert_equal_models(ours, theirs, np.array(X, float))


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 2**32 - 1),
    n_rows=st.integers(20, 200),
    n_states=st.integers(2, 4),
    n_features=st.integers(1, 3),
    penalty=st.sampled_from([0.0, 0.5, 2.0, 5.0, 20.0]),
    kind=st.sampled_from(["noise", "levels", "walk"]),
)
def test_its_objective_is_never_worse_than_that_of_the_package(
    reference: Callable[..., Any],
    seed: int,
    n_rows: int,
    n_states: int,
    n_features: int,
    penalty: float,
    kind: str,
) -> None:
    random = np.random.default_rng(seed)
    X = random.normal(size=(n_rows, n_features))
    if kind == "levels":
        X += 2 * random.normal(size=(n_rows // 10 + 1, n_features)).repeat(10, axis=0)[:n_rows]
    elif kind == "walk":
        X = X.cumsum(axis=0) / 5
    ours, theirs = JumpModel(n_states, penalty).fit(X), reference(X, n_states, penalty)
    assert ours.objective_ <= theirs.val_ * (1 + 1e-9)


@pytest.fixture(scope="module")
def nasdaq(market_data: Path) -> tuple[Any, Any]:
    """Standardised features of the Nasdaq-100, 2007 to 2021 and after.

    Logarithm of the downside deviation of half-life 10 days, Sortino ratios of 20 and 60 days (Shu,
    Yu, Mulvey 2024), clipped at three deviations of the training span and scaled by it.
    """
    path = market_data / "index_daily" / "jumpmodels_NDX.csv"
    if not path.is_file():
        pytest.skip(f"no history of the Nasdaq-100 at {path}")
    daily = pd.read_csv(path, index_col="date", parse_dates=True)["ret"].dropna()

    def downside(half_life: float) -> Any:
        return np.sqrt((daily.clip(upper=0) ** 2).ewm(halflife=half_life).mean())

    columns = [
        np.log(downside(10)),
        daily.ewm(halflife=20).mean() / downside(20),
        daily.ewm(halflife=60).mean() / downside(60),
    ]
    table = pd.concat(columns, axis=1).loc["2007":]
    train = table.loc[:"2021"]
    low, high = train.mean() - 3 * train.std(ddof=0), train.mean() + 3 * train.std(ddof=0)
    clipped = table.clip(low, high, axis=1)
    centre, scale = clipped.loc[:"2021"].mean(), clipped.loc[:"2021"].std(ddof=0)
    scaled = (clipped - centre) / scale
    return scaled.loc[:"2021"].to_numpy(), scaled.loc["2022":].to_numpy()


@pytest.mark.parametrize(("n_states", "penalty"), [(2, 10.0), (2, 50.0), (3, 10.0)])
def test_it_equals_the_package_on_the_nasdaq(
    reference: Callable[..., Any], nasdaq: tuple[Any, Any], n_states: int, penalty: float
) -> None:
    train, later = nasdaq
    assert (len(train), len(later)) == (3_777, 688)
    ours, theirs = JumpModel(n_states, penalty).fit(train), reference(train, n_states, penalty)
    assert_equal_models(ours, theirs, later)
    np.testing.assert_array_equal(ours.predict(train), np.asarray(theirs.labels_))
    np.testing.assert_array_equal(
        ours.filter(later),
        ours.filter(np.vstack((train, later)), warm=False)[len(train) :],
    )


def test_it_finds_a_better_split_of_the_nasdaq_where_the_package_stops_short(
    reference: Callable[..., Any], nasdaq: tuple[Any, Any]
) -> None:
    train, _ = nasdaq
    ours, theirs = JumpModel(3, 50.0).fit(train), reference(train, 3, 50.0)
    assert ours.objective_ <= theirs.val_ * (1 + 1e-12)
    # Descending from our centroids the package stays there: it is an optimum of its own as well.
    theirs.n_init, theirs.centers_ = 1, ours.centroids_
    with quiet():
        theirs.fit(train, sort_by="freq")
    assert theirs.val_ == pytest.approx(ours.objective_, rel=1e-12)
    assert_equal_models(ours, theirs, train)


def test_the_bear_market_of_2022_is_one_regime(nasdaq: tuple[Any, Any]) -> None:
    train, later = nasdaq
    online = JumpModel(2, 50.0).fit(train).filter(later)
    # The rarer regime from the end of January 2022 to April 2023, as seen at the time.
    assert online.tolist() == [0] * 17 + [1] * 310 + [0] * 361


def test_the_engine_reads_windows_of_the_nasdaq_as_the_package_does(
    reference: Callable[..., Any], nasdaq: tuple[Any, Any]
) -> None:
    train, later = nasdaq
    rows = np.concatenate((train, later)) * [3.0, 0.1, 1.0] + [0.0, 5.0, -1.0]
    bars = np.arange(len(rows))
    labels = np.where(bars % 2, 1, -1)
    whole = Dataset(
        rows,
        labels,
        features=("downside", "sortino_20", "sortino_60"),
        intervals=np.column_stack((bars, bars)),
        symbols=np.repeat("NDX", len(rows)),
        returns=0.01 * labels,
    )
    engine = JumpEngine(n_states=2, penalty=50.0, sequence=250, n_starts=50)
    engine.fit(whole.take(bars < len(train)))
    # Its features in its own scale, as the package takes them.
    said = json.loads(engine.dump())
    scaled = (rows.astype(np.float32).astype(float) - said["mean"]) * said["scale"]
    theirs = reference(scaled[: len(train)], 2, 50.0)
    assert np.abs(scaled).max() < 8.0  # none is cut
    assert engine.model_.objective_ == pytest.approx(theirs.val_, rel=1e-12)
    np.testing.assert_allclose(engine.model_.centroids_, theirs.centers_, rtol=1e-10, atol=1e-12)
    ends = np.arange(len(train), len(rows), 7)
    with quiet():
        online = [theirs.predict_online(scaled[end - 249 : end + 1])[-1] for end in ends]
    found = engine.regimes(whole.take(ends))
    assert len(set(found.tolist())) == 2
    assert found.tolist() == online
