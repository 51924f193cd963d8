"""What the embedded server refuses to exceed, and what it stops."""

from __future__ import annotations

import multiprocessing
import threading
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from typing import TYPE_CHECKING

import clickhouse_connect
import httpx
import pytest
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import DatabaseError
from conftest import eventually

if TYPE_CHECKING:
    from conftest import EmbeddedServer, StartServer

ENDLESS = "SELECT sum(sipHash64(number)) FROM numbers(100000000000)"
SLOW = "SELECT sleepEachRow(0.5) FROM numbers(4) SETTINGS max_block_size = 1"
TOO_BIG = "SELECT count() FROM (SELECT number FROM numbers(100000000) GROUP BY number)"
NO_SPILLING = {
    "max_bytes_before_external_group_by": 0,
    "max_bytes_ratio_before_external_group_by": 0,
}


def write_and_read(port: int, worker: int) -> int:
    """Insert and query by turns, from a process of one's own."""
    client = clickhouse_connect.get_client(host="127.0.0.1", port=port)
    for batch in range(10):
        client.insert("shared", [[worker, batch * 100 + n] for n in range(100)], ["worker", "n"])
        client.query("SELECT worker, count() FROM shared GROUP BY worker")
    rows = client.query(f"SELECT count(), uniqExact(n) FROM shared WHERE worker = {worker}")
    client.close()
    return int(rows.result_rows[0][0])


def test_several_processes_read_and_write_at_once(server: EmbeddedServer, client: Client) -> None:
    client.command("CREATE TABLE shared (worker UInt8, n UInt64) ENGINE = MergeTree ORDER BY n")
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(3, mp_context=context) as pool:
        counts = list(pool.map(write_and_read, [server.port] * 3, range(3)))
    assert counts == [1000, 1000, 1000]
    client.command("DROP TABLE shared")


def test_queries_run_at_once_and_settings_do_not_mix(server: EmbeddedServer) -> None:
    def ask(threads: int) -> str:
        return server.post(
            "SELECT getSetting('max_threads') FROM numbers(3) WHERE sleepEachRow(0.05) = 0",
            max_threads=threads,
        ).text

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(ask, range(1, 17)))
    assert answers == [f"{n}\n" * 3 for n in range(1, 17)]


def test_query_over_its_memory_fails_and_others_go_on(start_server: StartServer) -> None:
    server = start_server("--server-memory-bytes", str(1 << 30))
    with ThreadPoolExecutor(2) as pool:
        other = pool.submit(server.post, SLOW)
        refused = server.post(TOO_BIG, **NO_SPILLING)
        raised = server.post(TOO_BIG, max_memory_usage=0, **NO_SPILLING)
        assert other.result().text == "0\n" * 4
    assert refused.headers["X-ClickHouse-Exception-Code"] == "241"
    assert raised.headers["X-ClickHouse-Exception-Code"] == "241"
    assert server.scalar("SELECT 1") == "1"


def test_memory_of_all_queries_together_is_bounded(start_server: StartServer) -> None:
    server = start_server(
        "--server-memory-bytes", str(800 << 20), "--query-memory-bytes", str(700 << 20)
    )
    sql = "SELECT count() FROM (SELECT number FROM numbers(12000000) GROUP BY number)"
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: server.post(sql, **NO_SPILLING), range(4)))
    codes = {answer.headers.get("X-ClickHouse-Exception-Code") for answer in answers}
    assert codes <= {None, "241"}
    assert "241" in codes
    assert server.scalar("SELECT 1") == "1"


def test_queue_overflow_is_too_many_simultaneous_queries(start_server: StartServer) -> None:
    server = start_server("--max-running", "2", "--max-waiting", "2")
    with ThreadPoolExecutor(4) as pool:
        busy = [pool.submit(server.post, SLOW) for _ in range(4)]
        assert eventually(lambda: server.post("SELECT 1").status_code == 503)
        refused = server.post("SELECT 1")
        assert all(answer.result().status_code == 200 for answer in busy)
    assert refused.headers["X-ClickHouse-Exception-Code"] == "202"
    assert "Too many simultaneous queries" in refused.text
    assert server.scalar("SELECT 1") == "1"


def test_wait_in_the_queue_is_bounded(start_server: StartServer) -> None:
    server = start_server("--max-running", "1", "--max-wait-seconds", "0.2")
    with ThreadPoolExecutor(1) as pool:
        busy = pool.submit(server.post, SLOW)
        time.sleep(0.5)
        refused = server.post("SELECT 1")
        assert busy.result().status_code == 200
    assert refused.headers["X-ClickHouse-Exception-Code"] == "202"


def disconnect_from(server: EmbeddedServer, sql: str) -> None:
    """Send a statement and go away before it is answered."""
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(server.url, content=sql, timeout=0.7)


def test_disconnect_cancels_a_silent_query(server: EmbeddedServer) -> None:
    disconnect_from(server, ENDLESS)
    assert eventually(lambda: server.running("sipHash64") == 0)


def test_disconnect_cancels_a_stream(server: EmbeddedServer) -> None:
    sql = "SELECT number AS streamed FROM system.numbers FORMAT TSV"
    with httpx.stream("POST", server.url, content=sql) as response:
        next(response.iter_bytes())
        assert server.running("streamed") == 1
    assert eventually(lambda: server.running("streamed") == 0)


def test_disconnect_frees_a_place_in_the_queue(start_server: StartServer) -> None:
    server = start_server("--max-running", "1", "--max-waiting", "1")
    with ThreadPoolExecutor(1) as pool:
        busy = pool.submit(server.post, SLOW)
        assert eventually(lambda: not busy.running() or not busy.done())
        time.sleep(0.3)
        disconnect_from(server, "SELECT 'waiting'")
        assert server.post("SELECT 'next'").text == "next\n"
        assert busy.result().status_code == 200


def test_disconnect_does_not_undo_a_change(server: EmbeddedServer, table: str) -> None:
    server.post(f"CREATE TABLE {table} (n UInt64) ENGINE = MergeTree ORDER BY n")
    disconnect_from(
        server,
        f"INSERT INTO {table} SELECT number FROM numbers(3) WHERE sleepEachRow(0.5) = 0 "
        "SETTINGS max_block_size = 1",
    )
    assert eventually(lambda: server.scalar(f"SELECT count() FROM {table}") == "3")


def test_kill_query_takes_the_id_that_the_client_gave(server: EmbeddedServer) -> None:
    with ThreadPoolExecutor(1) as pool:
        victim = pool.submit(server.post, ENDLESS, query_id="victim")
        assert eventually(lambda: server.running("sipHash64") == 1)
        again = server.post("SELECT 1", query_id="victim")
        assert again.headers["X-ClickHouse-Exception-Code"] == "216"
        server.post("KILL QUERY WHERE query_id = 'victim' SYNC")
        assert victim.result().headers["X-ClickHouse-Exception-Code"] == "394"


def test_kill_query_needs_no_free_place(start_server: StartServer) -> None:
    server = start_server("--max-running", "1")
    with ThreadPoolExecutor(1) as pool:
        victim = pool.submit(server.post, ENDLESS, query_id="victim")
        assert eventually(
            lambda: "sipHash64" in server.post("KILL QUERY WHERE query_id = 'victim'").text
        )
        assert victim.result().headers["X-ClickHouse-Exception-Code"] == "394"


def test_results_stream_in_bounded_memory(start_server: StartServer) -> None:
    server = start_server()
    sql = "SELECT number, number + 1 FROM numbers(40000000) FORMAT RowBinary"
    server.post("SELECT number, number + 1 FROM numbers(1000000) FORMAT RowBinary")
    before = server.memory_bytes()
    received, peak = 0, 0
    with httpx.stream("POST", server.url, content=sql, timeout=60) as response:
        for number, piece in enumerate(response.iter_raw()):
            received += len(piece)
            if number % 50 == 0:
                peak = max(peak, server.memory_bytes())
    assert received == 40_000_000 * 16
    assert peak - before < 150 << 20


def test_slow_reader_stops_the_engine_from_running_ahead(server: EmbeddedServer) -> None:
    def read_rows() -> int:
        return int(server.scalar("SELECT max(read_rows) FROM system.processes"))

    sql = "SELECT number AS lagging FROM system.numbers FORMAT RowBinary"
    with httpx.stream("POST", server.url, content=sql) as response:
        next(response.iter_raw())
        time.sleep(0.5)
        first = read_rows()
        time.sleep(0.5)
        assert read_rows() == first


def test_event_loop_answers_while_all_workers_are_busy(server: EmbeddedServer) -> None:
    stop = threading.Event()

    def load() -> None:
        while not stop.is_set():
            server.post("SELECT number FROM numbers(3000000)", wait_end_of_query=1)

    with ThreadPoolExecutor(4) as pool:
        loads = [pool.submit(load) for _ in range(4)]
        waits = []
        for _ in range(20):
            began = time.perf_counter()
            assert httpx.get(server.url + "ping").text == "Ok.\n"
            waits.append(time.perf_counter() - began)
        stop.set()
        for each in loads:
            each.result()
    assert sorted(waits)[len(waits) // 2] < 0.5


def test_client_error_is_raised_by_the_client_library(start_server: StartServer) -> None:
    server = start_server("--max-running", "1", "--max-waiting", "0")
    client = server.client(query_retries=0)
    with ThreadPoolExecutor(1) as pool:
        busy = pool.submit(server.post, SLOW)
        time.sleep(0.5)
        with pytest.raises(DatabaseError) as raised:
            client.query("SELECT 1")
        assert busy.result().status_code == 200
    client.close()
    assert (raised.value.code, raised.value.name) == (202, "TOO_MANY_SIMULTANEOUS_QUERIES")
