"""Which feature vectors are fit to be scored, and why the others are not; nothing is guessed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from atlas.inference.row_feed import Row
from atlas.online import Status, Vectors
from atlas.serving import ReadPlan, feature_hash

__all__ = ["Chosen", "Newest", "Unusable", "choose", "judge"]

_NAN = np.float32(np.nan)
_PRESENT = np.uint8(Status.PRESENT)


class Unusable(StrEnum):
    """Why a vector is not scored."""

    MISSING = "missing"
    """The online store lacks the row, or a feature of it."""
    STALE = "stale"
    """The row is older than the view's TTL by the project's clock."""
    NOT_WARM = "not_warm"
    """Over half of the features are null."""
    NOT_FINITE = "not_finite"
    """A feature is infinite, or is a NaN that was stored as a number."""
    SUPERSEDED = "superseded"
    """The online store has a later row already, and the notification does not carry its own; or it
    keeps no longer all rows of the window."""
    SHORT_HISTORY = "short_history"
    """The online store has too few rows before this one for the model's window."""
    UNREADABLE = "unreadable"
    """The online store's bytes are not a row."""
    MALFORMED = "malformed"
    """The notification lacks its symbol or time, or is not on the symbol's stream."""
    TRIMMED = "trimmed"
    """The notification left its stream before anyone could read it."""


@dataclass(frozen=True, slots=True)
class Chosen:
    """The rows that are fit, their features, and how many were not fit for which reason."""

    rows: tuple[Row, ...]
    values: NDArray[np.float32]
    """(n_rows, n_features), NaN for null; of a model that looks back
    (n_rows, window, n_features)."""
    unusable: Counter[Unusable]


@dataclass(frozen=True, slots=True)
class Newest:
    """What a model is given of each symbol now; a symbol that could not be read is not in it."""

    symbols: tuple[str, ...]
    event_us: NDArray[np.int64]
    """(n_symbols,) of the newest row, 0 where there is none."""
    values: NDArray[np.float32]
    """(n_symbols, n_features); of a model that looks back (n_symbols, window, n_features)."""
    reasons: tuple[Unusable | None, ...]
    """Why it is not fit, or None where it is."""


def judge(values: NDArray[np.float32], status: NDArray[np.uint8]) -> list[Unusable | None]:
    """Say of each vector why it is not fit, or None where it is.

    Parameters
    ----------
    values, status : (n_rows, n_features)
        As `atlas.online.OnlineReader` reads them, values rounded to what the engine takes.
    """
    reasons: list[Unusable | None] = [None] * len(values)
    # Nearly always; what follows costs a tenth of a prediction.
    if (status == _PRESENT).all() and np.isfinite(values).all():
        return reasons
    missing = (status == Status.MISSING).any(axis=1)
    stale = (status == Status.STALE).any(axis=1)
    null = status == Status.NULL
    not_warm = 2 * null.sum(axis=1) > status.shape[1]
    not_finite = (~null & ~np.isfinite(values)).any(axis=1)
    # From the mildest reason to the one that makes all others moot.
    for mask, reason in (
        (not_finite, Unusable.NOT_FINITE),
        (not_warm, Unusable.NOT_WARM),
        (stale, Unusable.STALE),
        (missing, Unusable.MISSING),
    ):
        for row in np.flatnonzero(mask):
            reasons[row] = reason
    return reasons


def choose(
    rows: Sequence[Row],
    stored: Vectors,
    position: Mapping[str, int],
    plan: ReadPlan,
    *,
    now_us: int,
) -> Chosen:
    """Find each notified row: in the online store, else in its own notification.

    The store holds only the newest row of a symbol. A worker that was away finds it further on
    than the notifications; the rows in between are those that the notifications carry. A carried
    row of other features than the plan's, by their hash, is not taken.

    Parameters
    ----------
    position : mapping
        Symbol to its place in `stored`; a symbol that could not be read has none.
    """
    if [position.get(row.symbol) for row in rows] == list(range(len(stored.event_ts))) and [
        row.event_us for row in rows
    ] == stored.event_ts.tolist():
        # Nearly always the store holds exactly the rows that were told of.
        values, status = stored.values.astype(np.float32), stored.status
        if not any(judge(values, status)):
            return Chosen(tuple(rows), values, Counter())
    n_features, hash = len(plan.features), feature_hash(plan.view, plan.features)
    values = np.full((len(rows), n_features), _NAN)
    status = np.full((len(rows), n_features), Status.MISSING, dtype=np.uint8)
    reasons: list[Unusable | None] = [None] * len(rows)
    for i, row in enumerate(rows):
        at = position.get(row.symbol)
        if at is None:
            reasons[i] = Unusable.UNREADABLE
            continue
        stored_us = int(stored.event_ts[at])
        if stored_us == row.event_us:
            values[i], status[i] = stored.values[at], stored.status[at]
            continue
        carried = _carried(row, hash, n_features)
        if carried is None:
            reasons[i] = Unusable.SUPERSEDED if stored_us > row.event_us else Unusable.MISSING
            continue
        fresh = plan.ttl_us == 0 or now_us - row.event_us <= plan.ttl_us
        values[i] = carried
        status[i] = np.where(np.isnan(carried), Status.NULL, Status.PRESENT)
        if not fresh:
            status[i] = Status.STALE
    for i, judged in enumerate(judge(values, status)):
        reasons[i] = reasons[i] or judged
    fit = [i for i, reason in enumerate(reasons) if reason is None]
    return Chosen(
        rows=tuple(rows[i] for i in fit),
        values=values[fit],
        unusable=Counter(reason for reason in reasons if reason is not None),
    )


def _carried(row: Row, hash: str, n_features: int) -> NDArray[np.float64] | None:
    if row.values is None or row.feature_hash != hash or len(row.values) != 8 * n_features:
        return None
    return np.frombuffer(row.values, dtype="<f8")
