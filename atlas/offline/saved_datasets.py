"""Saved datasets: answers that stay in ClickHouse, each in a table of its own.

The rows are streamed into a table beside, which takes the dataset's name when it is whole: a
reader sees the former rows or the new ones, and a failure leaves the former.
"""

# Feast has no types, so its base classes are Any.
# mypy: allow-subclassing-any

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable
from typing import Any

import pyarrow as pa
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import DatabaseError
from feast.data_source import DataSource
from feast.errors import SavedDatasetLocationAlreadyExists

from atlas.clickhouse import sql
from atlas.clickhouse.column_types import clickhouse_type
from atlas.errors import InvalidInput
from atlas.offline.feast_internals import SavedDatasetStorage
from atlas.offline.missing_containers import with_marks
from atlas.offline.source import ClickHouseSource, configuration

__all__ = ["SavedDatasetClickHouseStorage", "save"]

# ClickHouse's own code: TABLE_ALREADY_EXISTS.
_ALREADY_THERE = 57


class SavedDatasetClickHouseStorage(SavedDatasetStorage):
    """The ClickHouse table that keeps a saved dataset.

    Parameters
    ----------
    table : str
        `table`, of the store's database, or `database.table`.
    timestamp_field : str
        The column with each row's moment; saving tells it.
    """

    _proto_attr_name = "custom_storage"

    def __init__(self, table: str, *, timestamp_field: str = "event_timestamp") -> None:
        self.table = table
        self.timestamp_field = timestamp_field

    @staticmethod
    def from_proto(storage_proto: Any) -> SavedDatasetClickHouseStorage:
        """Rebuild from what the registry keeps."""
        kept = json.loads(storage_proto.custom_storage.configuration)
        return SavedDatasetClickHouseStorage(
            kept["table"], timestamp_field=kept.get("timestamp_field") or "event_timestamp"
        )

    @staticmethod
    def from_data_source(data_source: DataSource) -> SavedDatasetClickHouseStorage:
        """Return the storage over a source's table.

        Raises
        ------
        InvalidInput
            If the source is a query.
        """
        if not isinstance(data_source, ClickHouseSource) or not data_source.table:
            raise InvalidInput(
                "Expected a ClickHouseSource with a table, to save a dataset there; found "
                f"{data_source!r}."
            )
        return SavedDatasetClickHouseStorage(
            data_source.table, timestamp_field=data_source.timestamp_field
        )

    def to_proto(self) -> Any:
        """Return what the registry keeps."""
        return self._custom_storage_proto(
            configuration(table=self.table, timestamp_field=self.timestamp_field)
        )

    def to_data_source(self) -> DataSource:
        """Return the source that reads the dataset back."""
        return ClickHouseSource(table=self.table, timestamp_field=self.timestamp_field)

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, SavedDatasetClickHouseStorage)
            and self.table == other.table
            and self.timestamp_field == other.timestamp_field
        )

    def __hash__(self) -> int:
        return hash(self.table)


def save(
    client: Client,
    storage: Any,
    schema: pa.Schema,
    batches: Iterable[pa.RecordBatch],
    *,
    allow_overwrite: bool,
) -> None:
    """Write rows to a storage's table, batch by batch.

    Raises
    ------
    InvalidInput
        If the storage is not ClickHouse's, or a column has a type that ClickHouse lacks.
    SavedDatasetLocationAlreadyExists
        If the table is there and may not be overwritten.
    """
    if not isinstance(storage, SavedDatasetClickHouseStorage):
        raise InvalidInput(
            "Expected a SavedDatasetClickHouseStorage, since the rows stay in ClickHouse; "
            f"found {type(storage).__name__}."
        )
    table = sql.table(storage.table)
    if not allow_overwrite and client.command(f"EXISTS TABLE {table}"):
        raise SavedDatasetLocationAlreadyExists(storage.table)
    marked = with_marks(schema.empty_table()).schema
    columns = ", ".join(
        f"{sql.name(field.name)} {clickhouse_type(field.type, field.name)}" for field in marked
    )
    beside = _beside(storage.table)
    client.command(f"CREATE TABLE {beside} ({columns}) ENGINE = MergeTree ORDER BY tuple()")
    try:
        for batch in batches:
            if batch.num_rows:
                client.insert_arrow(beside, with_marks(pa.Table.from_batches([batch])))
        _take_name(client, beside, storage.table, allow_overwrite=allow_overwrite)
    finally:
        client.command(f"DROP TABLE IF EXISTS {beside}")


def _take_name(client: Client, beside: str, wanted: str, *, allow_overwrite: bool) -> None:
    table = sql.table(wanted)
    if allow_overwrite and client.command(f"EXISTS TABLE {table}"):
        client.command(f"EXCHANGE TABLES {beside} AND {table}")
        return
    try:
        client.command(f"RENAME TABLE {beside} TO {table}")
    except DatabaseError as error:
        if error.code == _ALREADY_THERE:
            raise SavedDatasetLocationAlreadyExists(wanted) from error
        raise


def _beside(reference: str) -> str:
    """Return a name that nobody has, in the same database."""
    name = sql.name(f"atlas_saving_{uuid.uuid4().hex}")
    database, dot, _ = sql.table(reference).rpartition("`.`")
    return f"{database}`.{name}" if dot else name
