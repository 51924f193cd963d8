"""What a feature service answered, kept in ClickHouse to monitor and validate it later."""

# Feast has no types, so its base classes are Any.
# mypy: allow-subclassing-any

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.dataset as ds
from clickhouse_connect.driver.client import Client
from feast.data_source import DataSource

from atlas.clickhouse import insert_once, sql
from atlas.clickhouse.column_types import clickhouse_type
from atlas.errors import InvalidInput
from atlas.offline.feast_internals import LoggingConfigProto, LoggingDestination
from atlas.offline.missing_containers import with_marks
from atlas.offline.refusals import told
from atlas.offline.source import ClickHouseSource

__all__ = ["ClickHouseLoggingDestination", "write_logs"]

_KIND = "atlas_clickhouse"
_BATCH_ROWS = 100_000
_DEDUPLICATION = "SETTINGS non_replicated_deduplication_window = 1000"


class ClickHouseLoggingDestination(LoggingDestination):
    """The ClickHouse table that keeps a feature service's logs; made when the first come.

    Parameters
    ----------
    table : str
        `table`, of the store's database, or `database.table`.
    timestamp_field : str
        The column with the moment of each answer; Feast's own by default.
    """

    _proto_kind = _KIND

    def __init__(self, *, table: str, timestamp_field: str = "__log_timestamp") -> None:
        self.table = table
        self.timestamp_field = timestamp_field

    @classmethod
    def from_proto(cls, config_proto: Any) -> ClickHouseLoggingDestination:
        """Rebuild from what the registry keeps."""
        return cls(**dict(config_proto.custom_destination.config))

    def to_proto(self) -> Any:
        """Return what the registry keeps."""
        return LoggingConfigProto(
            custom_destination=LoggingConfigProto.CustomDestination(
                kind=_KIND, config={"table": self.table, "timestamp_field": self.timestamp_field}
            )
        )

    def to_data_source(self) -> DataSource:
        """Return the source that reads the logs."""
        return ClickHouseSource(table=self.table, timestamp_field=self.timestamp_field)

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, ClickHouseLoggingDestination)
            and self.table == other.table
            and self.timestamp_field == other.timestamp_field
        )

    def __hash__(self) -> int:
        return hash(self.table)


def write_logs(
    client: Client,
    destination: Any,
    logs: pa.Table | Path,
    schema: pa.Schema,
    timestamp_field: str,
) -> None:
    """Append logs to their table, which gets the columns that it lacks; equal blocks go in once.

    Parameters
    ----------
    logs : table, or folder of parquet files
        With the schema's columns.
    schema : pa.Schema
        The service's answer, with Feast's own columns.

    Raises
    ------
    InvalidInput
        If the destination is not ClickHouse's, or the logs do not have the schema's columns.
    """
    if not isinstance(destination, ClickHouseLoggingDestination):
        raise InvalidInput(
            "Expected a ClickHouseLoggingDestination, since the offline store is ClickHouse; found "
            f"{type(destination).__name__}. Give LoggingConfig(destination="
            "ClickHouseLoggingDestination(table=…))."
        )
    found = set(logs.schema.names if isinstance(logs, pa.Table) else _files(logs).schema.names)
    if absent := [name for name in schema.names if name not in found]:
        raise InvalidInput(
            f"Expected logs with the columns {', '.join(schema.names)}; {', '.join(absent)} not "
            "found. Run `feast apply` if the feature service has changed."
        )
    table = sql.table(destination.table)
    columns = {
        field.name: clickhouse_type(field.type, field.name)
        for field in with_marks(schema.empty_table()).schema
    }
    declared = ", ".join(f"{sql.name(name)} {kind}" for name, kind in columns.items())
    added = ", ".join(
        f"ADD COLUMN IF NOT EXISTS {sql.name(name)} {kind}" for name, kind in columns.items()
    )
    with told(f"the table of logs {destination.table}"):
        client.command(
            f"CREATE TABLE IF NOT EXISTS {table} ({declared}) ENGINE = MergeTree "
            f"ORDER BY {sql.name(timestamp_field)} {_DEDUPLICATION}, allow_nullable_key = 1"
        )
        client.command(f"ALTER TABLE {table} {added}")
    for batch in _batches(logs, schema):
        with told(f"the write to {destination.table}"):
            insert_once(client, table, with_marks(batch))


def _batches(logs: pa.Table | Path, schema: pa.Schema) -> Iterator[pa.Table]:
    pieces = (
        logs.select(schema.names).to_batches(max_chunksize=_BATCH_ROWS)
        if isinstance(logs, pa.Table)
        else _files(logs).to_batches(columns=schema.names, batch_size=_BATCH_ROWS)
    )
    for piece in pieces:
        if piece.num_rows:
            yield _as_declared(pa.Table.from_batches([piece]), schema)


def _as_declared(rows: pa.Table, schema: pa.Schema) -> pa.Table:
    try:
        return rows.cast(schema)
    except pa.ArrowException as error:
        raise InvalidInput(
            f"Expected logs of the feature service's types; found: {error}. Run `feast apply` if "
            "the service has changed."
        ) from error


def _files(folder: Path) -> ds.Dataset:
    return ds.dataset(folder, format="parquet")
