"""What a test looks at in Redis, and a view of numbers to look at it with."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from clickhouse_connect.driver.client import Client
from feast import Entity, FeatureView, Field, ValueType
from feast.types import Float64
from redis import Redis

from atlas.offline import ClickHouseSource

__all__ = ["EVER", "T0", "bid_ask", "ledger", "moments", "put", "quotes", "rows_of"]

T0 = datetime(2021, 6, 1, 12, tzinfo=UTC)
EVER = T0 - timedelta(days=1000)
Hashes = dict[bytes, dict[bytes, bytes]]


def rows_of(redis: Redis, *, with_known: bool = True) -> Hashes:
    """Return every hash, as bytes."""
    return {
        key: {
            field: value
            for field, value in redis.hgetall(key).items()
            if with_known or not field.startswith(b"_known:")
        }
        for key in redis.scan_iter(count=10_000)
        if redis.type(key) == b"hash"
    }


def ledger(redis: Redis, view: str, project: str = "desk") -> Any:
    """Return a view's entry in the ledger without its lineage; None if there is none."""
    text = redis.get(f"atlas:online:{{{project}/{view}}}:ledger")
    if text is None:
        return None
    entry = json.loads(text)
    del entry["told"]
    return entry


def moments(redis: Redis) -> dict[str, tuple[float, ...]]:
    """Return bid and ask by symbol, of the view `quotes`."""
    from feast.protos.feast.types.Value_pb2 import Value

    from atlas.online.wire import feature_field

    fields = [feature_field("quotes", name) for name in ("bid", "ask")]
    found = {}
    for key, row in rows_of(redis).items():
        symbol = key[26:-4].decode()
        found[symbol] = tuple(Value.FromString(row[field]).double_val for field in fields)
    return found


def quotes(client: Client, *, created: bool = True, written: bool = True) -> None:
    """Make the table `quotes`."""
    columns = ["symbol String", "event_timestamp DateTime64(6, 'UTC')"]
    columns += ["known_at DateTime64(6, 'UTC')"] if created else []
    columns += ["bid Float64", "ask Nullable(Float64)"]
    columns += ["written_at DateTime64(6, 'UTC') DEFAULT now64(6)"] if written else []
    client.command(
        f"CREATE TABLE quotes ({', '.join(columns)}) ENGINE = MergeTree "
        "ORDER BY (symbol, event_timestamp)"
    )


def put(client: Client, rows: Sequence[tuple[str, datetime, datetime | None, float]]) -> None:
    """Insert symbol, event, known (None: the table has none) and bid; the ask is one more."""
    names = ["symbol", "event_timestamp", "known_at", "bid", "ask"]
    data = [[*row, row[3] + 1] for row in rows]
    if rows[0][2] is None:
        names.remove("known_at")
        data = [[row[0], row[1], *row[3:]] for row in data]
    client.insert("quotes", data, column_names=names)


def bid_ask(
    *, created: bool = True, ttl: timedelta = timedelta(days=1), **source: Any
) -> list[Any]:
    """Return the objects to apply: the entity and the view `quotes`."""
    symbol = Entity(name="symbol", join_keys=["symbol"], value_type=ValueType.STRING)
    view = FeatureView(
        name="quotes",
        entities=[symbol],
        schema=[Field(name=name, dtype=Float64) for name in ("bid", "ask")],
        source=ClickHouseSource(
            **({"table": "quotes"} | source),
            timestamp_field="event_timestamp",
            created_timestamp_column="known_at" if created else "",
        ),
        ttl=ttl,
    )
    return [symbol, view]
