"""Atlas's stores as Feast's own suite wants them: where to put its data, and how to configure them.

Feast imports this module by name, from its checkout; the servers' ports come from the environment.
"""

from __future__ import annotations

import os
import uuid
from typing import Any

import pandas as pd
import pyarrow as pa
from tests.universal.feature_repos.universal.data_source_creator import DataSourceCreator

from atlas.clickhouse import connect, sql
from atlas.clickhouse.column_types import bare, clickhouse_type
from atlas.offline import (
    ClickHouseLoggingDestination,
    ClickHouseOfflineStoreConfig,
    ClickHouseSource,
    SavedDatasetClickHouseStorage,
)
from atlas.offline.missing_containers import with_marks

__all__ = ["AVAILABLE_OFFLINE_STORES", "AVAILABLE_ONLINE_STORES", "AtlasDataSourceCreator"]

CLICKHOUSE_PORT = int(os.environ["ATLAS_CLICKHOUSE_PORT"])
REDIS_PORT = int(os.environ["ATLAS_REDIS_PORT"])


class AtlasDataSourceCreator(DataSourceCreator):  # type: ignore[misc]
    """Puts the suite's frames into ordinary MergeTree tables of a database of the test's own.

    A number, moment or key is Nullable only if its frame has a null: that is how tables are
    declared in ClickHouse, and the case that a join must not answer with zeros. Other text is
    Nullable, and structs have a mark, since the suite later writes nulls where its first frame had
    none; floats are doubles, since it later writes doubles and expects them back.
    """

    def __init__(self, project_name: str, **_: Any) -> None:
        super().__init__(project_name)
        self.database = f"feast_{uuid.uuid4().hex[:12]}"
        with connect(port=CLICKHOUSE_PORT) as client:
            client.command(f"CREATE DATABASE {self.database}")

    def create_data_source(
        self,
        df: pd.DataFrame,
        destination_name: str,
        created_timestamp_column: str | None = "created_ts",
        field_mapping: dict[str, str] | None = None,
        timestamp_field: str | None = "ts",
    ) -> ClickHouseSource:
        """Return a source over a table with the frame's rows."""
        rows = with_marks(_arrow(df))
        columns = ", ".join(
            f"{sql.name(name)} {_column_type(rows[name], name)}" for name in rows.column_names
        )
        table = sql.name(destination_name)
        with connect(port=CLICKHOUSE_PORT, database=self.database) as client:
            client.command(f"CREATE TABLE {table} ({columns}) ENGINE = MergeTree ORDER BY tuple()")
            client.insert_arrow(table, rows)
        return ClickHouseSource(
            name=f"{self.project_name}_{destination_name}",
            table=destination_name,
            timestamp_field=timestamp_field or "ts",
            created_timestamp_column=created_timestamp_column or "",
            field_mapping=field_mapping or {"ts_1": "ts"},
        )

    def create_offline_store_config(self) -> ClickHouseOfflineStoreConfig:
        """Return the configuration of the store under test."""
        return ClickHouseOfflineStoreConfig(port=CLICKHOUSE_PORT, database=self.database)

    def create_saved_dataset_destination(self) -> SavedDatasetClickHouseStorage:
        """Return a table for a dataset."""
        return SavedDatasetClickHouseStorage(f"saved_{uuid.uuid4().hex[:12]}")

    def create_logged_features_destination(self) -> ClickHouseLoggingDestination:
        """Return a table for logged features."""
        return ClickHouseLoggingDestination(table=f"logged_{uuid.uuid4().hex[:12]}")

    def teardown(self) -> None:
        """Drop all that the test made."""
        with connect(port=CLICKHOUSE_PORT) as client:
            client.command(f"DROP DATABASE {self.database}")


def _arrow(frame: pd.DataFrame) -> pa.Table:
    mixed_zones = {
        name: pd.to_datetime(values, utc=True)
        for name, values in frame.items()
        if values.map(lambda value: isinstance(value, pd.Timestamp)).any()
    }
    return pa.Table.from_pandas(frame.assign(**mixed_zones), preserve_index=False)


def _column_type(column: pa.ChunkedArray, name: str) -> str:
    kind = pa.float64() if pa.types.is_float32(column.type) else column.type
    found = clickhouse_type(kind, name)
    is_text = pa.types.is_string(column.type) and not name.endswith("_id")
    return found if column.null_count or is_text else bare(found)


AVAILABLE_OFFLINE_STORES = [("local", AtlasDataSourceCreator)]
AVAILABLE_ONLINE_STORES = {
    "redis": (
        {
            "type": "atlas.online.RedisOnlineStore",
            "connection_string": f"127.0.0.1:{REDIS_PORT}",
        },
        None,
    )
}
