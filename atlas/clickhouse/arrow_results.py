"""How a SELECT's rows come out of ClickHouse as Arrow: whole, or batch by batch."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pyarrow as pa
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import DatabaseError
from clickhouse_connect.driver.external import ExternalData
from urllib3.exceptions import HTTPError

__all__ = ["SentTable", "arrow_batches", "arrow_table"]

_FORMAT = "ArrowStream"
# A server that fails halfway through an answer writes why behind the rows.
_FAILURE_MARK = b"__exception__\r\n"
_FAILURE_BYTES = 64 << 10


class SentTable:
    """Rows that travel with a query, which reads them as the table `name`.

    No server keeps them longer than the query runs, however the client ends.
    """

    def __init__(self, name: str, rows: pa.Table, types: Mapping[str, str]) -> None:
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, rows.schema) as writer:
            writer.write_table(rows)
        self.name = name
        self._rows = sink.getvalue().to_pybytes()
        self._structure = ", ".join(f"{column} {types[column]}" for column in rows.column_names)

    def external(self) -> ExternalData:
        """Return the rows in the driver's words."""
        return ExternalData(
            file_name=self.name, data=self._rows, fmt=_FORMAT, structure=self._structure
        )


def arrow_table(
    client: Client, query: str, settings: Mapping[str, Any], sent: SentTable | None = None
) -> pa.Table:
    """Return all rows of a small answer; an error comes before any of them.

    Raises
    ------
    clickhouse_connect.driver.exceptions.DatabaseError
        ClickHouse's own.
    """
    answer = client.raw_query(
        query,
        settings=dict(settings),
        fmt=_FORMAT,
        external_data=sent.external() if sent else None,
    )
    return pa.ipc.open_stream(answer).read_all()


@contextmanager
def arrow_batches(
    client: Client, query: str, settings: Mapping[str, Any]
) -> Iterator[tuple[pa.Schema, Iterator[pa.RecordBatch]]]:
    """Give a large answer: its schema at once, and its batches as ClickHouse sends them.

    Leaving the block early ends the query.

    Raises
    ------
    clickhouse_connect.driver.exceptions.DatabaseError
        ClickHouse's own, also halfway through the answer.
    """
    response: Any = client.raw_stream(query, settings=dict(settings), fmt=_FORMAT)
    answer = _Answer(response)
    try:
        reader = pa.ipc.open_stream(pa.PythonFile(answer, mode="r"))
        yield reader.schema, _batches(reader, answer)
    except (pa.ArrowException, HTTPError, OSError) as error:
        if failure := answer.failure():
            raise failure from error
        raise
    finally:
        response.close()


def _batches(reader: pa.RecordBatchReader, answer: _Answer) -> Iterator[pa.RecordBatch]:
    yield from reader
    # A failing server may close its Arrow stream properly before it says that it failed.
    if failure := answer.failure():
        raise failure


class _Answer(io.RawIOBase):
    """The answer's bytes, of which the last are remembered."""

    def __init__(self, response: Any) -> None:
        self._response = response
        tag = response.headers.get("X-ClickHouse-Exception-Tag", "")
        self._mark = _FAILURE_MARK + tag.encode()
        self._last = b""

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        piece: bytes = self._response.read(size if size >= 0 else None)
        self._remember(piece)
        return piece

    def failure(self) -> DatabaseError | None:
        """Return why the answer is not whole, if it is not."""
        broken: Exception | None = None
        try:
            # Whatever came, since a whole piece may never come.
            while piece := self._response.read1(_FAILURE_BYTES):
                self._remember(piece)
        except (HTTPError, OSError) as error:
            broken = error
        _, mark, text = self._last.rpartition(self._mark)
        if not mark:
            return DatabaseError(f"the answer broke off: {broken}") if broken else None
        message = text.decode(errors="replace").strip()
        digits = message.removeprefix("Code: ").split(".", 1)[0]
        return DatabaseError(message, code=int(digits) if digits.isdigit() else None)

    def _remember(self, piece: bytes) -> None:
        self._last = (self._last + piece[-_FAILURE_BYTES:])[-_FAILURE_BYTES:]
