"""The tables that Atlas keeps in ClickHouse, and the one way to insert into them.

Nothing is updated in place: a correction is a new row with the same key and a later `known_at`.
Every insert carries a token made of its content, so a retry of the same block is a no-op.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence

import pyarrow as pa
from clickhouse_connect.driver.client import Client

from atlas.market import INTERVALS, Interval, bars_table
from atlas.serving import ValueKind

__all__ = ["content_token", "create_feature_table", "insert_once", "latest_bars", "migrate"]

# Blocks remembered for deduplication. A load of 10 M rows is 100 blocks of 100 k rows.
_SETTINGS = "SETTINGS non_replicated_deduplication_window = 1000"
_MOMENT = "DateTime64(6, 'UTC')"
# What the columns of a feature table may hold.
_TYPES = {ValueKind.DOUBLE: "Float64", ValueKind.INT32: "Int32", ValueKind.STRING: "String"}
_LINEAGE = f"written_at {_MOMENT} DEFAULT now64(6)"

_BARS = f"""
CREATE TABLE IF NOT EXISTS {{table}} (
    symbol LowCardinality(String),
    event_timestamp {_MOMENT},
    known_at {_MOMENT},
    open Float64, high Float64, low Float64, close Float64, volume Float64,
    load_id LowCardinality(String),
    {_LINEAGE}
) ENGINE = MergeTree ORDER BY (symbol, event_timestamp, known_at) {_SETTINGS}
"""

_TABLES = (
    f"""
CREATE TABLE IF NOT EXISTS quarantine (
    load_id String,
    source String,
    table_name LowCardinality(String),
    row_number UInt64,
    reason String,
    row String,
    {_LINEAGE}
) ENGINE = MergeTree ORDER BY (load_id, row_number) {_SETTINGS}
""",
    # What came later. The defaults speak for rows that were written before, and for writers that
    # do not know of the columns yet.
    f"""
ALTER TABLE quarantine
    ADD COLUMN IF NOT EXISTS border LowCardinality(String)
        DEFAULT if(source = 'materialise', 'offline', 'ingest'),
    ADD COLUMN IF NOT EXISTS symbol String DEFAULT JSONExtractString(row, 'symbol'),
    ADD COLUMN IF NOT EXISTS event_timestamp Nullable({_MOMENT})
        DEFAULT parseDateTime64BestEffortOrNull(
            JSONExtractString(row, 'event_timestamp'), 6, 'UTC'),
    ADD COLUMN IF NOT EXISTS row_id String DEFAULT lower(hex(SHA256(concat(
        border, '\\0', table_name, '\\0',
        if(border = 'ingest', concat(load_id, ' ', toString(row_number)), row), '\\0',
        reason))))
""",
    f"""
CREATE TABLE IF NOT EXISTS readmissions (
    row_id String,
    border LowCardinality(String),
    table_name LowCardinality(String),
    outcome LowCardinality(String),
    run String,
    {_LINEAGE}
) ENGINE = MergeTree ORDER BY (border, table_name, row_id) {_SETTINGS}
""",
    f"""
CREATE TABLE IF NOT EXISTS loads (
    load_id String,
    source String,
    table_name LowCardinality(String),
    rows_read UInt64,
    inserted UInt64,
    corrected UInt64,
    unchanged UInt64,
    quarantined UInt64,
    first_event Nullable({_MOMENT}),
    last_event Nullable({_MOMENT}),
    {_LINEAGE}
) ENGINE = MergeTree ORDER BY load_id {_SETTINGS}
""",
    f"""
CREATE TABLE IF NOT EXISTS predictions (
    model LowCardinality(String),
    version UInt32,
    stage LowCardinality(String),
    generation UInt64,
    symbol LowCardinality(String),
    event_timestamp {_MOMENT},
    score Float64,
    side Int8,
    decides Bool,
    feature_hash LowCardinality(String),
    published Bool,
    latency_us UInt32,
    {_LINEAGE}
) ENGINE = MergeTree ORDER BY (model, version, symbol, event_timestamp) {_SETTINGS}
""",
)


def migrate(client: Client, database: str) -> None:
    """Create the database and every table that is not there yet."""
    client.command(f"CREATE DATABASE IF NOT EXISTS `{database}`")
    client.database = database
    for interval in INTERVALS:
        client.command(_BARS.format(table=bars_table(interval)))
    for statement in _TABLES:
        client.command(statement)


def create_feature_table(
    client: Client, table: str, columns: Sequence[str] | Mapping[str, ValueKind]
) -> None:
    """Create a feature table, and add to an older one the columns that it lacks.

    Parameters
    ----------
    columns : sequence or mapping
        Names of the columns after the keys, with what each one holds; doubles if not told.
    """
    if not isinstance(columns, Mapping):
        columns = dict.fromkeys(columns, ValueKind.DOUBLE)
    typed = [f"`{name}` Nullable({_TYPES[kind]})" for name, kind in columns.items()]
    client.command(
        f"CREATE TABLE IF NOT EXISTS `{table}` (symbol LowCardinality(String), "
        f"event_timestamp {_MOMENT}, known_at {_MOMENT}, {', '.join(typed)}, {_LINEAGE}) "
        f"ENGINE = MergeTree ORDER BY (symbol, event_timestamp, known_at) {_SETTINGS}"
    )
    for column in typed:
        client.command(f"ALTER TABLE `{table}` ADD COLUMN IF NOT EXISTS {column}")


def latest_bars(interval: Interval, where: str = "1") -> str:
    """Return SQL for the newest version of each bar that meets a condition on its key columns."""
    return (
        "SELECT symbol, event_timestamp, known_at, open, high, low, close, volume "
        f"FROM {bars_table(interval)} WHERE {where} "
        "ORDER BY symbol, event_timestamp, known_at DESC LIMIT 1 BY symbol, event_timestamp"
    )


def content_token(parts: Iterable[bytes | str]) -> str:
    """Return the token of a block: equal parts in equal order give equal tokens."""
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        digest.update(len(data).to_bytes(8, "little"))
        digest.update(data)
    return digest.hexdigest()


def insert_once(client: Client, table: str, block: pa.Table, *, scope: str = "") -> int:
    """Insert a block unless the same block was inserted before; return its rows.

    Parameters
    ----------
    scope : str
        Tells apart equal blocks that are meant twice, such as those of two loads.
    """
    if block.num_rows == 0:
        return 0
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, block.schema) as writer:
        writer.write_table(block.combine_chunks())
    token = content_token([table, scope, memoryview(sink.getvalue()).tobytes()])
    client.insert_arrow(table, block, settings={"insert_deduplication_token": token})
    return int(block.num_rows)
