"""How newly closed bars become online features: compute over the tail, push, tell, store."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import numpy as np
import polars as pl
from clickhouse_connect.driver.client import Client
from numpy.typing import NDArray
from redis import Redis

from atlas.bus import reaching
from atlas.bus.rows import ROWS_LENGTH, told_key
from atlas.clickhouse import create_feature_table, write_features
from atlas.features import FeatureSet
from atlas.online import OnlineWriter, SequenceWriter
from atlas.schemas import split_valid
from atlas.serving import feature_hash, rows_stream
from atlas.streaming.tail import Tail
from atlas.telemetry import get_logger

__all__ = ["LiveFeatures"]

log = get_logger(__name__)


class LiveFeatures:
    """One feature set on its live path; every set keeps its own buffer towards ClickHouse."""

    def __init__(self, features: FeatureSet, redis: Redis, client: Client) -> None:
        self.features = features
        self._redis = redis
        self._client = client
        self._writer = OnlineWriter(redis, features.plan)
        self._sequences = SequenceWriter(redis, features.plan) if features.depth else None
        self._hash = feature_hash(features.view, features.features)
        self._buffer: list[pl.DataFrame] = []
        create_feature_table(client, features.view, features.features)

    def push(self, tail: Tail, *, since: datetime) -> int:
        """Compute the rows at or after `since`, serve the newest of each symbol and tell of it.

        Rows that break the schema are not served; they reach quarantine with `store`.
        """
        rows = self.features.compute(tail.bars.lazy(), since=since).collect()
        self._buffer.append(rows)
        good, bad = split_valid(self.features.schema, rows)
        if bad.height:
            log.warning("rows_not_served", view=self.features.view, rows=bad.height)
        newest = good.group_by("symbol", maintain_order=True).last()
        if newest.is_empty():
            return 0
        # Before the newest rows: who is told of those finds the sequences that end in them.
        self._keep(good)
        symbols, event_us, known_us, values = self._arrays(newest)
        self._writer.write(symbols, event_us, known_us, values)
        self._tell(symbols, event_us.tolist(), values)
        return len(symbols)

    def recall(self, tail: Tail, *, since: datetime) -> None:
        """Keep the last rows at or after `since` for sequence models, without telling of them.

        What looks back on many rows need not wait until so many have closed anew.
        """
        if self._sequences:
            rows = self.features.compute(tail.bars.lazy(), since=since).collect()
            self._keep(split_valid(self.features.schema, rows)[0])

    def recompute(self, tail: Tail, *, since: datetime) -> None:
        """Compute the rows at or after `since` for the next `store`, without serving them."""
        self._buffer.append(self.features.compute(tail.bars.lazy(), since=since).collect())

    def store(self) -> int:
        """Write what was pushed since the last call to ClickHouse; return the rows written.

        A row that is there already, with the same bits, is left alone: safe after a crash.
        """
        if not self._buffer:
            return 0
        rows = pl.concat(self._buffer)
        written = write_features(self._client, self.features, rows, run="live").written
        self._buffer.clear()
        return written

    def _keep(self, rows: pl.DataFrame) -> None:
        if self._sequences:
            last = rows.group_by("symbol", maintain_order=True).tail(self.features.depth)
            self._sequences.write(*self._arrays(last))

    def _arrays(
        self, rows: pl.DataFrame
    ) -> tuple[list[str], NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
        return (
            rows["symbol"].to_list(),
            rows["event_timestamp"].dt.timestamp("us").to_numpy(),
            rows["known_at"].dt.timestamp("us").to_numpy(),
            rows.select(self.features.features).to_numpy().astype(np.float64),
        )

    def _tell(self, symbols: list[str], event_us: list[int], values: NDArray[np.float64]) -> None:
        # The row itself goes along: a worker that was away still finds what later rows have
        # replaced in the online store.
        told: dict[Any, Any] = dict(zip(symbols, event_us, strict=True))
        with reaching(self._redis):
            pipeline = self._redis.pipeline(transaction=False)
            for symbol, event, row in zip(symbols, event_us, values, strict=True):
                pipeline.xadd(
                    rows_stream(self.features.view, symbol),
                    {
                        "symbol": symbol,
                        "event_us": event,
                        "feature_hash": self._hash,
                        "values": row.astype("<f8").tobytes(),
                    },
                    maxlen=ROWS_LENGTH,
                    approximate=True,
                )
            pipeline.hset(told_key(self.features.view), mapping=told)
            pipeline.execute()
