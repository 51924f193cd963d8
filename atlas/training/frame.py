"""The training frame: labels joined to features as they were known at each label's start."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import polars as pl
import pyarrow as pa

from atlas.engines import Dataset
from atlas.errors import NotEnoughData
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
    """How many decisions were judged by the schema, and why some of them broke it."""

    @property
    def digest(self) -> str:
        """SHA-256 of the rows: equal frames are equal data."""
        digest = hashlib.sha256("|".join(self.rows.columns).encode())
        for series in self.rows.hash_rows(seed=0).to_numpy(), *self._floats():
            digest.update(np.ascontiguousarray(series).data)
        return digest.hexdigest()

    def _floats(self) -> list[np.ndarray]:
        return [self.rows[name].to_numpy() for name in self.features]

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
        )


def join_features(
    events: pl.DataFrame,
    candidate: Candidate,
    join: PointInTime,
    *,
    min_rows: int,
    border: Callable[[Any, pl.DataFrame], Split] = split_valid,
    limit: ShareLimit | None = None,
) -> TrainingFrame:
    """Join features to labelled events, and check them against the feature set's schema.

    Parameters
    ----------
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
    """
    features = candidate.features.features
    joined = join(candidate.service, events.select("symbol", "event_timestamp"))
    values = pl.from_arrow(joined.select(list(features)))
    assert isinstance(values, pl.DataFrame)
    rows = pl.concat([events, values], how="horizontal")
    schema = joined_schema(candidate.features.schema)
    checked = rows.select("symbol", "event_timestamp", *features)
    split = border(schema, checked)
    tally = Tally.of(split)
    if limit is not None:
        limit.judge(tally, view=candidate.features.view, border="training")
    if tally.bad:
        log.warning("training_rows_refused", view=candidate.features.view, rows=tally.bad)
        key = ["symbol", "event_timestamp"]
        rows = rows.join(split.bad, on=key, how="anti", maintain_order="left", nulls_equal=True)
    nulls = pl.sum_horizontal(pl.col(name).is_null() for name in features)
    usable = rows.filter(2 * nulls <= len(features))
    if usable.height < min_rows:
        raise NotEnoughData(
            f"Expected at least {min_rows} rows to train {candidate.model}; found {usable.height} "
            f"of {events.height} decisions with usable features. Ingest more history, compute its "
            "features, or lower MIN_TRAINING_DATA_POINTS."
        )
    return TrainingFrame(usable, features, events.height - usable.height, tally)
