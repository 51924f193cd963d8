"""How models that look back are given their windows: which rows, ended where, or why none.

A window is the last so many rows of a symbol that end with the row that was told of, as the offline
store has them. One that cannot be had whole is not made up from what is there.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from atlas.clock import to_micros
from atlas.inference.row_feed import Row
from atlas.inference.vector_reader import ReadHistories, VectorReader
from atlas.inference.vectors import Chosen, Newest, Unusable, judge
from atlas.online import Status
from atlas.serving import ReadPlan

__all__ = ["choose_windows", "newest_windows", "read_windows"]

# The store may be so much further on than the row that was told of before a second, deeper read.
_ROWS_AHEAD = 8


async def read_windows(
    reader: VectorReader, plan: ReadPlan, window: int, rows: Sequence[Row], *, now: datetime
) -> Chosen:
    """Find the window that ends with each notified row: in one round trip, unless rows lag far.

    Raises
    ------
    StoreUnavailable
        If Redis does not answer.
    """
    symbols = list(dict.fromkeys(row.symbol for row in rows))
    depth = min(plan.depth, window + _ROWS_AHEAD)
    while True:
        read = await reader.histories(plan, symbols, depth, now=now)
        chosen = choose_windows(rows, read, window, plan, now_us=to_micros(now))
        if Unusable.SUPERSEDED not in chosen.unusable or depth == plan.depth:
            return chosen
        depth = plan.depth


async def newest_windows(
    reader: VectorReader, plan: ReadPlan, window: int, symbols: Sequence[str], *, now: datetime
) -> Newest:
    """Return the newest window of each symbol, each given once, in one round trip.

    Raises
    ------
    StoreUnavailable
        If Redis does not answer.
    """
    read = await reader.histories(plan, symbols, window, now=now)
    history = read.history
    values = _narrow(history.values)
    reasons = _judged(values, np.repeat(history.status[:, None], values.shape[2], axis=1))
    short = (history.n_rows > 0) & (history.n_rows < window)
    for at in np.flatnonzero(short):
        reasons[at] = reasons[at] or Unusable.SHORT_HISTORY
    return Newest(tuple(read.position), history.event_ts[:, -1], values, tuple(reasons))


def choose_windows(
    rows: Sequence[Row], read: ReadHistories, window: int, plan: ReadPlan, *, now_us: int
) -> Chosen:
    """Cut the window of each notified row out of the last rows of its symbol.

    The last row of a window is judged as a single row is. Of the rows before it nulls say what they
    said in training, but no value may be infinite.
    """
    history = read.history
    n_read = history.event_ts.shape[1]
    reasons: list[Unusable | None] = [None] * len(rows)
    place, end = np.zeros(len(rows), np.intp), np.full(len(rows), window - 1, np.intp)
    stale = np.zeros(len(rows), np.bool_)
    for i, row in enumerate(rows):
        at = read.position.get(row.symbol)
        if at is None:
            reasons[i] = Unusable.UNREADABLE
            continue
        n_rows = int(history.n_rows[at])
        first, events = n_read - n_rows, history.event_ts[at]
        last = first + int(np.searchsorted(events[first:], row.event_us))
        if last == n_read:
            reasons[i] = Unusable.MISSING
        elif events[last] != row.event_us:
            reasons[i] = Unusable.SUPERSEDED
        elif last - window + 1 < first:
            # Where all that was asked for is there, rows before it may have been and are kept no
            # longer, or were not asked for.
            reasons[i] = Unusable.SUPERSEDED if n_rows == n_read else Unusable.SHORT_HISTORY
        else:
            place[i], end[i] = at, last
            stale[i] = plan.ttl_us > 0 and now_us - row.event_us > plan.ttl_us
    found = [i for i, reason in enumerate(reasons) if reason is None]
    back = np.arange(1 - window, 1)
    values = _narrow(history.values[place[found, None], end[found, None] + back])
    present = np.where(stale[found], np.uint8(Status.STALE), np.uint8(Status.PRESENT))
    judged = _judged(values, np.repeat(present[:, None], values.shape[2], axis=1))
    for i, reason in zip(found, judged, strict=True):
        reasons[i] = reason
    fit = [at for at, reason in enumerate(judged) if reason is None]
    return Chosen(
        rows=tuple(rows[found[at]] for at in fit),
        values=values if len(fit) == len(values) else values[fit],
        unusable=Counter(reason for reason in reasons if reason is not None),
    )


def _judged(values: NDArray[np.float32], status: NDArray[np.uint8]) -> list[Unusable | None]:
    """Judge the last rows of windows, and that no value before them is infinite."""
    last = values[:, -1]
    # A history does not tell a null from a NaN.
    status[np.isnan(last) & (status == Status.PRESENT)] = Status.NULL
    reasons = judge(last, status)
    for at in np.flatnonzero(np.isinf(values).any(axis=(1, 2))):
        reasons[at] = reasons[at] or Unusable.NOT_FINITE
    return reasons


def _narrow(values: NDArray[np.float64]) -> NDArray[np.float32]:
    """Round to what an engine takes; what is too large becomes infinite, and is refused as that."""
    with np.errstate(over="ignore"):
        return values.astype(np.float32)
