"""The rows that ask for features: of a DataFrame or a SELECT, in blocks, in their own order."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol
from uuid import UUID

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
from clickhouse_connect.driver.client import Client
from feast.errors import EntitySQLEmptyResults, InvalidEntityType
from pandas.api.types import is_datetime64_dtype, is_numeric_dtype

from atlas.clickhouse import sql
from atlas.clickhouse.arrow_results import arrow_batches
from atlas.clickhouse.column_types import bare, is_time, readable
from atlas.errors import InvalidInput
from atlas.offline.feast_internals import infer_event_timestamp_from_entity_df
from atlas.offline.refusals import told

__all__ = ["Block", "EntityFrame", "EntityQuery", "EntityRows", "entity_rows"]

Span = tuple[datetime | None, datetime | None]

_TIME = "__atlas_time"
# What a SELECT gives waits on disk beyond this, since the server should not wait for the joins.
_SPOOL_BYTES = 32 << 20


@dataclass(frozen=True)
class Block:
    """Some entity rows in a row.

    Attributes
    ----------
    columns : pa.Table
        All that the caller gave, as it is answered.
    times : (n,) int64
        Nanoseconds since 1970.
    timed : (n,) bool
        Whether the row has a time at all.
    """

    columns: pa.Table
    times: npt.NDArray[np.int64]
    timed: npt.NDArray[np.bool_]


class EntityRows(Protocol):
    """Rows that ask for features."""

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns."""
        ...

    @property
    def time_column(self) -> str:
        """The column with the moment that each row asks about."""
        ...

    @property
    def span(self) -> Span:
        """First and last moment asked about."""
        ...

    def blocks(self, client: Client, settings: dict[str, Any], size: int) -> Iterator[Block]:
        """Yield the rows in their order, at most `size` at once; at least one block."""
        ...


class EntityFrame:
    """The rows of a DataFrame; times are answered in UTC, a naive one is UTC; UUIDs as text.

    Raises
    ------
    InvalidInput
        If a column's name appears twice, or the times cannot be read.
    """

    def __init__(self, frame: pd.DataFrame) -> None:
        names = [str(name) for name in frame.columns]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise InvalidInput(
                "Expected every column of the entity rows to have a name of its own; found "
                f"{', '.join(twice)} more than once. Rename or drop a column."
            )
        frame = frame.set_axis(names, axis=1)
        self.columns = tuple(names)
        self.time_column = infer_event_timestamp_from_entity_df(
            dict(zip(names, frame.dtypes, strict=True))
        )
        try:
            times = _in_utc(frame[self.time_column])
            exact = times.astype("datetime64[ns, UTC]")
        except (ValueError, TypeError, OverflowError) as error:
            raise InvalidInput(
                f"Expected column {self.time_column!r} of the entity rows to hold moments between "
                f"1678 and 2262; found: {error}. Convert it with pandas.to_datetime."
            ) from error
        frame = frame.assign(**{self.time_column: times}).reset_index(drop=True)
        self._frame = frame.assign(**_spelt(frame))
        self._timed = times.notna().to_numpy()
        self._times = exact.to_numpy(dtype="datetime64[ns]").astype(np.int64)
        known = self._times[self._timed]
        self.span: Span = (
            (moment(known.min()), moment(known.max(), up=True)) if known.size else (None, None)
        )

    def blocks(self, client: Client, settings: dict[str, Any], size: int) -> Iterator[Block]:
        """Yield the rows in their order; they need no ClickHouse."""
        try:
            schema = _typed(pa.Schema.from_pandas(self._frame, preserve_index=False))
            for start in range(0, max(1, len(self._frame)), size):
                rows = slice(start, start + size)
                columns = pa.Table.from_pandas(
                    self._frame.iloc[rows], schema=schema, preserve_index=False
                )
                yield Block(columns, self._times[rows], self._timed[rows])
        except pa.ArrowException as error:
            raise InvalidInput(
                "Expected every column of the entity rows to hold values of one type; found: "
                f"{error}. Convert the column before asking for features."
            ) from error


class EntityQuery:
    """The rows of a SELECT, in its own order.

    Parameters
    ----------
    span : (first, last)
        Bounds of the times, where they are known; otherwise the query is asked for them.

    Raises
    ------
    InvalidInput
        If the query does not run, or its time column holds no moments.
    EntitySQLEmptyResults
        If it gives no rows, and `span` does not say that this is expected.
    """

    def __init__(
        self, query: str, client: Client, settings: dict[str, Any], span: Span | None = None
    ) -> None:
        self._query = sql.statement(query)
        with told("the entity query"):
            described = client.query(f"DESCRIBE TABLE ({self._query})", settings=settings)
        self._types: dict[str, str] = {row[0]: row[1] for row in described.result_rows}
        self.columns = tuple(self._types)
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
        self.span: Span = self._found_span(client, settings) if span is None else span

    def blocks(self, client: Client, settings: dict[str, Any], size: int) -> Iterator[Block]:
        """Yield the rows in their order."""
        columns = ", ".join(
            f"{readable(sql.name(name), kind)} AS {sql.name(name)}"
            for name, kind in self._types.items()
        )
        time = f"{self._ticks} AS {_TIME}"
        query = f"SELECT {columns}, {time} FROM ({self._query})"
        with tempfile.SpooledTemporaryFile(_SPOOL_BYTES) as spool:
            with (
                told("the entity query"),
                arrow_batches(client, query, settings) as (schema, batches),
                pa.ipc.new_stream(spool, schema) as writer,
            ):
                for batch in batches:
                    writer.write_batch(batch)
            spool.seek(0)
            for table in _regrouped(pa.ipc.open_stream(spool), size):
                times = table[_TIME].combine_chunks()
                yield Block(
                    table.drop_columns([_TIME]),
                    times.fill_null(0).to_numpy(zero_copy_only=False).astype(np.int64),
                    times.is_valid().to_numpy(zero_copy_only=False),
                )

    @property
    def _ticks(self) -> str:
        return sql.ticks(sql.name(self.time_column), bare(self._types[self.time_column]))

    def _found_span(self, client: Client, settings: dict[str, Any]) -> Span:
        query = f"SELECT count(), min({self._ticks}), max({self._ticks}) FROM ({self._query})"
        with told("the entity query"):
            ((rows, first, last),) = client.query(query, settings=settings).result_rows
        if not rows:
            raise EntitySQLEmptyResults(self._query)
        return (None, None) if first is None else (moment(first), moment(last, up=True))


def entity_rows(entities: Any, client: Client, settings: dict[str, Any]) -> EntityRows:
    """Return the rows of a DataFrame or of a SELECT.

    Raises
    ------
    InvalidEntityType
        If it is neither.
    """
    if isinstance(entities, pd.DataFrame):
        return EntityFrame(entities)
    if isinstance(entities, str):
        return EntityQuery(entities, client, settings)
    raise InvalidEntityType(type(entities))


def moment(nanos: int, *, up: bool = False) -> datetime:
    """Return the last whole microsecond not after `nanos`, or the first one not before."""
    micros = -(-int(nanos) // 1_000) if up else int(nanos) // 1_000
    found: datetime = pd.Timestamp(micros, unit="us", tz=UTC).to_pydatetime()
    return found


def _in_utc(times: pd.Series) -> pd.Series:
    if isinstance(times.dtype, pd.DatetimeTZDtype):
        return times.dt.tz_convert(UTC)
    if times.empty:
        # Nothing tells the type of an empty list.
        return pd.Series([], times.index, dtype="datetime64[ns, UTC]")
    if is_datetime64_dtype(times.dtype):
        return times.dt.tz_localize(UTC)
    if is_numeric_dtype(times.dtype):
        raise TypeError("numbers, of which nobody can tell the unit")
    return pd.to_datetime(times, utc=True, format="ISO8601")


def _spelt(frame: pd.DataFrame) -> dict[str, pd.Series]:
    """Write columns of UUID objects as text, which is how Arrow and ClickHouse take them."""
    return {
        name: column.map(lambda value: str(value) if isinstance(value, UUID) else value)
        for name, column in frame.items()
        if column.dtype == object and any(isinstance(value, UUID) for value in column)
    }


def _typed(schema: pa.Schema) -> pa.Schema:
    """Give a column of objects without any value a type: text, as pandas would write it."""
    for place, field in enumerate(schema):
        if pa.types.is_null(field.type):
            schema = schema.set(place, field.with_type(pa.string()))
    return schema


def _regrouped(reader: pa.RecordBatchReader, size: int) -> Iterator[pa.Table]:
    """Yield tables of `size` rows, and at last one of fewer, which may have none."""
    waiting: list[pa.RecordBatch] = []
    rows = 0
    for batch in reader:
        while rows + batch.num_rows >= size:
            taken = size - rows
            yield pa.Table.from_batches([*waiting, batch.slice(0, taken)])
            waiting, rows, batch = [], 0, batch.slice(taken)
        if batch.num_rows:
            waiting.append(batch)
            rows += batch.num_rows
    yield pa.Table.from_batches(waiting, reader.schema)
