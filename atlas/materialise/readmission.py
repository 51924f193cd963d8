"""Which quarantined feature rows may go on: those that keep the schema and are still the newest."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import polars as pl
from clickhouse_connect.driver.client import Client

from atlas.clickhouse import stored_features, write_features
from atlas.clickhouse.quarantined_row import from_json
from atlas.clickhouse.quarantined_rows import Outcome
from atlas.features import StoredView
from atlas.materialise.history import CHUNK_BARS
from atlas.schemas import find_faults

__all__ = ["judge_again", "readmit_features", "still_stored"]

_VERSION = ["symbol", "event_timestamp", "known_at"]


def judge_again(schema: Any, texts: pl.Series) -> tuple[pl.DataFrame, pl.Series]:
    """Read quarantined rows back, and judge them by the schema as it is now.

    Returns
    -------
    frame, series
        The rows that could be read, with the schema's columns and their `place` among `texts`; and
        for each text why it stays in quarantine, null where it keeps the schema.
    """
    columns = {name: column.dtype.type for name, column in schema.columns.items()}
    rows, unread = _read(texts, columns)
    faults = find_faults(schema, rows.drop("place"))
    reasons = unread.scatter(rows["place"], faults) if rows.height else unread
    return rows, reasons


def readmit_features(
    client: Client, features: StoredView, texts: pl.Series, *, run: str
) -> tuple[list[Outcome], pl.Series]:
    """Store those quarantined rows of a view that may go on.

    A row of which the store has another version, known as late or later, is replaced by that one:
    an older definition must not come back.

    Returns
    -------
    list of Outcome, series
        One for each text; and why a row is refused, null where it is not.
    """
    rows, reasons = judge_again(features.schema.to_schema(), texts)
    good = rows.filter(reasons.gather(rows["place"]).is_null())
    # Two rows of one version disagree about it: only one of them can be right.
    disputed = good.filter(pl.struct(_VERSION).is_duplicated())["place"]
    reasons = reasons.scatter(disputed, "other values of the same version are in quarantine too")
    good = good.filter(~pl.col("place").is_in(disputed.to_list()))
    replaced: list[int] = []
    for part in _stretches(good, features):
        newest = _beside_stored(client, features, part)
        later = newest.filter(
            (pl.col("known_at_stored") > pl.col("known_at"))
            | ((pl.col("known_at_stored") == pl.col("known_at")) & ~pl.col("same"))
        )["place"].to_list()
        replaced += later
        fresh = part.filter(~pl.col("place").is_in(later)).drop("place")
        write_features(client, features, fresh, run=run)
    return _outcomes(reasons, replaced), reasons


def still_stored(
    client: Client, features: StoredView, texts: pl.Series
) -> tuple[pl.DataFrame, list[Outcome], pl.Series]:
    """Tell which quarantined rows keep the schema and are the offline store's newest versions.

    Returns
    -------
    frame, list of Outcome, series
        Those rows; one outcome for each text; and why a row is refused, null where it is not.
    """
    rows, reasons = judge_again(features.schema.to_schema(), texts)
    good = rows.filter(reasons.gather(rows["place"]).is_null())
    current = [
        _beside_stored(client, features, part).filter(
            (pl.col("known_at_stored") == pl.col("known_at")) & pl.col("same")
        )["place"]
        for part in _stretches(good, features)
    ]
    kept = pl.concat(current).to_list() if current else []
    replaced = good.filter(~pl.col("place").is_in(kept))["place"].to_list()
    found = good.filter(pl.col("place").is_in(kept)).drop("place")
    return found, _outcomes(reasons, replaced), reasons


def _outcomes(reasons: pl.Series, replaced: list[int]) -> list[Outcome]:
    outcomes = [Outcome.READMITTED if why is None else Outcome.REFUSED for why in reasons]
    for place in replaced:
        outcomes[place] = Outcome.REPLACED
    return outcomes


def _read(texts: pl.Series, columns: Mapping[str, Any]) -> tuple[pl.DataFrame, pl.Series]:
    """Return the rows that can be read with their places, and for each text why it cannot."""
    parts, unread = [], [None] * texts.len()
    try:
        parts.append(from_json(texts, columns))
        places = list(range(texts.len()))
    except (TypeError, ValueError):
        places = []
        for place, text in enumerate(texts):
            try:
                parts.append(from_json([text], columns))
                places.append(place)
            except (TypeError, ValueError):
                unread[place] = "not a row of this schema; compute the view again"  # type: ignore[call-overload]
    frame = pl.concat(parts) if parts else pl.DataFrame(schema=dict(columns))
    numbered = frame.with_columns(place=pl.Series(places, dtype=pl.UInt32))
    return numbered, pl.Series("reason", unread, dtype=pl.String)


def _stretches(rows: pl.DataFrame, features: StoredView) -> list[pl.DataFrame]:
    """Cut rows so that what is stored around each part fits in memory."""
    step = CHUNK_BARS * features.interval.micros
    stretch = pl.col("event_timestamp").to_physical() // step
    cut = rows.with_columns(stretch=stretch).sort("symbol", "event_timestamp", "known_at")
    parts = cut.partition_by("symbol", "stretch", maintain_order=True)
    return [part.drop("stretch") for part in parts]


def _beside_stored(client: Client, features: StoredView, rows: pl.DataFrame) -> pl.DataFrame:
    """Return place, known_at, known_at_stored (null if not stored) and whether all is the same."""
    stored = stored_features(client, features, rows)
    same = pl.all_horizontal(
        pl.col(name).eq_missing(pl.col(f"{name}_stored")) for name in features.kinds
    )
    return rows.join(stored, on=["symbol", "event_timestamp"], how="left", suffix="_stored").select(
        "place", "known_at", "known_at_stored", same=same
    )
