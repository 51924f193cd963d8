"""How feature rows are stored: versions beside each other, the same row only once."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import polars as pl
from clickhouse_connect.driver.client import Client

from atlas.clickhouse.quarantine import Border, admit
from atlas.clickhouse.tables import insert_once
from atlas.clickhouse.values import frame_of, moment
from atlas.errors import FeatureRedefined
from atlas.features import StoredView
from atlas.schemas import ShareLimit, Tally

__all__ = ["Computed", "fingerprint", "stored_features", "write_features"]


@dataclass(frozen=True, slots=True)
class Computed:
    """What a run did, in rows; `reasons` counts the quarantined ones by why."""

    computed: int = 0
    written: int = 0
    unchanged: int = 0
    quarantined: int = 0
    reasons: tuple[tuple[str, int], ...] = ()

    @property
    def tally(self) -> Tally:
        """How many of the rows were bad, and why."""
        return Tally(self.computed, self.quarantined, self.reasons)

    def __add__(self, other: Computed) -> Computed:
        return Computed(
            self.computed + other.computed,
            self.written + other.written,
            self.unchanged + other.unchanged,
            self.quarantined + other.quarantined,
            (self.tally + other.tally).reasons,
        )


def write_features(
    client: Client,
    features: StoredView,
    rows: pl.DataFrame,
    *,
    run: str = "",
    limit: ShareLimit | None = None,
    before: Tally | None = None,
) -> Computed:
    """Store feature rows, unless the store's newest version is the same.

    Rows that break the schema go to quarantine with the reason; then the others are written.

    Parameters
    ----------
    run : str
        Who writes; the quarantine tells it.
    limit : ShareLimit, optional
        The share of bad rows that stops the run before these rows are written; none if not given.
    before : Tally, optional
        What the run has met so far.

    Raises
    ------
    TooManyBadRows
        If the share of bad rows is above the limit; the bad rows are in quarantine, and no row of
        these is written.
    FeatureRedefined
        If a row differs from the stored one though none of its bars was corrected: two
        definitions must not be mixed in one view.
    """
    run = run or f"features {features.view}"
    split = admit(client, features.schema, rows, view=features.view, border=Border.OFFLINE, run=run)
    tally = Tally.of(split)
    if limit is not None:
        limit.judge((before or Tally()) + tally, view=features.view, border=Border.OFFLINE)
    good = split.good
    if good.is_empty():
        return Computed(rows.height, 0, 0, tally.bad, tally.reasons)
    stored = stored_features(client, features, good)
    joined = good.join(stored, on=["symbol", "event_timestamp"], how="left", suffix="_stored")
    same = pl.all_horizontal(
        pl.col(name).eq_missing(pl.col(f"{name}_stored")) for name in features.kinds
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
        "symbol", "event_timestamp", "known_at", *features.kinds
    )
    insert_once(client, features.view, fresh.to_arrow())
    return Computed(rows.height, fresh.height, good.height - fresh.height, tally.bad, tally.reasons)


def stored_features(client: Client, features: StoredView, rows: pl.DataFrame) -> pl.DataFrame:
    """Return the newest version of each stored row of the symbols and the time that `rows` span."""
    columns = ", ".join(f"`{name}`" for name in features.kinds)
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


def fingerprint(
    client: Client, features: StoredView, symbols: list[str], *, first: datetime, last: datetime
) -> str:
    """Return a hash of the stored rows of `[first, last]`, all versions, whatever their order."""
    count, total = client.query(
        f"SELECT count(), sum(cityHash64(*)) FROM {features.view} "
        "WHERE symbol IN {symbols:Array(String)} "
        "AND event_timestamp BETWEEN {first:DateTime64(6, 'UTC')} AND {last:DateTime64(6, 'UTC')}",
        parameters={"symbols": symbols, "first": moment(first), "last": moment(last)},
    ).first_row
    return f"{count}-{total:x}"
