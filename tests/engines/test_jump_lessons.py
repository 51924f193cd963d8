"""Which rows a jump engine learns from: none of a test block, none of the future, few others."""

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atlas.engines import Dataset, History, JumpEngine, JumpModel
from atlas.engines.jump_lessons import find_stretches
from atlas.errors import InvalidInput, NotEnoughData
from atlas.stats import combinatorial_splits, purged_splits, walk_forward_splits

ENGINE: dict[str, Any] = {"penalty": 1.0, "sequence": 20, "n_starts": 2}


def market(
    spans: Any, *, every: int = 3, n_symbols: int = 2, X: Any = None, weights: Any = None
) -> Dataset:
    """Labels on every third bar of symbols whose every bar is in the history, in mixed order."""
    random = np.random.default_rng(0)
    spans = np.asarray(spans)
    n_labels = len(spans) // n_symbols
    n_bars = every * n_labels + 40
    bars = np.tile(np.arange(n_bars), n_symbols)
    symbols = np.repeat([f"S{i}" for i in range(n_symbols)], n_bars)
    values = random.normal(size=(len(bars), 2)) + 2.0 * (bars[:, None] // 25 % 2)
    shuffle = random.permutation(len(bars))
    values = values[shuffle] if X is None else X
    # Times are in another unit than bars, and start elsewhere.
    history = History(values, symbols=symbols[shuffle], times=7_000 + 60 * bars[shuffle])
    where = np.argsort(shuffle)  # bar b of symbol s stands at where[s * n_bars + b]
    starts = 20 + every * np.arange(n_labels)
    at = np.concatenate([where[s * n_bars + starts] for s in range(n_symbols)])
    starts = np.tile(starts, n_symbols)
    n = len(at)
    y = np.where(random.random(n) < 0.5, 1, -1)
    return Dataset(
        values[at],
        y,
        features=("a", "b"),
        intervals=np.column_stack((starts, starts + spans[:n])),
        symbols=history.symbols[at],
        weights=weights,
        returns=0.01 * y,
        history=history,
        at=at,
    )


def bars_of(dataset: Dataset) -> Any:
    return (dataset.history.times - 7_000) // 60


def changed(dataset: Dataset, rows: Any) -> Dataset:
    """Return the same dataset with these rows of the history made wild."""
    X = dataset.history.X.copy()
    X[rows] = 1e3 - X[rows]
    history = History(X, symbols=dataset.history.symbols, times=dataset.history.times)
    return Dataset(
        X[dataset.at],
        dataset.y,
        features=dataset.features,
        intervals=dataset.intervals,
        symbols=dataset.symbols,
        weights=dataset.weights,
        returns=dataset.returns,
        history=history,
        at=dataset.at,
    )


def splits_of(dataset: Dataset) -> list[Any]:
    spans = dataset.intervals
    return [
        *walk_forward_splits(spans, n_splits=3, embargo=4),
        *purged_splits(spans, n_splits=3, embargo=4),
        *combinatorial_splits(spans, n_groups=4, n_test=2, embargo=4),
    ]


@settings(max_examples=80, deadline=None)
@given(
    spans=st.lists(st.integers(0, 12), min_size=60, max_size=100),
    n_symbols=st.integers(1, 3),
)
def test_no_row_of_a_test_block_is_learned_from(spans: list[int], n_symbols: int) -> None:
    dataset = market(spans, n_symbols=n_symbols)
    bars = bars_of(dataset)
    n_seen = 0
    for train, test in splits_of(dataset):
        if not len(train):
            continue
        fold = dataset.take(train)
        stretches = find_stretches(fold)
        used = dataset.history.order[stretches.places]
        covered = {bar for first, last in fold.intervals.tolist() for bar in range(first, last + 1)}
        tested = {bar for row in test for bar in range(*(dataset.intervals[row] + [0, 1]))}
        assert not tested & set(bars[used].tolist())
        assert set(bars[used].tolist()) <= covered
        assert set(fold.at.tolist()) <= set(used.tolist())
        n_seen += len(used)
    assert n_seen > 0


@settings(max_examples=40, deadline=None)
@given(spans=st.lists(st.integers(0, 12), min_size=60, max_size=100), seed=st.integers(0, 99))
def test_the_stretches_are_those_of_a_slow_walk(spans: list[int], seed: int) -> None:
    random = np.random.default_rng(seed)
    dataset = market(spans, weights=(random.random(len(spans) // 2 * 2) < 0.8).astype(float))
    if not dataset.weights.any():
        return
    rows = [i for i in range(len(dataset)) if dataset.weights[i] > 0]
    covered = {b for i in rows for b in range(dataset.intervals[i, 0], dataset.intervals[i, 1] + 1)}
    order = dataset.history.order.tolist()
    place = {row: p for p, row in enumerate(order)}
    rows.sort(key=lambda i: place[dataset.at[i]])
    expected: list[list[int]] = []
    for before, row in zip([None, *rows], rows, strict=False):
        here, start = place[dataset.at[row]], dataset.intervals[row, 0]
        follows = (
            before is not None
            and dataset.symbols[before] == dataset.symbols[row]
            and all(bar in covered for bar in range(dataset.intervals[before, 0], start))
        )
        if follows:
            expected[-1] += range(expected[-1][-1] + 1, here + 1)
        else:
            expected.append([here])
    found = find_stretches(dataset)
    assert found.places.tolist() == [p for stretch in expected for p in stretch]
    assert found.fresh.sum() == len(expected)
    assert found.places[found.fresh].tolist() == [stretch[0] for stretch in expected]
    assert found.labels.tolist() == rows
    assert found.places[found.taught].tolist() == [place[dataset.at[i]] for i in rows]
    begins = {p: stretch[0] for stretch in expected for p in stretch}
    assert found.places[found.begins].tolist() == [begins[place[dataset.at[i]]] for i in rows]


SPANS = np.random.default_rng(1).integers(1, 9, 120)


@pytest.mark.parametrize("number", range(3 + 3 + 6))
def test_a_fold_learns_the_same_whatever_the_test_block_holds(number: int) -> None:
    dataset = market(SPANS)
    train, test = splits_of(dataset)[number]
    fold, block = dataset.take(train), dataset.intervals[test]
    bars = bars_of(dataset)
    # Every bar of either symbol that no training label spans: the blocks, the embargo, the future.
    spanned = np.zeros(bars.max() + 1, np.bool_)
    for first, last in fold.intervals.tolist():
        spanned[first : last + 1] = True
    assert not any(spanned[first : last + 1].any() for first, last in block.tolist())
    learned = JumpEngine(**ENGINE).fit(fold).dump()
    assert JumpEngine(**ENGINE).fit(changed(fold, ~spanned[bars])).dump() == learned
    # It is not blind altogether.
    between = spanned[bars] & ~np.isin(np.arange(len(bars)), fold.at)
    assert JumpEngine(**ENGINE).fit(changed(fold, between)).dump() != learned


def test_rows_before_the_first_and_after_the_last_label_teach_nothing() -> None:
    dataset = market(SPANS)
    bars = bars_of(dataset)
    outside = (bars < dataset.intervals[:, 0].min()) | (bars > dataset.intervals[:, 0].max())
    assert outside.sum() > 40
    learned = JumpEngine(**ENGINE).fit(dataset).dump()
    assert JumpEngine(**ENGINE).fit(changed(dataset, outside)).dump() == learned


def test_rows_without_weight_after_the_others_teach_nothing_at_all() -> None:
    weights = np.ones(120)
    weights[40:60] = weights[100:120] = 0.0  # the later labels of both symbols
    dataset = market(SPANS, weights=weights)
    last = dataset.intervals[weights > 0, 0].max()
    learned = JumpEngine(**ENGINE).fit(dataset).dump()
    later = bars_of(dataset) > last
    assert JumpEngine(**ENGINE).fit(changed(dataset, later)).dump() == learned


def test_no_weight_and_no_order_are_refused() -> None:
    with pytest.raises(NotEnoughData, match="rows that carry weight"):
        find_stretches(market(SPANS, weights=np.zeros(120)))
    dataset = market(SPANS, n_symbols=1)
    backwards = Dataset(
        dataset.X,
        dataset.y,
        features=dataset.features,
        intervals=dataset.intervals[::-1],
        symbols=dataset.symbols,
        history=dataset.history,
        at=dataset.at,
    )
    with pytest.raises(InvalidInput, match="start in the order of its rows' times"):
        find_stretches(backwards)


def test_between_two_markets_a_change_of_regime_is_free() -> None:
    random = np.random.default_rng(0)
    first, second = random.normal(-2, 1, (40, 1)), random.normal(2, 1, (30, 1))
    X, fresh = np.concatenate((first, second)), np.arange(70) == 40
    free, dear = JumpModel(2, 1e3, n_starts=3), JumpModel(2, 1e3, n_starts=3)
    free.fit(X, fresh=fresh)
    dear.fit(X)
    assert free.occupancy_.tolist() == [40, 30]
    # One change at the full price is not worth it.
    assert dear.occupancy_.tolist() == [70, 0]
    losses = [((part - part.mean()) ** 2).sum() / 2 for part in (first, second)]
    assert free.objective_ == pytest.approx(sum(losses))


@settings(max_examples=60, deadline=None)
@given(
    cuts=st.sets(st.integers(1, 29), max_size=4),
    penalty=st.sampled_from([0.0, 0.5, 3.0]),
    seed=st.integers(0, 99),
)
def test_the_cost_of_stretches_is_the_sum_of_their_own_costs(
    cuts: set[int], penalty: float, seed: int
) -> None:
    from atlas.engines.jump_paths import trace

    random = np.random.default_rng(seed)
    X = random.normal(size=(30, 2)) + random.choice([-1.5, 1.5], size=(30, 1))
    X[random.random(X.shape) < 0.2] = np.nan
    fresh = np.isin(np.arange(30), list(cuts))
    model = JumpModel(2, penalty, n_starts=2).fit(X, fresh=fresh)
    ends = [0, *sorted(cuts), 30]
    alone = [
        trace(
            X[a:b],
            np.zeros(b - a, np.bool_),
            model.centroids_,
            penalty,
            np.empty(b - a, np.int32),
        )
        for a, b in pairwise(ends)
    ]
    assert model.objective_ == pytest.approx(sum(alone), rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("fresh", [np.zeros(3, bool), np.zeros(10), np.zeros((10, 1), bool)])
def test_marks_of_another_form_are_refused(fresh: Any) -> None:
    with pytest.raises(InvalidInput, match="Expected fresh of shape"):
        JumpModel(1, 1.0).fit(np.arange(10.0)[:, None], fresh=fresh)
