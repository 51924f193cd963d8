"""The training frame: labels joined to features as they were known at each label's start."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import polars as pl
import pyarrow as pa

from atlas.engines import Dataset, History
from atlas.errors import InvalidInput, NotEnoughData
from atlas.schemas import ShareLimit, Split, Tally, joined_schema, split_valid
from atlas.telemetry import get_logger
from atlas.training.candidate import Candidate

__all__ = ["TrainingFrame", "join_features"]

log = get_logger(__name__)


class PointInTime(Protocol):
    """Joins feature values to rows, as known at each row's time; Feast's store does."""

    def __call__(self, service: str, keys: pl.DataFrame) -> pa.Table:
        """Return one row for each row of `keys` (symbol, event_timestamp), in their order."""
        ...


@dataclass(frozen=True)
class TrainingFrame:
    """Labelled decisions with their features, by symbol and time."""

    rows: pl.DataFrame
    """Columns of `label_events` and the features."""
    features: tuple[str, ...]
    unusable: int
    """Decisions left out: more than half of the features null, or values outside the schema."""
    tally: Tally = field(default_factory=Tally)
    """How many rows were judged by the schema, and why some of them broke it."""
    history: pl.DataFrame | None = None
    """`symbol`, `start` and the features of every bar, where an engine looks back on them."""

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the rows: equal frames are equal data."""
        digest = hashlib.sha256("|".join(self.rows.columns).encode())
        for rows in (self.rows, self.history):
            if rows is None:
                continue
            for series in rows.hash_rows(seed=0), *(rows[name] for name in self.features):
                digest.update(np.ascontiguousarray(series.to_numpy()).data)
        return digest.hexdigest()

    def dataset(self) -> Dataset:
        """Return what an engine learns from; a label of 0 weighs nothing."""
        label = self.rows["label"].to_numpy()
        return Dataset(
            self.rows.select(self.features).to_numpy().astype(np.float64),
            np.where(label > 0, 1, -1),
            features=self.features,
            intervals=self.rows.select("start", "end").to_numpy(),
            symbols=self.rows["symbol"].to_numpy(),
            weights=(label != 0).astype(np.float64),
            returns=self.rows["ret"].to_numpy(),
            **self._look_back(),
        )

    def _look_back(self) -> dict[str, Any]:
        if self.history is None:
            return {}
        history = self.history.with_row_index("at")
        at = self.rows.join(
            history.select("symbol", "start", "at"),
            on=["symbol", "start"],
            how="left",
            maintain_order="left",
        )["at"]
        return {
            "history": History(
                history.select(self.features).to_numpy().astype(np.float64),
                symbols=history["symbol"].to_numpy(),
                times=history["start"].to_numpy(),
            ),
            "at": at.cast(pl.Int64).to_numpy(),
        }


def join_features(
    events: pl.DataFrame,
    candidate: Candidate,
    join: PointInTime,
    *,
    min_rows: int,
    moments: pl.DataFrame | None = None,
    border: Callable[[Any, pl.DataFrame], Split] = split_valid,
    limit: ShareLimit | None = None,
) -> TrainingFrame:
    """Join features to labelled events, and check them against the feature set's schema.

    Parameters
    ----------
    moments : DataFrame, optional
        `symbol`, `event_timestamp` of every bar, those of the events among them; needed where the
        candidate's engine looks back. Each is joined as known at its own time.
    border : callable
        Splits a frame by a schema, and keeps the bad rows where they belong.
    limit : ShareLimit, optional
        The share of bad rows above which no frame is made; none if not given.

    Raises
    ------
    TooManyBadRows
        If the share of bad rows is above the limit.
    NotEnoughData
        If fewer than `min_rows` usable rows remain.
    InvalidInput
        If the engine looks back and the moments are missing.
    """
    if candidate.looks_back and moments is None:
        raise InvalidInput(
            f"Expected the moments of all bars, since {candidate.engine} looks back on them; found "
            "decisions only. Pass `moments`."
        )
    features, key = candidate.features.features, ["symbol", "event_timestamp"]
    wanted = moments if moments is not None and candidate.looks_back else events
    asked = wanted.select(key)
    values = pl.from_arrow(join(candidate.service, asked).select(list(features)))
    assert isinstance(values, pl.DataFrame)
    split = border(
        joined_schema(candidate.features.schema), pl.concat([asked, values], how="horizontal")
    )
    tally = Tally.of(split)
    if limit is not None:
        limit.judge(tally, view=candidate.features.view, border="training")
    if tally.bad:
        log.warning("training_rows_refused", view=candidate.features.view, rows=tally.bad)
    history = None
    if wanted is events:
        rows = pl.concat([events, values], how="horizontal")
        if tally.bad:
            rows = rows.join(split.bad, on=key, how="anti", maintain_order="left", nulls_equal=True)
    else:
        rows = events.join(split.good, on=key, how="inner", maintain_order="left")
        start = pl.col("event_timestamp").dt.timestamp("us") // candidate.features.interval.micros
        history = split.good.select("symbol", start.alias("start"), *features)
    nulls = pl.sum_horizontal(pl.col(name).is_null() for name in features)
    usable = rows.filter(2 * nulls <= len(features))
    if usable.height < min_rows:
        raise NotEnoughData(
            f"Expected at least {min_rows} rows to train {candidate.model}; found {usable.height} "
            f"of {events.height} decisions with usable features. Ingest more history, compute its "
            "features, or lower MIN_TRAINING_DATA_POINTS."
        )
    return TrainingFrame(usable, features, events.height - usable.height, tally, history)
