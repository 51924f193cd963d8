"""The rows that ask for features: numbered, uploaded for the length of one query, then dropped."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from clickhouse_connect.driver.client import Client
from feast.errors import EntitySQLEmptyResults, InvalidEntityType

from atlas.clickhouse import sql
from atlas.clickhouse.column_types import bare, clickhouse_type, is_time, readable
from atlas.errors import InvalidInput
from atlas.offline.feast_internals import infer_event_timestamp_from_entity_df

__all__ = [
    "ROW",
    "TIME",
    "EntityFrame",
    "EntityQuery",
    "EntityRows",
    "Uploaded",
    "entity_rows",
]

ROW = "__atlas_row"
TIME = "__atlas_time"
_PREFIX = "atlas_entity_rows_"
# Keys and times of so many rows are held by ClickHouse at once.
_CHUNK_ROWS = 2_000_000


@dataclass(frozen=True)
class Uploaded:
    """A quoted table with `ROW`, `TIME` (nanoseconds) and the key columns of some entity rows."""

    table: str
    first: datetime | None
    last: datetime | None


class EntityFrame:
    """Entity rows of a DataFrame: only keys and times go to ClickHouse; the rest stays here."""

    def __init__(self, frame: pd.DataFrame) -> None:
        self.time_column = infer_event_timestamp_from_entity_df(
            dict(zip(frame.columns, frame.dtypes, strict=True))
        )
        times = pd.to_datetime(frame[self.time_column], utc=True)
        self._times = times.astype("datetime64[ns, UTC]")
        self._frame = frame.assign(**{self.time_column: times}).reset_index(drop=True)

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the frame's columns."""
        return tuple(map(str, self._frame.columns))

    @property
    def span(self) -> tuple[datetime | None, datetime | None]:
        """First and last moment asked about."""
        return _span(self._times)

    @property
    def selections(self) -> tuple[str, ...]:
        """What the query must bring back of the entity rows: nothing, they are here."""
        return ()

    def attach(self, features: pa.Table, rows: slice) -> pa.Table:
        """Put the features of some rows, in order, beside those rows."""
        table = pa.Table.from_pandas(self._frame.iloc[rows], preserve_index=False)
        for column in features.column_names:
            table = table.append_column(column, features[column])
        return table

    @property
    def chunks(self) -> Iterator[slice]:
        """The rows in pieces; one piece is with ClickHouse at a time."""
        for start in range(0, max(1, len(self._frame)), _CHUNK_ROWS):
            yield slice(start, start + _CHUNK_ROWS)

    @contextmanager
    def upload(self, client: Client, keys: Sequence[str], rows: slice) -> Iterator[Uploaded]:
        """Keep keys and times of some rows in a table while the block runs."""
        times = self._times.iloc[rows]
        nanos = times.to_numpy(dtype="datetime64[ns]").astype(np.int64)
        columns: dict[str, Any] = {
            ROW: pa.array(np.arange(len(times), dtype=np.uint64)),
            TIME: pa.array(nanos, mask=times.isna().to_numpy()),
        }
        for key in keys:
            columns[key] = _key_column(self._frame[key].iloc[rows], key)
        block = pa.table(columns)
        types = {ROW: "UInt64", TIME: "Nullable(Int64)"}
        for key in keys:
            types[key] = clickhouse_type(block.schema.field(key).type, key)
        described = ", ".join(f"{sql.name(column)} {kind}" for column, kind in types.items())
        with _table(client) as table:
            client.command(f"CREATE TABLE {table} ({described}) ENGINE = Memory")
            if block.num_rows:
                client.insert_arrow(table, block)
            yield Uploaded(table, *_span(times))


class EntityQuery:
    """Entity rows of a SELECT: they never leave ClickHouse before the answer."""

    def __init__(self, query: str, client: Client, settings: dict[str, Any]) -> None:
        self._query = query.strip().rstrip(";")
        self._settings = settings
        self._types = {
            row[0]: row[1] for row in client.query(f"DESCRIBE TABLE ({self._query})").result_rows
        }
        self.time_column = infer_event_timestamp_from_entity_df(
            {
                name: np.dtype("datetime64[ns]" if is_time(kind) else "object")
                for name, kind in self._types.items()
            }
        )
        if not is_time(self._types[self.time_column]):
            raise InvalidInput(
                f"Expected column {self.time_column!r} of the entity query to be a Date, DateTime "
                f"or DateTime64; found {self._types[self.time_column]}. Convert it with "
                "parseDateTime64BestEffort(…, 6, 'UTC')."
            )
        found = client.query(
            f"SELECT count(), min({self._time}), max({self._time}) FROM ({self._query})",
            settings=settings,
        ).result_rows[0]
        if not found[0]:
            raise EntitySQLEmptyResults(query)
        self.span = (_moment(found[1], "floor"), _moment(found[2], "ceil"))

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the query's columns."""
        return tuple(self._types)

    @property
    def selections(self) -> tuple[str, ...]:
        """What the query must bring back of the entity rows: every column."""
        return tuple(
            f"{readable('e.' + sql.name(name), kind)} AS {sql.name(name)}"
            for name, kind in self._types.items()
        )

    @property
    def _time(self) -> str:
        return sql.ticks(sql.name(self.time_column), bare(self._types[self.time_column]))

    def attach(self, features: pa.Table, rows: slice) -> pa.Table:
        """Return the answer, which has the entity columns already."""
        return features

    @property
    def chunks(self) -> Iterator[slice]:
        """All rows at once: they are on ClickHouse's disk."""
        yield slice(None)

    @contextmanager
    def upload(self, client: Client, keys: Sequence[str], rows: slice) -> Iterator[Uploaded]:
        """Keep the query's rows, numbered in its own order, in a table while the block runs."""
        with _table(client) as table:
            client.command(
                f"CREATE TABLE {table} ENGINE = MergeTree ORDER BY {ROW} AS "
                f"SELECT rowNumberInAllBlocks() AS {ROW}, {self._time} AS {TIME}, * "
                f"FROM ({self._query})",
                settings={**self._settings, "allow_suspicious_low_cardinality_types": 1},
            )
            yield Uploaded(table, *self.span)


EntityRows = EntityFrame | EntityQuery


def entity_rows(entities: Any, client: Client, settings: dict[str, Any]) -> EntityRows:
    """Return the rows of a DataFrame or of a SELECT.

    Raises
    ------
    InvalidEntityType
        If it is neither.
    EntitySQLEmptyResults
        If the SELECT gives no rows.
    """
    if isinstance(entities, pd.DataFrame):
        return EntityFrame(entities)
    if isinstance(entities, str):
        return EntityQuery(entities, client, settings)
    raise InvalidEntityType(type(entities))


@contextmanager
def _table(client: Client) -> Iterator[str]:
    """Give the quoted name of a new table, and drop it whatever happens.

    An ordinary table rather than a temporary one: that would bind the client to one session of
    one server, which neither threads nor a load balancer keep.
    """
    table = sql.name(_PREFIX + uuid.uuid4().hex)
    try:
        yield table
    finally:
        client.command(f"DROP TABLE IF EXISTS {table} SYNC")


def _key_column(values: pd.Series, name: str) -> pa.Array:
    if isinstance(values.dtype, pd.CategoricalDtype):
        values = values.astype(values.cat.categories.dtype)
    try:
        column = pa.array(values, from_pandas=True)
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise InvalidInput(
            f"Expected the entity key {name!r} to hold values of one type; found: {error}. "
            "Convert the column before asking for features."
        ) from error
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column


def _span(times: pd.Series) -> tuple[datetime | None, datetime | None]:
    known = times.dropna()
    if known.empty:
        return None, None
    # Whole microseconds, outward, so that a bound never cuts a row.
    return known.min().floor("us").to_pydatetime(), known.max().ceil("us").to_pydatetime()


def _moment(nanos: int | None, way: str) -> datetime | None:
    if nanos is None:
        return None
    moment: datetime = getattr(pd.Timestamp(nanos, tz=UTC), way)("us").to_pydatetime()
    return moment
