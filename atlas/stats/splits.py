"""Which labels may be trained on when others are tested: purge and embargo on label spans.

A label spans bars `[start, end]`, both inside. Labels of several symbols share one time axis; they
may come in any order, and may tie. They are put in order of time, cut into contiguous blocks of
near equal count (the first ones take the remainder), and a block tested covers every bar from its
first start to its last end. Its training labels share no bar with it, and none starts within
`embargo` bars after its last end.
"""

from collections.abc import Iterator
from itertools import combinations
from typing import SupportsIndex

import numpy as np
from numpy.typing import ArrayLike, NDArray

from atlas.errors import InvalidInput, NotEnoughData
from atlas.stats.arguments import LAST_BAR, IntArray, count, spans

__all__ = ["combinatorial_splits", "purged_splits", "walk_forward_splits"]

Split = tuple[IntArray, IntArray]


def purged_splits(
    intervals: ArrayLike, *, n_splits: SupportsIndex, embargo: SupportsIndex
) -> Iterator[Split]:
    """Test each block in turn and train on both sides of it.

    Parameters
    ----------
    intervals : (n, 2) int
        Closed label spans in bars.
    n_splits : int
        Blocks, at least two; each is tested once.
    embargo : int
        Bars after the last label end of the test block in which no training label starts.

    Yields
    ------
    train, test : (k,) int
        Row numbers of `intervals`, ascending. Long labels may leave nothing to train on.

    Raises
    ------
    InvalidInput
        If the spans or the counts are malformed.
    NotEnoughData
        If there are fewer labels than blocks.

    References
    ----------
    López de Prado (2018), "Advances in Financial Machine Learning", ch. 7.
    """
    labels = spans(intervals)
    folds = count(n_splits, "n_splits", at_least=2)
    return _combinations(labels, _blocks(labels, folds), 1, _gap(embargo))


def walk_forward_splits(
    intervals: ArrayLike, *, n_splits: SupportsIndex, embargo: SupportsIndex
) -> Iterator[Split]:
    """Test each block but the first in turn and train only on what ended before it.

    The labels are cut into `n_splits + 1` blocks; the first is only trained on. The embargo counts
    bars after a test block, where nothing is trained on here: it is checked and changes nothing,
    and is there so that the splitters are exchangeable.

    Parameters
    ----------
    intervals : (n, 2) int
        Closed label spans in bars.
    n_splits : int
        Blocks tested, at least one.
    embargo : int
        Bars after the last label end of the test block.

    Yields
    ------
    train, test : (k,) int
        Row numbers of `intervals`, ascending. Long labels may leave nothing to train on.

    Raises
    ------
    InvalidInput
        If the spans or the counts are malformed.
    NotEnoughData
        If there are fewer labels than blocks.

    References
    ----------
    López de Prado (2018), "Advances in Financial Machine Learning", ch. 7 and 11; Pardo (2008),
    "The Evaluation and Optimization of Trading Strategies", ch. 11.
    """
    labels = spans(intervals)
    folds = count(n_splits, "n_splits", at_least=1)
    _gap(embargo)
    return _forward(labels, _blocks(labels, folds + 1))


def combinatorial_splits(
    intervals: ArrayLike,
    *,
    n_groups: SupportsIndex,
    n_test: SupportsIndex,
    embargo: SupportsIndex,
) -> Iterator[Split]:
    """Test every choice of `n_test` of `n_groups` blocks and train on the rest.

    The choices come in lexicographic order. Purge and embargo are applied around each tested block
    by itself, so training labels may lie between two of them.

    Parameters
    ----------
    intervals : (n, 2) int
        Closed label spans in bars.
    n_groups : int
        Blocks that the labels are cut into, at least two.
    n_test : int
        Blocks tested at a time, at least one and fewer than `n_groups`.
    embargo : int
        Bars after the last label end of each tested block in which no training label starts.

    Yields
    ------
    train, test : (k,) int
        Row numbers of `intervals`, ascending. Long labels may leave nothing to train on.

    Raises
    ------
    InvalidInput
        If the spans or the counts are malformed.
    NotEnoughData
        If there are fewer labels than groups.

    References
    ----------
    López de Prado (2018), "Advances in Financial Machine Learning", ch. 12.
    """
    labels = spans(intervals)
    groups = count(n_groups, "n_groups", at_least=2)
    tested = count(n_test, "n_test", at_least=1)
    if tested >= groups:
        raise InvalidInput(
            f"n_test: expected fewer than n_groups = {groups}, found {tested}. "
            "At least one group must be left to train on."
        )
    return _combinations(labels, _blocks(labels, groups), tested, _gap(embargo))


def _gap(embargo: SupportsIndex) -> int:
    # No label starts later than the last bar: a longer embargo says no more, and would overflow.
    return min(count(embargo, "embargo", at_least=0), LAST_BAR)


def _blocks(labels: IntArray, n_blocks: int) -> list[IntArray]:
    """Cut the labels, in order of time, into blocks of row numbers."""
    if len(labels) < n_blocks:
        raise NotEnoughData(
            f"intervals: expected at least one label for each of {n_blocks} blocks, found "
            f"{len(labels)}. Pass more labels or fewer splits."
        )
    # By start, then end, then row: a stable order, so the same labels give the same folds.
    ordered = np.lexsort((labels[:, 1], labels[:, 0]))
    return [np.sort(block) for block in np.array_split(ordered, n_blocks)]


def _combinations(
    labels: IntArray, blocks: list[IntArray], n_test: int, embargo: int
) -> Iterator[Split]:
    clear = [_clear_of(labels, block, embargo) for block in blocks]
    for chosen in combinations(range(len(blocks)), n_test):
        train = np.logical_and.reduce([clear[i] for i in chosen])
        test = np.sort(np.concatenate([blocks[i] for i in chosen]))
        yield np.flatnonzero(train), test


def _clear_of(labels: IntArray, block: IntArray, embargo: int) -> NDArray[np.bool_]:
    """Mark the labels that end before the block, or start after it and its embargo."""
    first, last = labels[block, 0].min(), labels[block, 1].max()
    clear: NDArray[np.bool_] = (labels[:, 1] < first) | (labels[:, 0] > last + embargo)
    return clear


def _forward(labels: IntArray, blocks: list[IntArray]) -> Iterator[Split]:
    for block in blocks[1:]:
        yield np.flatnonzero(labels[:, 1] < labels[block, 0].min()), block
