"""Folds never train on what they test: purge, embargo, and nothing more is lost."""

from itertools import chain, combinations
from math import comb

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from atlas.errors import InvalidInput, NotEnoughData
from atlas.stats import (
    combinatorial_splits,
    purged_splits,
    uniqueness_weights,
    walk_forward_splits,
)

label_spans = st.lists(
    st.tuples(st.integers(0, 40), st.integers(0, 6)).map(lambda s: (s[0], s[0] + s[1])),
    min_size=6,
    max_size=40,
).map(np.array)


def lists(splits):
    return [(train.tolist(), test.tolist()) for train, test in splits]


def slow_blocks(spans, n_blocks):
    ordered = sorted(range(len(spans)), key=lambda i: (*spans[i], i))
    sizes = [len(spans) // n_blocks + (i < len(spans) % n_blocks) for i in range(n_blocks)]
    ends = np.cumsum(sizes)
    return [ordered[end - size : end] for end, size in zip(ends, sizes, strict=True)]


def slow_train(spans, tested_blocks, embargo):
    """Keep a label if no tested block shares a bar with it, or ends shortly before it starts."""
    kept = []
    for i, (start, end) in enumerate(spans):
        clear = True
        for block in tested_blocks:
            first, last = min(spans[j][0] for j in block), max(spans[j][1] for j in block)
            overlaps = start <= last and end >= first
            embargoed = last < start <= last + embargo
            clear = clear and not overlaps and not embargoed
        if clear:
            kept.append(i)
    return kept


@settings(max_examples=50, deadline=None)
@given(label_spans, st.integers(2, 6), st.integers(0, 8))
def test_purged_splits_equal_the_slow_rule(spans, n_splits, embargo):
    expected = [
        (slow_train(spans, [block], embargo), sorted(block))
        for block in slow_blocks(spans, n_splits)
    ]
    assert lists(purged_splits(spans, n_splits=n_splits, embargo=embargo)) == expected


@settings(max_examples=50, deadline=None)
@given(label_spans, st.integers(1, 5), st.integers(0, 8))
def test_walk_forward_splits_equal_the_slow_rule(spans, n_splits, embargo):
    expected = []
    for block in slow_blocks(spans, n_splits + 1)[1:]:
        first = min(spans[j][0] for j in block)
        before = [i for i, (_, end) in enumerate(spans) if end < first]
        expected.append((before, sorted(block)))
    assert lists(walk_forward_splits(spans, n_splits=n_splits, embargo=embargo)) == expected


@settings(max_examples=50, deadline=None)
@given(label_spans, st.integers(2, 5), st.data(), st.integers(0, 8))
def test_combinatorial_splits_equal_the_slow_rule(spans, n_groups, data, embargo):
    n_test = data.draw(st.integers(1, n_groups - 1))
    expected = [
        (slow_train(spans, blocks, embargo), sorted(chain(*blocks)))
        for blocks in combinations(slow_blocks(spans, n_groups), n_test)
    ]
    splits = combinatorial_splits(spans, n_groups=n_groups, n_test=n_test, embargo=embargo)
    assert lists(splits) == expected


def test_purged_splits_by_hand():
    """Nine labels of two bars, one a bar; the middle block tests bars 3 to 6."""
    spans = [(i, i + 1) for i in range(9)]
    assert lists(purged_splits(spans, n_splits=3, embargo=1)) == [
        ([5, 6, 7, 8], [0, 1, 2]),  # 3 ends the block; bar 4 is embargoed
        ([0, 1, 8], [3, 4, 5]),  # label 2 reaches bar 3, 7 starts in the embargo
        ([0, 1, 2, 3, 4], [6, 7, 8]),
    ]


def test_walk_forward_splits_by_hand():
    spans = [(i, i + 1) for i in range(8)]
    assert lists(walk_forward_splits(spans, n_splits=3, embargo=0)) == [
        ([0], [2, 3]),
        ([0, 1, 2], [4, 5]),
        ([0, 1, 2, 3, 4], [6, 7]),
    ]


def test_purge_leaves_a_gap_before_every_test_fold():
    spans = np.array([(i, i + 5) for i in range(60)])
    gaps = [
        spans[test, 0].min() - spans[train, 1].max()
        for train, test in walk_forward_splits(spans, n_splits=4, embargo=3)
    ]
    assert gaps == [1, 1, 1, 1]  # the last bar trained on is the one before the fold


def test_the_embargo_counts_from_the_last_label_end_and_not_from_the_last_row():
    spans = [(0, 30), (1, 2), (40, 41), (33, 34), (30, 31), (31, 32)]
    train, test = next(iter(purged_splits(spans, n_splits=3, embargo=2)))
    assert (train.tolist(), test.tolist()) == ([2, 3], [0, 1])


def test_six_groups_two_tested_make_fifteen_splits_and_five_paths():
    """López de Prado (2018), section 12.3."""
    spans = [(i, i) for i in range(60)]
    splits = list(combinatorial_splits(spans, n_groups=6, n_test=2, embargo=0))
    tested = np.bincount(np.concatenate([test for _, test in splits]), minlength=60)
    assert len(splits) == comb(6, 2) == 15
    assert tested.tolist() == [5] * 60


def test_symbols_that_share_the_axis_are_purged_together():
    """Two symbols, the same bars: no label may train where the other symbol is tested."""
    spans = np.array([(i, i + 2) for i in range(10)] * 2)
    overlaps = [
        int(
            (
                (spans[train, None, 0] <= spans[None, test, 1])
                & (spans[train, None, 1] >= spans[None, test, 0])
            ).sum()
        )
        for train, test in purged_splits(spans, n_splits=4, embargo=0)
    ]
    assert overlaps == [0, 0, 0, 0]


@settings(max_examples=50, deadline=None)
@given(label_spans, st.integers(2, 6), st.randoms())
def test_the_order_of_rows_does_not_matter(spans, n_splits, random):
    spans = np.unique(spans, axis=0)
    assume(len(spans) >= n_splits)
    order = list(range(len(spans)))
    random.shuffle(order)
    shuffled = [
        (sorted(order[i] for i in train), sorted(order[i] for i in test))
        for train, test in purged_splits(spans[order], n_splits=n_splits, embargo=1)
    ]
    assert shuffled == lists(purged_splits(spans, n_splits=n_splits, embargo=1))


@pytest.mark.parametrize("spans", [[(3, 2)], [(0.0, 1.0)], [1, 2], [(0, 1, 2)], [(True, True)]])
def test_malformed_spans_are_refused_before_the_first_split(spans):
    with pytest.raises(InvalidInput, match="intervals"):
        purged_splits(spans, n_splits=2, embargo=0)


@pytest.mark.parametrize(
    ("splitter", "arguments"),
    [
        (purged_splits, {"n_splits": 1, "embargo": 0}),
        (purged_splits, {"n_splits": 2, "embargo": -1}),
        (purged_splits, {"n_splits": 2, "embargo": 0.5}),
        (walk_forward_splits, {"n_splits": 0, "embargo": 0}),
        (combinatorial_splits, {"n_groups": 3, "n_test": 3, "embargo": 0}),
        (combinatorial_splits, {"n_groups": 3, "n_test": 0, "embargo": 0}),
    ],
)
def test_counts_out_of_range_are_refused_before_the_first_split(splitter, arguments):
    with pytest.raises(InvalidInput):
        splitter([(i, i) for i in range(9)], **arguments)


def test_an_embargo_beyond_all_bars_leaves_what_came_before():
    found = [
        (train.tolist(), test.tolist())
        for train, test in purged_splits([[0, 1], [2, 3], [4, 5]], n_splits=3, embargo=2**70)
    ]
    assert found == [([], [0]), ([0], [1]), ([0, 1], [2])]


@pytest.mark.parametrize(
    "spans", [np.array([[0, 2**63 + 5]], dtype=np.uint64), [[-(2**62), 0]], [[0, 2**62]]]
)
def test_bars_that_would_wrap_around_are_refused(spans):
    with pytest.raises(InvalidInput, match="of 0"):
        purged_splits(spans, n_splits=2, embargo=0)


def test_fewer_labels_than_blocks_are_refused():
    with pytest.raises(NotEnoughData, match="3 blocks, found 2"):
        walk_forward_splits([(0, 1), (1, 2)], n_splits=2, embargo=0)


@settings(max_examples=50, deadline=None)
@given(label_spans)
def test_uniqueness_equals_a_count_bar_by_bar(spans):
    alive = np.zeros(60)
    for start, end in spans:
        alive[start : end + 1] += 1
    expected = [np.mean(1 / alive[start : end + 1]) for start, end in spans]
    assert uniqueness_weights(spans) == pytest.approx(np.array(expected), rel=1e-12)


def test_uniqueness_is_that_of_the_book():
    """López de Prado (2018), section 4.5.3: spans 0-2, 2-3, 4-5 give 5/6, 3/4 and 1."""
    assert uniqueness_weights([(0, 2), (2, 3), (4, 5)]) == pytest.approx([5 / 6, 3 / 4, 1])


def test_a_label_alone_weighs_exactly_one_wherever_it_lies():
    far = 10**15
    assert uniqueness_weights([(far, far + 7), (0, 2), (5, 5)]).tolist() == [1.0, 1.0, 1.0]


def test_no_labels_have_no_weights():
    assert uniqueness_weights(np.empty((0, 2), dtype=int)).tolist() == []
