"""Which rows a trial is fitted to, chosen by and judged by."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from atlas.errors import NotEnoughData
from atlas.stats import combinatorial_splits, walk_forward_splits

if TYPE_CHECKING:
    from atlas.training.candidate import SearchPlan

__all__ = ["Fold", "Folds", "lay_folds"]

Rows = NDArray[np.intp]

# As in López de Prado (2018), ch. 12: fifteen splits.
_GROUPS, _TESTED = 6, 2


@dataclass(frozen=True)
class Fold:
    """Rows to fit, and blocks to play that the fit has not seen."""

    train: Rows
    """In the dataset's order: by symbol and time."""
    blocks: tuple[Rows, ...]
    """Each contiguous in time, in the dataset's order."""


@dataclass(frozen=True)
class Folds:
    """What trials are chosen by, and what the chosen one is judged by: later, and disjoint."""

    selection: tuple[Fold, ...]
    judged: tuple[Fold, ...]

    @property
    def judged_rows(self) -> Rows:
        """(n,) rows of all judged blocks, block after block."""
        return np.concatenate([fold.blocks[0] for fold in self.judged])


def lay_folds(intervals: NDArray[np.integer], plan: SearchPlan, *, embargo: int) -> Folds:
    """Cut labelled rows into folds for selection and folds for judgement.

    Parameters
    ----------
    intervals : (n, 2)
        Closed label spans in bars.
    embargo : int
        Bars after a tested block that are not trained on, where training lies on both sides.

    Raises
    ------
    NotEnoughData
        If a fold would have nothing to fit or to play.
    """
    walked = list(walk_forward_splits(intervals, n_splits=plan.n_folds, embargo=embargo))
    judged = tuple(
        Fold(np.sort(train), (np.sort(test),)) for train, test in walked[plan.n_selection :]
    )
    # No label that decides on the choice reaches into what is judged.
    judged_from = intervals[judged[0].blocks[0], 0].min()
    before = intervals[:, 1] < judged_from
    if plan.selection == "combinatorial":
        selection = _combinatorial(intervals, np.flatnonzero(before), embargo)
    else:
        selection = tuple(
            Fold(np.sort(train), (np.sort(test[before[test]]),))
            for train, test in walked[: plan.n_selection]
        )
    folds = (*selection, *judged)
    if any(not len(f.train) or not all(len(block) for block in f.blocks) for f in folds):
        raise NotEnoughData(
            f"Expected rows to fit and to play in each of {plan.n_folds} folds; found a fold that "
            "the purge leaves empty. Ingest more history."
        )
    return Folds(selection, judged)


def _combinatorial(intervals: NDArray[np.integer], early: Rows, embargo: int) -> tuple[Fold, ...]:
    spans = intervals[early]
    order = np.lexsort((spans[:, 1], spans[:, 0]))
    group = np.empty(len(early), np.intp)
    for number, rows in enumerate(np.array_split(order, _GROUPS)):
        group[rows] = number
    folds = []
    for train, test in combinatorial_splits(
        spans, n_groups=_GROUPS, n_test=_TESTED, embargo=embargo
    ):
        blocks = (test[group[test] == number] for number in np.unique(group[test]))
        folds.append(Fold(early[train], tuple(np.sort(early[block]) for block in blocks)))
    return tuple(folds)
