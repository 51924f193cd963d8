"""The point-in-time join through Feast, against Feast's own ClickHouse store and raw queries."""

from __future__ import annotations

import warnings
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import polars as pl
import pyarrow as pa
from clickhouse_connect.driver.client import Client
from feast.infra.offline_stores.contrib.clickhouse_offline_store.clickhouse_source import (
    ClickhouseSource,
)

from atlas.config import Settings
from atlas.offline import ClickHouseSource
from bench.feature_rows import entity_rows, feature_names, feature_store, make_table, view_of
from bench.measure import Measured, by_turns, memory_growth, timed

__all__ = ["Joins", "large_join", "small_joins"]

_FEATURES = 10
_TTL = timedelta(seconds=600)
_TIMES = {"timestamp_field": "event_timestamp", "created_timestamp_column": "known_at"}


class Joins:
    """One table of feature rows, and the ways to join entity rows to it."""

    def __init__(
        self, client: Client, settings: Settings, folder: Path, *, symbols: int, rows: int
    ) -> None:
        self._client = client
        self._symbols, self._rows = symbols, rows
        self.table = f"rows_{symbols}_{rows}"
        make_table(client, self.table, symbols=symbols, rows=rows, features=_FEATURES)
        view = partial(view_of, self.table, features=_FEATURES, ttl=_TTL)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self._ours = feature_store(
                folder / f"{self.table}-ours",
                settings,
                [view(ClickHouseSource(table=self.table, **_TIMES))],
            )
            self._contrib = feature_store(
                folder / f"{self.table}-contrib",
                settings,
                [view(ClickhouseSource(name=self.table, table=self.table, **_TIMES))],
                offline="clickhouse",
            )

    def entities(self, n: int) -> pd.DataFrame:
        """Return entity rows, which are also in the table that the raw query joins."""
        frame = entity_rows(n, symbols=self._symbols, rows=self._rows)
        table = f"asked_{self.table}_{n}"
        self._client.command(
            f"CREATE OR REPLACE TABLE {table} (row UInt32, symbol LowCardinality(String), "
            "event_timestamp DateTime64(6, 'UTC')) ENGINE = MergeTree ORDER BY row"
        )
        rows = pl.from_pandas(frame).with_row_index("row").cast({"row": pl.UInt32})
        self._client.insert_arrow(table, rows.to_arrow())
        return frame

    def ours(self, entities: pd.DataFrame, *, as_known_then: bool = False) -> pa.Table:
        """Join through Feast with Atlas's store."""
        return self._join(self._ours, entities, filter_by_created_timestamp=as_known_then)

    def contrib(self, entities: pd.DataFrame) -> pa.Table:
        """Join through Feast with the ClickHouse store that Feast brings."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return self._join(self._contrib, entities)

    def raw(self, n: int) -> pa.Table:
        """Join and fetch with one ASOF query, as one would write it by hand: no limit of age."""
        columns = ", ".join(f"f.{name} AS {name}" for name in feature_names(_FEATURES))
        return self._client.query_arrow(
            f"SELECT e.row AS row, {columns} FROM asked_{self.table}_{n} AS e "
            f"ASOF LEFT JOIN {self.table} AS f "
            "ON e.symbol = f.symbol AND e.event_timestamp >= f.event_timestamp ORDER BY row"
        )

    def in_memory(self, entities: pd.DataFrame) -> pl.DataFrame:
        """Fetch nothing: Polars joins rows that are in memory and in order already."""
        if not hasattr(self, "_frame"):
            frame = pl.from_arrow(
                self._client.query_arrow(
                    f"SELECT * FROM {self.table} ORDER BY symbol, event_timestamp",
                    use_strings=True,
                )
            )
            assert isinstance(frame, pl.DataFrame)
            self._frame = frame.with_columns(pl.col("symbol").cast(pl.String)).sort(
                "event_timestamp"
            )
        asked = pl.from_pandas(entities).with_row_index("row").sort("event_timestamp")
        asked = asked.cast({"event_timestamp": self._frame.schema["event_timestamp"]})
        return asked.join_asof(
            self._frame, on="event_timestamp", by="symbol", tolerance="600s", check_sortedness=False
        ).sort("row")

    def _join(self, store: Any, entities: pd.DataFrame, **how: Any) -> pa.Table:
        names = [f"{self.table}:{name}" for name in feature_names(_FEATURES)]
        return store.get_historical_features(entity_df=entities, features=names, **how).to_arrow()


def small_joins(joins: Joins) -> list[Measured]:
    """50 k entity rows over 72 k feature rows, TTL 600 s."""
    entities = joins.entities(50_000)
    work = "point-in-time join, 50 k x 72 k"
    ours, raw = by_turns(lambda: joins.ours(entities), lambda: joins.raw(50_000), times=9)
    known, _ = by_turns(lambda: joins.ours(entities, as_known_then=True), None, times=9)
    _require_equal(joins, entities)
    theirs = timed(lambda: joins.contrib(entities))
    return [
        Measured(work, ours, theirs, "Feast's ClickHouse store", ">= 300 x faster"),
        Measured(work, ours, raw, "raw ASOF and fetch", ""),
        Measured("same, as known at each row's time", known, raw, "raw ASOF and fetch", ""),
    ]


def large_join(joins: Joins, n: int, *, server: int) -> list[Measured]:
    """A million entity rows over twenty million feature rows.

    Parameters
    ----------
    server : int
        Process id of ClickHouse, whose memory is told too.
    """
    entities = joins.entities(n)
    work = "point-in-time join, 1 M x 20 M"
    with memory_growth() as client_grew, memory_growth(server) as server_grew:
        first = timed(lambda: joins.ours(entities))
    ours, raw = by_turns(lambda: joins.ours(entities), lambda: joins.raw(n), times=3)
    notes: dict[str, float] = {
        "first_s": first,
        "client_growth_mb": client_grew.growth_mb,
        "server_growth_mb": server_grew.growth_mb,
    }
    polars = min(timed(lambda: joins.in_memory(entities)) for _ in range(3))
    return [
        Measured(work, ours, raw, "raw ASOF and fetch", "<= 1.0 x", notes),
        Measured(work, ours, polars, "Polars, all in memory already", "", notes),
    ]


def _require_equal(joins: Joins, entities: pd.DataFrame) -> None:
    """Refuse to compare the speed of two different answers."""
    some = entities.head(2_000)
    keys = ["symbol", "event_timestamp"]
    ours, theirs = (
        join(some).to_pandas().sort_values(keys, ignore_index=True)
        for join in (joins.ours, joins.contrib)
    )
    # Where nothing matches, Feast's store gives 0 from a column that cannot be null.
    theirs[feature_names(_FEATURES)] = theirs[feature_names(_FEATURES)].where(
        ours[feature_names(_FEATURES)].notna()
    )
    pd.testing.assert_frame_equal(ours[theirs.columns], theirs, check_dtype=False)
