"""Writing through the embedded server with ordinary clients."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import httpx
import lz4.frame
import pandas as pd
import pyarrow as pa
import pytest
import zstandard
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import DatabaseError

if TYPE_CHECKING:
    from embedded_server import EmbeddedServer

NUMBERS = list(range(1000))


@pytest.fixture
def numbers(client: Client, table: str) -> str:
    """A table of two columns that remembers the tokens of its last inserts."""
    client.command(
        f"CREATE TABLE {table} (n UInt64, text String DEFAULT 'none') ENGINE = MergeTree "
        "ORDER BY n SETTINGS non_replicated_deduplication_window = 100"
    )
    return table


def total(client: Client, table: str) -> tuple[int, int]:
    """Count and sum the first column."""
    rows = client.query(f"SELECT count(), sum(n) FROM {table}").result_rows
    return rows[0][0], rows[0][1]


@pytest.mark.parametrize("compress", [False, "lz4", "zstd", "gzip"])
def test_insert_writes_every_row(server: EmbeddedServer, numbers: str, compress: Any) -> None:
    with server.client(compress=compress) as client:
        written = client.insert(numbers, [[n, str(n)] for n in NUMBERS]).written_rows
        assert written == len(NUMBERS)
        assert total(client, numbers) == (len(NUMBERS), sum(NUMBERS))


def test_insert_of_several_blocks_arrives_whole(client: Client, numbers: str) -> None:
    frame = pd.DataFrame({"n": range(600_000), "text": "row"})
    assert client.insert_df(numbers, frame).written_rows == 600_000
    assert total(client, numbers) == (600_000, sum(range(600_000)))


def test_insert_arrow_writes_every_row(client: Client, numbers: str) -> None:
    client.insert_arrow(numbers, pa.table({"n": NUMBERS, "text": ["x"] * len(NUMBERS)}))
    assert total(client, numbers) == (len(NUMBERS), sum(NUMBERS))


@pytest.mark.parametrize(
    ("format_name", "rows"),
    [
        ("CSV", b"1,a\n2,b\n"),
        ("TabSeparated", b"1\ta\n2\tb\n"),
        ("JSONEachRow", b'{"n":1,"text":"a"}\n{"n":2,"text":"b"}\n'),
        ("Values", b"(1,'a'),(1+1,'b; c')"),
        ("RowBinary", b"\x01" + bytes(7) + b"\x01a" + b"\x02" + bytes(7) + b"\x01\n"),
    ],
)
def test_raw_insert_takes_any_format(
    client: Client, numbers: str, format_name: str, rows: bytes
) -> None:
    client.raw_insert(numbers, ["n", "text"], insert_block=rows, fmt=format_name)
    # As a stream the statement travels apart from its rows.
    client.raw_insert(
        numbers,
        ["n", "text"],
        insert_block=iter([rows]),
        fmt=format_name,
        settings={"insert_deduplication_token": "again"},
    )
    assert total(client, numbers) == (4, 6)


@pytest.mark.parametrize(
    ("encoding", "compress"),
    [
        ("lz4", lz4.frame.compress),
        ("zstd", zstandard.compress),
        ("gzip", gzip.compress),
        ("deflate", zlib.compress),
    ],
)
def test_bodies_of_several_frames_are_read_to_the_end(
    server: EmbeddedServer, client: Client, numbers: str, encoding: str, compress: Any
) -> None:
    frames = [compress(f"{n}\n".encode()) for n in NUMBERS]

    def body() -> Iterator[bytes]:
        joined = b"".join(frames)
        for start in range(0, len(joined), 777):
            yield joined[start : start + 777]

    response = httpx.post(
        server.url,
        params={"query": f"INSERT INTO {numbers} (n) FORMAT TSV"},
        headers={"Content-Encoding": encoding},
        content=body(),
    )
    assert response.status_code == 200, response.text
    assert total(client, numbers) == (len(NUMBERS), sum(NUMBERS))


@pytest.mark.parametrize("body", [lz4.frame.compress(b"1\n")[:-6], b"no frame at all"])
def test_broken_compression_is_an_error_and_writes_nothing(
    server: EmbeddedServer, client: Client, numbers: str, body: bytes
) -> None:
    response = httpx.post(
        server.url,
        params={"query": f"INSERT INTO {numbers} (n) FORMAT TSV"},
        headers={"Content-Encoding": "lz4"},
        content=body,
    )
    assert response.headers["X-ClickHouse-Exception-Code"] == "271"
    assert total(client, numbers) == (0, 0)


def test_unknown_compression_is_refused(server: EmbeddedServer) -> None:
    response = httpx.post(server.url, content=b"?", headers={"Content-Encoding": "rot13"})
    assert response.headers["X-ClickHouse-Exception-Code"] == "89"


def test_values_and_select_inserts_run_as_commands(client: Client, numbers: str) -> None:
    assert client.command(f"INSERT INTO {numbers} VALUES (1, 'a;b'), (2, 'c')").written_rows == 2
    client.command(f"INSERT INTO {numbers} (n) SELECT number FROM numbers(10)")
    client.command(f"INSERT INTO {numbers} (n) VALUES ({{n:UInt64}})", parameters={"n": 100})
    assert total(client, numbers) == (13, 148)


def test_input_function_reads_the_rows_behind_the_statement(
    server: EmbeddedServer, client: Client, numbers: str
) -> None:
    response = server.post(
        f"INSERT INTO {numbers} SELECT a * 10, b FROM input('a UInt64, b String') WHERE a != 3 "
        "FORMAT CSV\n1,x\n2,y;\n3,z\n"
    )
    assert response.status_code == 200, response.text
    assert client.query(f"SELECT * FROM {numbers}").result_rows == [(10, "x"), (20, "y;")]


def test_nothing_runs_behind_the_rows(server: EmbeddedServer, client: Client, numbers: str) -> None:
    server.post(f"INSERT INTO {numbers} (n) VALUES (1); DROP TABLE {numbers}")
    server.post(f"INSERT INTO {numbers} (n) SELECT 2; DROP TABLE {numbers}")
    assert total(client, numbers) == (1, 1)


def test_insert_obeys_the_settings_of_its_request(client: Client, numbers: str) -> None:
    client.raw_insert(
        numbers,
        insert_block="7;seven\n",
        fmt="CSV",
        settings={"format_csv_delimiter": ";"},
    )
    assert client.query(f"SELECT n, text FROM {numbers}").result_rows == [(7, "seven")]


def test_same_token_is_written_once(client: Client, numbers: str) -> None:
    for _ in range(3):
        client.insert(numbers, [[1, "a"]], settings={"insert_deduplication_token": "batch-1"})
    client.insert(numbers, [[1, "a"]], settings={"insert_deduplication_token": "batch-2"})
    assert total(client, numbers) == (2, 2)


def test_same_token_over_many_blocks_is_written_once(
    server: EmbeddedServer, client: Client, numbers: str
) -> None:
    rows = server.post("SELECT number AS n FROM numbers(2500000) FORMAT Native").content
    for piece_bytes in (1 << 20, 3_333_333):
        pieces = (rows[at : at + piece_bytes] for at in range(0, len(rows), piece_bytes))
        client.raw_insert(
            numbers,
            ["n"],
            insert_block=pieces,
            fmt="Native",
            settings={"insert_deduplication_token": "long"},
        )
    assert total(client, numbers) == (2_500_000, sum(range(2_500_000)))


def test_bad_rows_are_an_error_with_a_code(client: Client, numbers: str) -> None:
    with pytest.raises(DatabaseError) as raised:
        client.raw_insert(numbers, ["n"], insert_block="1\nnot a number\n", fmt="TSV")
    assert raised.value.code == 27
    assert total(client, numbers) == (0, 0)


def test_long_insert_into_nowhere_is_an_error_too(client: Client) -> None:
    with pytest.raises(DatabaseError, match="no_such_table"):
        client.raw_insert(
            "no_such_table", ["n"], insert_block=(b"1\n" * 100_000 for _ in range(500)), fmt="TSV"
        )
    assert client.command("SELECT 1") == 1


def test_insert_into_nowhere_names_the_table(client: Client) -> None:
    with pytest.raises(DatabaseError, match="no_such_table"):
        client.raw_insert("no_such_table", ["n"], insert_block="1\n", fmt="TSV")


def test_insert_that_breaks_off_is_not_committed(
    server: EmbeddedServer, client: Client, numbers: str
) -> None:
    def body() -> Iterator[bytes]:
        yield b"1\n2\n"
        raise ConnectionAbortedError

    with pytest.raises(ConnectionAbortedError):
        httpx.post(
            server.url, params={"query": f"INSERT INTO {numbers} (n) FORMAT TSV"}, content=body()
        )
    client.raw_insert(numbers, ["n"], insert_block="5\n", fmt="TSV")
    assert total(client, numbers) == (1, 5)


def test_empty_insert_is_no_error(server: EmbeddedServer, client: Client, numbers: str) -> None:
    response = server.post(f"INSERT INTO {numbers} FORMAT Native\n")
    assert response.status_code == 200, response.text
    assert total(client, numbers) == (0, 0)


@pytest.mark.parametrize("quoting", ["{}", "`{}`", "default.`{}`"])
def test_rows_for_a_table_with_a_constraint_are_refused_rather_than_lost(
    client: Client, table: str, quoting: str
) -> None:
    client.command(
        f"CREATE TABLE {table} (n Int64, CONSTRAINT positive CHECK n > 0) ENGINE = MergeTree "
        "ORDER BY n"
    )
    target = quoting.format(table)
    with pytest.raises(DatabaseError, match="Expected a table without CONSTRAINT"):
        client.command(f"INSERT INTO {target} VALUES (1)")
    with pytest.raises(DatabaseError, match="Constraint `positive`"):
        client.command(f"INSERT INTO {target} SELECT -1")
    client.command(f"INSERT INTO TABLE {target} SELECT 1")
    assert total(client, target) == (1, 1)
