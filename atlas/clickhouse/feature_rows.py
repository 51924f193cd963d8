"""How feature rows are stored: versions beside each other, the same row only once."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl
from clickhouse_connect.driver.client import Client

from atlas.clickhouse.tables import insert_once
from atlas.clickhouse.values import frame_of, moment
from atlas.errors import FeatureRedefined
from atlas.features import FeatureSet
from atlas.schemas import split_valid
from atlas.telemetry import get_logger

__all__ = ["Computed", "write_features"]

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Computed:
    """What a run did, in rows."""

    computed: int = 0
    written: int = 0
    unchanged: int = 0
    quarantined: int = 0

    def __add__(self, other: Computed) -> Computed:
        return Computed(
            self.computed + other.computed,
            self.written + other.written,
            self.unchanged + other.unchanged,
            self.quarantined + other.quarantined,
        )


def write_features(client: Client, features: FeatureSet, rows: pl.DataFrame) -> Computed:
    """Store feature rows of one symbol, unless the store's newest version is the same.

    Rows that break the schema go to quarantine with the reason; the others are written.

    Raises
    ------
    FeatureRedefined
        If a row differs from the stored one though none of its bars was corrected: two
        definitions must not be mixed in one view.
    """
    good, bad = split_valid(features.schema, rows)
    if bad.height:
        _quarantine(client, features, bad)
    if good.is_empty():
        return Computed(rows.height, 0, 0, bad.height)
    stored = _stored(client, features, good)
    joined = good.join(stored, on=["symbol", "event_timestamp"], how="left", suffix="_stored")
    same = pl.all_horizontal(
        pl.col(name).eq_missing(pl.col(f"{name}_stored")) for name in features.features
    )
    changed = pl.col("known_at_stored").is_not_null() & ~same
    redefined = joined.filter(changed & (pl.col("known_at") <= pl.col("known_at_stored")))
    if redefined.height:
        first = redefined["event_timestamp"].sort()[0]
        raise FeatureRedefined(
            f"Expected {redefined.height} rows of {features.view} from {first} on to be as stored, "
            "since no bar of theirs was corrected; they differ. The feature was redefined, "
            "or older bars came after newer "
            f"ones. Compute all of it anew: atlas features {features.view} --rebuild"
        )
    fresh = joined.filter(pl.col("known_at_stored").is_null() | changed).select(
        "symbol", "event_timestamp", "known_at", *features.features
    )
    insert_once(client, features.view, fresh.to_arrow())
    return Computed(rows.height, fresh.height, good.height - fresh.height, bad.height)


def _stored(client: Client, features: FeatureSet, rows: pl.DataFrame) -> pl.DataFrame:
    columns = ", ".join(f"`{name}`" for name in features.features)
    span = rows.select(
        first=pl.col("event_timestamp").min(), last=pl.col("event_timestamp").max()
    ).row(0)
    table = client.query_arrow(
        f"SELECT symbol, event_timestamp, known_at, {columns} FROM `{features.view}` "
        "WHERE symbol IN {symbols:Array(String)} "
        "AND event_timestamp >= {first:DateTime64(6, 'UTC')} "
        "AND event_timestamp <= {last:DateTime64(6, 'UTC')} "
        "ORDER BY symbol, event_timestamp, known_at DESC LIMIT 1 BY symbol, event_timestamp",
        parameters={
            "symbols": rows["symbol"].unique().to_list(),
            "first": moment(span[0]),
            "last": moment(span[1]),
        },
        use_strings=True,
    )
    return frame_of(table)


def _quarantine(client: Client, features: FeatureSet, bad: pl.DataFrame) -> None:
    log.warning("features_quarantined", view=features.view, rows=bad.height)
    reasons = bad["reason"]
    rows = bad.drop("reason")
    block = pl.DataFrame(
        {
            "load_id": [f"features:{features.view}"] * bad.height,
            "source": ["materialise"] * bad.height,
            "table_name": [features.view] * bad.height,
            "row_number": pl.arange(bad.height, eager=True).cast(pl.UInt64),
            "reason": reasons,
            "row": [str(row) for row in rows.iter_rows(named=True)],
        }
    )
    insert_once(client, "quarantine", block.to_arrow())
