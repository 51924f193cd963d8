"""What the embedded server refuses to exceed, and what it stops."""

from __future__ import annotations

import multiprocessing
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING

import clickhouse_connect
import httpx
import pytest
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import DatabaseError
from embedded_server import EmbeddedServer, eventually

if TYPE_CHECKING:
    from collections.abc import Callable

ENDLESS = "SELECT sum(sipHash64(number)) FROM numbers(100000000000)"
ONE = "SELECT count() FROM (SELECT number FROM numbers({rows}) GROUP BY number)"
NO_SPILLING = {
    "max_bytes_before_external_group_by": 0,
    "max_bytes_ratio_before_external_group_by": 0,
}


@pytest.fixture(scope="module")
def narrow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedServer]:
    """A server with one place to run, one to wait, and little memory."""
    embedded = EmbeddedServer(
        tmp_path_factory.mktemp("narrow") / "data",
        *("--max-running", "1", "--max-waiting", "1", "--max-wait-seconds", "1"),
        *("--max-idle-seconds", "1", "--server-memory-bytes", str(400 << 20)),
    )
    yield embedded
    assert embedded.stop() == 0, embedded.log()


@contextmanager
def occupied(server: EmbeddedServer) -> Iterator[Future[httpx.Response]]:
    """Keep a place taken until the end of the block, then kill what took it."""
    with ThreadPoolExecutor(1) as pool:
        victim = pool.submit(server.post, ENDLESS, query_id="victim")
        # A KILL needs no place. This one only looks: TEST kills nothing.
        look = "KILL QUERY WHERE query_id = 'victim' TEST"
        assert eventually(lambda: "sipHash64" in server.post(look).text)
        try:
            yield victim
        finally:
            server.post("KILL QUERY WHERE query_id = 'victim' SYNC")


def code(response: httpx.Response) -> str:
    """Return ClickHouse's number of the error, or nothing."""
    return response.headers.get("X-ClickHouse-Exception-Code", "")


def write_and_read(port: int, worker: int) -> int:
    """Insert and query by turns, from a process of one's own."""
    client = clickhouse_connect.get_client(host="127.0.0.1", port=port)
    for batch in range(10):
        client.insert("shared", [[worker, batch * 100 + n] for n in range(100)], ["worker", "n"])
        client.query("SELECT worker, count() FROM shared GROUP BY worker")
    rows = client.query(f"SELECT uniqExact(n) FROM shared WHERE worker = {worker}").result_rows
    client.close()
    return int(rows[0][0])


def test_several_processes_read_and_write_at_once(server: EmbeddedServer, client: Client) -> None:
    client.command("CREATE TABLE shared (worker UInt8, n UInt64) ENGINE = MergeTree ORDER BY n")
    context = multiprocessing.get_context("forkserver")
    with ProcessPoolExecutor(2, mp_context=context) as pool:
        counts = list(pool.map(write_and_read, [server.port] * 2, range(2)))
    client.command("DROP TABLE shared")
    assert counts == [1000, 1000]


def test_queries_run_at_once_and_settings_do_not_mix(server: EmbeddedServer) -> None:
    def ask(threads: int) -> str:
        sql = "SELECT getSetting('max_threads') FROM numbers(3) WHERE sleepEachRow(0.05) = 0"
        return server.post(sql, max_threads=threads).text

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(ask, range(1, 17)))
    assert answers == [f"{n}\n" * 3 for n in range(1, 17)]


@pytest.mark.parametrize("asked", [{}, {"max_memory_usage": 0}, {"max_memory_usage": 1 << 40}])
def test_query_over_its_memory_fails_and_others_go_on(
    narrow: EmbeddedServer, asked: dict[str, int]
) -> None:
    assert code(narrow.post(ONE.format(rows=20_000_000), **asked, **NO_SPILLING)) == "241"
    assert narrow.post(ONE.format(rows=1_000_000), **NO_SPILLING).text == "1000000\n"


def test_memory_of_all_queries_together_is_bounded(
    start_server: Callable[..., EmbeddedServer],
) -> None:
    server = start_server("--server-memory-bytes", str(300 << 20))
    # Some 64 MB each, held for a second.
    sql = "SELECT length(groupArray(number)) + sleep(1) FROM numbers(8000000)"
    assert server.post(sql).text == "8000000\n"
    with ThreadPoolExecutor(8) as pool:
        codes = {code(answer) for answer in pool.map(lambda _: server.post(sql), range(8))}
    assert codes <= {"", "241"}
    assert "241" in codes
    assert server.scalar("SELECT 1") == "1"


def test_queue_overflow_is_too_many_simultaneous_queries(narrow: EmbeddedServer) -> None:
    with occupied(narrow), ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(narrow.post, "SELECT 'waiting'")
        time.sleep(0.3)
        refused = narrow.post("SELECT 'refused'")
        assert (refused.status_code, code(refused)) == (503, "202")
        assert "1 are running and 1 are waiting" in refused.text
        assert "none of 1 ended within 1 s" in waiting.result().text
    assert narrow.scalar("SELECT 1") == "1"


def test_overflow_is_raised_by_the_client_library(narrow: EmbeddedServer) -> None:
    with (
        narrow.client(query_retries=0) as client,
        occupied(narrow),
        pytest.raises(DatabaseError) as raised,
    ):
        client.query("SELECT 1")
    assert (raised.value.code, raised.value.name) == (202, "TOO_MANY_SIMULTANEOUS_QUERIES")


def test_disconnect_frees_a_place_in_the_queue(narrow: EmbeddedServer) -> None:
    with occupied(narrow):
        disconnect_from(narrow, "SELECT 'gone'")
        assert "none of 1 ended" in narrow.post("SELECT 'waiting in its place'").text


def test_kill_query_takes_the_id_that_the_client_gave(narrow: EmbeddedServer) -> None:
    with occupied(narrow) as victim:
        assert code(narrow.post("SELECT 1", query_id="victim")) == "216"
    assert code(victim.result()) == "394"


def disconnect_from(server: EmbeddedServer, sql: str) -> None:
    """Send a statement and go away before it is answered."""
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(server.url, content=sql, timeout=0.5)


def test_disconnect_cancels_a_silent_query(server: EmbeddedServer) -> None:
    disconnect_from(server, ENDLESS)
    assert eventually(lambda: server.running("sipHash64") == 0)


def test_disconnect_cancels_a_stream(server: EmbeddedServer) -> None:
    sql = "SELECT number AS streamed FROM system.numbers FORMAT TSV"
    with httpx.stream("POST", server.url, content=sql) as response:
        pieces = response.iter_raw()
        next(pieces)
        assert server.running("streamed") == 1
    assert eventually(lambda: server.running("streamed") == 0)


def test_disconnect_does_not_undo_a_change(server: EmbeddedServer, table: str) -> None:
    server.post(f"CREATE TABLE {table} (n UInt64) ENGINE = MergeTree ORDER BY n")
    disconnect_from(
        server,
        f"INSERT INTO {table} SELECT number FROM numbers(3) WHERE sleepEachRow(0.3) = 0 "
        "SETTINGS max_block_size = 1",
    )
    assert eventually(lambda: server.scalar(f"SELECT count() FROM {table}") == "3")


def test_client_that_takes_nothing_loses_its_place(narrow: EmbeddedServer) -> None:
    with httpx.stream("POST", narrow.url, content="SELECT number FROM system.numbers") as response:
        pieces = response.iter_raw()
        next(pieces)
        assert eventually(lambda: narrow.post("SELECT 'free'").text == "free\n")


def test_client_that_sends_nothing_loses_its_place(narrow: EmbeddedServer) -> None:
    def stall() -> Iterator[bytes]:
        yield b"1\n" * 100_000
        time.sleep(2)

    response = httpx.post(
        narrow.url,
        params={"query": "INSERT INTO FUNCTION null('n UInt8') FORMAT TSV"},
        content=stall(),
    )
    assert code(response) == "209"
    assert narrow.scalar("SELECT 1") == "1"


def test_results_stream_in_bounded_memory(server: EmbeddedServer) -> None:
    server.post("SELECT number, number + 1 FROM numbers(1000000) FORMAT RowBinary")
    before = server.memory_bytes()
    sql = "SELECT number, number + 1 FROM numbers(20000000) FORMAT RowBinary"
    received, memory = 0, [before]
    with httpx.stream("POST", server.url, content=sql, timeout=60) as response:
        for number, piece in enumerate(response.iter_raw()):
            received += len(piece)
            if number % 100 == 0:
                memory.append(server.memory_bytes())
    assert received == 20_000_000 * 16
    assert max(memory) - before < 100 << 20


def test_slow_reader_stops_the_engine_from_running_ahead(server: EmbeddedServer) -> None:
    def read_rows() -> int:
        listed = server.scalar("SELECT read_rows, query FROM system.processes")
        return next(int(line.split("\t")[0]) for line in listed.splitlines() if "lagging" in line)

    sql = "SELECT number AS lagging FROM system.numbers FORMAT RowBinary"
    with httpx.stream("POST", server.url, content=sql) as response:
        pieces = response.iter_raw()
        next(pieces)
        time.sleep(0.5)
        first = read_rows()
        time.sleep(0.5)
        assert 0 < first == read_rows()


def test_ping_is_answered_while_every_worker_is_busy(server: EmbeddedServer) -> None:
    stop = threading.Event()

    def load() -> None:
        while not stop.is_set():
            server.post("SELECT number FROM numbers(1000000)", wait_end_of_query=1)

    waits = []
    with ThreadPoolExecutor(3) as pool:
        loads = [pool.submit(load) for _ in range(3)]
        for _ in range(10):
            began = time.perf_counter()
            assert httpx.get(server.url + "ping").text == "Ok.\n"
            waits.append(time.perf_counter() - began)
        stop.set()
        assert [each.result() for each in loads] == [None] * 3
    assert sorted(waits)[5] < 0.5
