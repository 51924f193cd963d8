"""Reading through the embedded server with ordinary clients."""

from __future__ import annotations

import datetime as dt
import decimal
import uuid
from typing import TYPE_CHECKING, Any

import httpx
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import DatabaseError, StreamFailureError
from clickhouse_connect.driver.external import ExternalData

if TYPE_CHECKING:
    from embedded_server import EmbeddedServer

ROWS = "SELECT number, toString(number) AS text FROM numbers(1000)"


def test_ping_answers_ok(server: EmbeddedServer) -> None:
    response = httpx.get(server.url + "ping")
    assert (response.status_code, response.text) == (200, "Ok.\n")


def test_client_learns_version_and_utc(client: Client) -> None:
    assert client.server_version.split(".")[0].isdigit()
    assert str(client.server_tz) == "UTC"


def test_query_returns_rows_in_order(client: Client) -> None:
    assert client.query(ROWS).result_rows == [(n, str(n)) for n in range(1000)]


def test_query_of_no_rows_returns_none_of_them(client: Client) -> None:
    assert client.query(ROWS + " LIMIT 0").column_names == ("number", "text")
    assert client.query("SELECT number FROM numbers(3) WHERE number > 5").result_rows == []


def test_query_df_and_np_agree_with_the_rows(client: Client) -> None:
    frame = client.query_df(ROWS)
    assert frame["number"].tolist() == list(range(1000))
    array = client.query_np("SELECT number FROM numbers(1000)")
    np.testing.assert_array_equal(array.ravel(), np.arange(1000))


def test_query_arrow_returns_every_row(client: Client) -> None:
    answer = client.query_arrow(ROWS, use_strings=True)
    assert answer.column("number").to_pylist() == list(range(1000))
    assert answer.schema.field("text").type == pa.string()


def test_streams_deliver_all_rows_in_blocks(client: Client) -> None:
    sql = "SELECT number FROM numbers(300000)"
    with client.query_row_block_stream(sql) as blocks:
        rows = [row[0] for block in blocks for row in block]
    with client.query_df_stream(sql) as frames:
        from_frames = [n for frame in frames for n in frame["number"].tolist()]
    with client.query_arrow_stream(sql) as batches:
        from_arrow = [n for batch in batches for n in batch.column("number").to_pylist()]
    expected = list(range(300_000))
    assert rows == expected
    assert from_frames == expected
    assert from_arrow == expected


@pytest.mark.parametrize("compress", [False, "lz4", "zstd", "gzip", "deflate"])
def test_result_is_the_same_in_every_encoding(server: EmbeddedServer, compress: Any) -> None:
    with server.client(compress=compress) as client:
        rows = client.query("SELECT number FROM numbers(500000)").result_columns[0]
        assert client.query("SELECT 'short'").result_rows == [("short",)]
    assert list(rows) == list(range(500_000))


@pytest.mark.parametrize("format_name", ["JSON", "CSVWithNames", "Parquet", "ArrowStream"])
def test_formats_with_a_frame_are_whole_however_large(
    server: EmbeddedServer, format_name: str
) -> None:
    response = server.post(f"SELECT number AS n FROM numbers(200000) FORMAT {format_name}")
    assert response.headers["X-ClickHouse-Format"] == format_name
    if format_name == "JSON":
        numbers = [int(row["n"]) for row in response.json()["data"]]
    elif format_name == "CSVWithNames":
        numbers = [int(line) for line in response.text.splitlines()[1:]]
    elif format_name == "Parquet":
        numbers = pq.read_table(pa.BufferReader(response.content))["n"].to_pylist()
    else:
        numbers = pa.ipc.open_stream(response.content).read_all()["n"].to_pylist()
    assert numbers == list(range(200_000))


def test_default_format_is_tab_separated_unless_asked(server: EmbeddedServer) -> None:
    assert server.post("SELECT 1, 2").text == "1\t2\n"
    assert server.post("SELECT 1, 2", default_format="CSV").text == "1,2\n"
    by_header = httpx.post(
        server.url, content="SELECT 1, 2", headers={"X-ClickHouse-Format": "CSV"}
    )
    assert by_header.text == "1,2\n"


def test_types_survive_the_way_there_and_back(client: Client, table: str) -> None:
    client.command(
        f"""CREATE TABLE {table} (
            at DateTime64(6, 'UTC'), maybe Nullable(Float64), side LowCardinality(String),
            levels Array(Decimal(18, 4)), kind Enum8('bid' = 1, 'ask' = 2), id UUID,
            price Decimal(38, 10), live Bool, big Int128, day Date,
            low LowCardinality(Nullable(String))
        ) ENGINE = MergeTree ORDER BY at"""
    )
    row = (
        dt.datetime(2024, 2, 29, 23, 59, 59, 123456),
        None,
        "buy",
        [decimal.Decimal("1.5000"), decimal.Decimal("-2.2500")],
        "ask",
        uuid.UUID("12345678-1234-5678-1234-567812345678"),
        decimal.Decimal("123456789.0123456789"),
        True,
        -(2**100),
        dt.date(2024, 2, 29),
        None,
    )
    client.insert(table, [row])
    assert client.query(f"SELECT * FROM {table}").result_rows == [row]
    arrow = client.query_arrow(f"SELECT at, maybe, side FROM {table}").to_pylist()[0]
    assert (arrow["at"].replace(tzinfo=None), arrow["maybe"]) == row[:2]


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("String", "it's a \\ back\tslash\nand 'quotes' — ü"),
        ("Int64", -9_007_199_254_740_993),
        ("Array(String)", ["a'b", "c\\d", ""]),
        ("Nullable(Float64)", None),
        ("DateTime64(6)", dt.datetime(2024, 1, 2, 3, 4, 5, 678901)),
    ],
)
def test_parameters_arrive_as_they_were_given(client: Client, kind: str, value: Any) -> None:
    answer = client.query(f"SELECT {{value:{kind}}}", parameters={"value": value})
    assert answer.result_rows == [(value,)]


def test_setting_holds_for_one_query_only(client: Client) -> None:
    ask = "SELECT getSetting('max_threads'), getSetting('join_use_nulls')"
    before = client.query(ask).result_rows
    changed = client.query(ask, settings={"max_threads": 1, "join_use_nulls": 1}).result_rows
    assert changed == [(1, True)]
    assert client.query(ask).result_rows == before


def test_join_use_nulls_is_as_the_client_asks(client: Client) -> None:
    sql = "SELECT b FROM (SELECT 1 AS a) l LEFT JOIN (SELECT 2 AS a, 7 AS b) r USING a"
    assert client.query(sql).result_rows == [(0,)]
    assert client.query(sql, settings={"join_use_nulls": 1}).result_rows == [(None,)]


def test_session_time_zone_is_told_to_the_client(server: EmbeddedServer) -> None:
    assert server.post("SELECT timezone()").headers["X-ClickHouse-Timezone"] == "UTC"
    moved = server.post("SELECT timezone()", session_timezone="Asia/Tokyo")
    assert (moved.text, moved.headers["X-ClickHouse-Timezone"]) == ("Asia/Tokyo\n", "Asia/Tokyo")


def test_summary_and_query_id_come_with_the_answer(client: Client) -> None:
    answer = client.query("SELECT number FROM numbers(7)", settings={"query_id": "mine"})
    assert answer.query_id == "mine"
    assert answer.summary["read_rows"] == "7"


def test_external_data_can_be_joined(client: Client) -> None:
    external = ExternalData(
        file_name="bars.csv", fmt="CSV", structure="n UInt64, s String", data=b"1,a\r\n3,c\r\n"
    )
    external.add_file(file_name="more", fmt="TSV", types="UInt8,String", data=b"9\tz\n")
    sql = "SELECT n, s FROM numbers(5) x JOIN bars ON n = number UNION ALL SELECT * FROM more"
    rows = client.query(sql, external_data=external).result_rows
    assert sorted(rows) == [(1, "a"), (3, "c"), (9, "z")]
    with pytest.raises(DatabaseError, match="UNKNOWN_TABLE"):
        client.query("SELECT * FROM bars")


def test_form_encoded_parameters_are_read(server: EmbeddedServer) -> None:
    with server.client(form_encode_query_params=True) as client:
        answer = client.query("SELECT {text:String}", parameters={"text": "x" * 20_000})
    assert answer.result_rows == [("x" * 20_000,)]


def test_session_keeps_temporary_tables_and_settings(server: EmbeddedServer) -> None:
    with server.client(session_id="analyst") as mine, server.client() as other:
        mine.command("CREATE TEMPORARY TABLE scratch (n UInt8)")
        mine.insert("scratch", [[1], [2]])
        mine.command("SET max_threads = 3")
        assert mine.command("SELECT sum(n) FROM scratch") == 3
        assert mine.command("SELECT getSetting('max_threads')", settings={"max_threads": 1}) == 1
        assert mine.command("SELECT getSetting('max_threads')") == 3
        with pytest.raises(DatabaseError, match="UNKNOWN_TABLE"):
            other.query("SELECT * FROM scratch")


def test_session_in_use_is_locked(server: EmbeddedServer) -> None:
    with httpx.stream(
        "POST",
        server.url,
        params={"session_id": "one"},
        content="SELECT number FROM system.numbers",
    ):
        assert (
            server.post("SELECT 1", session_id="one").headers["X-ClickHouse-Exception-Code"]
            == "373"
        )
    assert server.post("SELECT 1", session_id="never-seen", session_check=1).status_code == 404


def test_error_carries_code_name_and_status(server: EmbeddedServer, client: Client) -> None:
    with pytest.raises(DatabaseError) as raised:
        client.query("SELECT * FROM no_such_table")
    assert (raised.value.code, raised.value.name) == (60, "UNKNOWN_TABLE")
    response = server.post("SELECT * FROM no_such_table")
    assert response.status_code == 404
    assert response.headers["X-ClickHouse-Exception-Code"] == "60"
    assert response.text.startswith("Code: 60. DB::Exception: Unknown table")


@pytest.mark.parametrize(
    ("sql", "code"),
    [
        ("SELEC 1", 62),
        ("DROP TABLE x; GARBAGE", 62),
        ("SELECT 1; DROP TABLE x", 62),
        ("", 62),
        ("-- nothing", 62),
        ("SELECT 1 INTO OUTFILE '/tmp/somewhere'", 358),
        ("INSERT INTO t FROM INFILE '/tmp/somewhere' FORMAT CSV", 78),
        ("SELECT unknown_column", 47),
        ("SELECT 1 FORMAT NoSuchFormat", 73),
        ("SELECT toUInt8('x')", 6),
    ],
)
def test_refusals_have_the_codes_of_clickhouse(server: EmbeddedServer, sql: str, code: int) -> None:
    response = server.post(sql)
    assert response.headers["X-ClickHouse-Exception-Code"] == str(code)
    assert f"Code: {code}. DB::Exception" in response.text


@pytest.mark.parametrize("given", [{"default_format": "TSV; x"}, {"a b": "1"}, {"compress": "1"}])
def test_parameters_that_do_not_fit_are_refused(
    server: EmbeddedServer, given: dict[str, str]
) -> None:
    assert server.post("SELECT 1", **given).headers["X-ClickHouse-Exception-Code"] in ("408", "48")


def test_syntax_error_names_the_place(server: EmbeddedServer) -> None:
    answer = server.post("EXPLAIN SELEC 2").text
    assert answer.startswith("Code: 62. DB::Exception: Syntax error: failed at position 15 (2)")
    assert answer.endswith("(SYNTAX_ERROR)\n")
    assert "formatQuery" not in answer


def test_binary_statement_passes_as_it_is(server: EmbeddedServer) -> None:
    assert server.post(b"SELECT '\xff\x00' FORMAT RawBLOB").content == b"\xff\x00"
    in_url = httpx.get(server.url + "?query=SELECT+'%FF'+FORMAT+RawBLOB")
    assert in_url.content == b"\xff"
    assert httpx.get(server.url + "?query=SELECT+1&param_x=%FF").status_code == 400


def test_query_id_cannot_end_its_header(server: EmbeddedServer) -> None:
    response = server.post("SELECT 1", query_id="a\r\nX-Forged: yes")
    assert response.headers["X-ClickHouse-Query-Id"] == "a??X-Forged: yes"


def test_unknown_setting_is_an_error(server: EmbeddedServer) -> None:
    response = server.post("SELECT 1", no_such_setting=1)
    assert response.headers["X-ClickHouse-Exception-Code"] == "115"


@pytest.mark.parametrize("compress", [False, "lz4", "zstd"])
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_error_in_mid_stream_reaches_the_client(server: EmbeddedServer, compress: Any) -> None:
    sql = "SELECT number, throwIf(number = 3000000, 'too far') FROM numbers(5000000)"
    seen: list[int] = []

    def read() -> None:
        with (
            server.client(compress=compress) as client,
            client.query_column_block_stream(sql) as blocks,
        ):
            seen.extend(len(block[0]) for block in blocks)

    with pytest.raises(StreamFailureError, match="too far") as raised:
        read()
    assert raised.value.code == 395
    assert 0 < sum(seen) <= 3_000_000


def test_half_a_result_is_a_broken_response(server: EmbeddedServer) -> None:
    sql = "SELECT throwIf(number = 3000000) FROM numbers(5000000)"
    with pytest.raises(httpx.RemoteProtocolError):
        server.post(sql)


def test_waiting_for_the_end_turns_a_late_error_into_a_status(server: EmbeddedServer) -> None:
    sql = "SELECT throwIf(number = 3000000) FROM numbers(5000000)"
    assert server.post(sql, wait_end_of_query=1).headers["X-ClickHouse-Exception-Code"] == "395"


def test_get_reads_but_does_not_write(server: EmbeddedServer) -> None:
    assert httpx.get(server.url, params={"query": "SELECT 1"}).text == "1\n"
    refused = httpx.get(server.url, params={"query": "CREATE TABLE x (a Int8) ENGINE = Memory"})
    assert refused.headers["X-ClickHouse-Exception-Code"] == "164"


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://example.org"},
        {"Host": "rebound.example.org"},
        {"Sec-Fetch-Site": "cross-site"},
    ],
)
def test_web_pages_are_refused(server: EmbeddedServer, headers: dict[str, str]) -> None:
    response = httpx.post(server.url, content="SELECT 1", headers=headers)
    assert response.status_code == 403
