"""How often the best trial in sample disappoints out of sample (CSCV)."""

from collections.abc import Iterator
from dataclasses import dataclass
from math import comb

import numpy as np
from numpy.typing import ArrayLike, NDArray

from atlas.errors import InvalidInput, NotEnoughData
from atlas.stats.arguments import FloatArray, IntArray, count, matrix

__all__ = ["OverfittingStudy", "overfitting_probability", "overfitting_study"]

# Beyond 24 blocks there are over 10 million splits, and they add nothing but time.
MOST_BLOCKS = 24

# Scores this close are equal: a scaled or reordered copy of a trial has its Sharpe ratio, save for
# the last bits, and a tie must stay a tie.
TIE = 1e-11

# Scores of one half at a time: small enough for the processor's cache.
CHUNK_SCORES = 1 << 17

# Codes of halves looked through at a time.
CODES = 1 << 16

# Columns of the raw matrix at a time, in values: bounds the memory beside the caller's array.
CHUNK_VALUES = 1 << 22


@dataclass(frozen=True, slots=True)
class OverfittingStudy:
    """What the symmetric splits of a trial matrix show."""

    probability: float
    """Share of splits whose best trial in sample ranks in the lower half out of sample."""
    loss_probability: float
    """Share of splits whose best trial in sample loses money out of sample."""
    n_splits: int
    n_blocks: int
    n_periods: int
    """Rows used: the oldest remainder is left out."""


def overfitting_probability(returns: ArrayLike, *, n_blocks: int = 16) -> float:
    """Estimate how often the best trial in sample falls in the lower half out of sample.

    The rows are cut into contiguous blocks of equal length; every choice of half of them is
    trained on and the rest is tested on. The best trial by Sharpe ratio in sample has the rank
    `r` out of sample (1 is worst, ties average), `omega = r / (n_trials + 1)`, and the split
    counts when `log(omega / (1 - omega)) <= 0`.

    The first column wins a tie in sample. A column that is constant in a half scores 0 there.
    Rows that do not fill a block are left out from the oldest end.

    Parameters
    ----------
    returns : (n_periods, n_trials)
        Net return per period as a fraction: 0.01 is 1 %. Every trial, not the short list.
    n_blocks : int
        Even number of blocks, at most 24.

    Raises
    ------
    InvalidInput
        If `n_blocks` is odd, or a return is NaN or infinite.
    NotEnoughData
        If there are fewer than two trials, or a block would be empty.

    References
    ----------
    Bailey, Borwein, López de Prado, Zhu (2017), "The Probability of Backtest Overfitting",
    Journal of Computational Finance 20(4).
    """
    return overfitting_study(returns, n_blocks=n_blocks).probability


def overfitting_study(returns: ArrayLike, *, n_blocks: int = 16) -> OverfittingStudy:
    """Measure `overfitting_probability` and the share of splits that lose out of sample."""
    trials = matrix(returns, "returns")
    n_blocks = _even(n_blocks)
    n_rows, n_trials = trials.shape
    if n_trials < 2:
        raise NotEnoughData(
            f"returns: expected at least two trials, found {n_trials}. "
            "Pass a column for every trial of the search."
        )
    if n_rows < n_blocks:
        raise NotEnoughData(
            f"returns: expected at least one period for each of {n_blocks} blocks, "
            f"found {n_rows} periods. Pass a longer record or fewer blocks."
        )
    blocks = _Blocks.of(trials, n_blocks)
    overfit = losses = 0
    everything = 2**n_blocks - 1
    for codes in _halves(n_blocks, rows=max(1, CHUNK_SCORES // n_trials)):
        first, second = blocks.sharpe(codes), blocks.sharpe(everything ^ codes)
        for seen, unseen in ((first, second), (second, first)):
            below, lost = _disappointments(seen, unseen)
            overfit += below
            losses += lost
    n_splits = comb(n_blocks, n_blocks // 2)
    return OverfittingStudy(
        probability=overfit / n_splits,
        loss_probability=losses / n_splits,
        n_splits=n_splits,
        n_blocks=n_blocks,
        n_periods=n_rows - n_rows % n_blocks,
    )


def _even(n_blocks: int) -> int:
    n_blocks = count(n_blocks, "n_blocks", at_least=2)
    if n_blocks % 2 or n_blocks > MOST_BLOCKS:
        raise InvalidInput(
            f"n_blocks: expected an even number up to {MOST_BLOCKS}, found {n_blocks}. "
            "Half of the blocks are trained on; 16 is usual."
        )
    return n_blocks


def _halves(n_blocks: int, rows: int) -> Iterator[IntArray]:
    """Yield the halves that hold the first block, `rows` at a time, so that each pair comes once.

    A half is a code: bit `i` is set if block `i` is in it. Its complement has all other bits.
    """
    for start in range(0, 2**n_blocks, CODES):
        codes = np.arange(start, min(start + CODES, 2**n_blocks), dtype=np.int64)
        codes = codes[(np.bitwise_count(codes) == n_blocks // 2) & (codes & 1 == 1)]
        for first in range(0, len(codes), rows):
            yield codes[first : first + rows]


def _disappointments(seen: FloatArray, unseen: FloatArray) -> tuple[int, int]:
    """Count the splits whose winner ends in the lower half, and those where it loses."""
    best = seen.max(axis=1, keepdims=True)
    winner = (seen >= best - TIE * (1 + np.abs(best))).argmax(axis=1)
    score = np.take_along_axis(unseen, winner[:, None], axis=1)
    slack = TIE * (1 + np.abs(score))
    below = np.count_nonzero(unseen < score - slack, axis=1)
    above = np.count_nonzero(unseen > score + slack, axis=1)
    # rank / (N + 1) <= 1/2 with average ranks says no more than: as many above it as below.
    return int(np.count_nonzero(below <= above)), int(np.count_nonzero(score < -slack))


@dataclass(frozen=True, slots=True)
class _Blocks:
    """Each trial's blocks, summed so that any half's Sharpe ratios are a few additions.

    Every operation is by element: a matrix product would be no faster, would wait for its threads
    on a busy machine, and would round equal trials differently.
    """

    rows: int
    """Periods in a block."""
    centre: FloatArray
    """(n_trials,) each trial's own mean; the block means are relative to it."""
    mean: FloatArray
    """(n_blocks, n_trials) mean of a block, less the centre."""
    spread: FloatArray
    """(n_blocks, n_trials) squared deviations from the block's own mean, summed."""
    means: tuple[FloatArray, FloatArray]
    """Sums of `mean` over every subset of the former and of the latter blocks, by code."""
    squares: tuple[FloatArray, FloatArray]
    """The same of the squared deviations from the centre."""
    still: tuple[tuple[int, int], ...]
    """Trials that stand still at one value, with the code of all blocks in which they do."""

    @classmethod
    def of(cls, trials: FloatArray, n_blocks: int) -> "_Blocks":
        n_rows, n_trials = trials.shape
        rows = n_rows // n_blocks
        centre = np.empty(n_trials)
        mean, spread = np.empty((n_blocks, n_trials)), np.empty((n_blocks, n_trials))
        still: list[tuple[int, int]] = []
        step = max(1, CHUNK_VALUES // n_rows)
        for start in range(0, n_trials, step):
            columns = slice(start, start + step)
            part = trials[n_rows - rows * n_blocks :, columns]
            # A Sharpe ratio has no unit: powers of two bring each trial near 1 without rounding,
            # so that no square overflows or vanishes.
            _, exponent = np.frexp(np.abs(part).max(axis=0))
            part = np.ldexp(part, -exponent)
            blocks = part.reshape(n_blocks, rows, -1)
            centre[columns] = part.mean(axis=0)
            deviation = blocks - centre[columns]
            mean[:, columns] = deviation.mean(axis=1)
            deviation -= mean[:, None, columns]
            spread[:, columns] = np.square(deviation, out=deviation).sum(axis=1)
            flat = (blocks == blocks[:, :1]).all(axis=1)
            for column in np.flatnonzero(flat.sum(axis=0) >= n_blocks // 2):
                level = blocks[:, 0, column]
                for value in np.unique(level[flat[:, column]]):
                    where = np.flatnonzero(flat[:, column] & (level == value))
                    still.append((start + int(column), int((1 << where).sum())))
        return cls(
            rows=rows,
            centre=centre,
            mean=mean,
            spread=spread,
            means=_subset_sums(mean),
            squares=_subset_sums(spread + rows * mean**2),
            still=tuple(still),
        )

    def sharpe(self, codes: IntArray) -> FloatArray:
        """Return `(m, n_trials)` Sharpe ratios per period over `(m,)` halves."""
        size = len(self.mean) // 2
        mean = _sums(self.means, codes, size)
        mean /= size
        deviations = _sums(self.squares, codes, size)
        whole = 1e-3 * deviations
        deviations -= self.rows * size * mean**2
        # Where the level of a trial moves much and its blocks little, the difference of the two
        # has no digits left. Those few are summed again around the half's own mean.
        vague = np.nonzero(deviations <= whole)
        if vague[0].size:
            deviations[vague] = self._deviations(codes[vague[0]], vague[1])
        mean += self.centre
        deviations /= max(1, self.rows * size - 1)
        with np.errstate(divide="ignore", invalid="ignore"):
            score: FloatArray = mean / np.sqrt(deviations)
        score[deviations <= 0] = 0.0
        for trial, where in self.still:
            score[codes & where == codes, trial] = 0.0
        return score

    def _deviations(self, codes: IntArray, trial: NDArray[np.intp]) -> FloatArray:
        """Return `(k,)` squared deviations of each trial over its half, without cancellation."""
        n_blocks = len(self.mean)
        result = np.empty(len(trial))
        for start in range(0, len(trial), CHUNK_SCORES):
            part = slice(start, start + CHUNK_SCORES)
            bits = codes[part, None] >> np.arange(n_blocks) & 1
            half = np.nonzero(bits)[1].reshape(-1, n_blocks // 2)
            means = self.mean[half, trial[part, None]]
            means -= means.mean(axis=1, keepdims=True)
            inside = self.spread[half, trial[part, None]].sum(axis=1)
            result[part] = inside + self.rows * (means**2).sum(axis=1)
        return result


def _subset_sums(values: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Sum `(n_blocks, n_trials)` values over every subset of the former half and of the latter."""
    tables = []
    for part in np.split(values, 2):
        table = np.zeros((1, values.shape[1]))
        for block in part:
            table = np.concatenate([table, table + block])
        tables.append(table)
    return tables[0], tables[1]


def _sums(tables: tuple[FloatArray, FloatArray], codes: IntArray, size: int) -> FloatArray:
    former, latter = tables
    result: FloatArray = former[codes & (2**size - 1)]
    result += latter[codes >> size]
    return result
