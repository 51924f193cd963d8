"""How the embedded server starts, stops, and survives being killed."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
from clickhouse_connect.driver.client import Client
from embedded_server import eventually

if TYPE_CHECKING:
    from pathlib import Path

    from embedded_server import EmbeddedServer, StartServer


def start_and_fail(*arguments: str) -> tuple[int, str]:
    """Run the server where it cannot start; return its exit code and what it said."""
    command = [sys.executable, "-m", "atlas.clickhouse", *arguments]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    return ended.returncode, ended.stdout + ended.stderr


def test_start_says_one_line(server: EmbeddedServer) -> None:
    assert len(server.log().splitlines()) == 1
    assert server.ready["host"] == "127.0.0.1"


def test_start_takes_little_work(start_server: StartServer) -> None:
    assert start_server().cpu_seconds() < 3


def test_server_zone_is_utc_wherever_the_machine_is(
    start_server: StartServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", "America/New_York")
    server = start_server()
    assert server.scalar("SELECT timezone(), serverTimezone()") == "UTC\tUTC"


def test_second_owner_is_told_in_one_sentence(start_server: StartServer) -> None:
    server = start_server()
    code, said = start_and_fail("--path", str(server.path), "--port", "0")
    assert code == 1
    assert len(said.splitlines()) == 1
    assert "another process has it open" in said


def test_taken_port_names_the_setting(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        code, said = start_and_fail("--path", str(tmp_path / "data"), "--port", port)
    assert code == 1
    assert len(said.splitlines()) == 1
    assert "ATLAS_CLICKHOUSE_PORT" in said


def test_only_the_loopback_is_served(tmp_path: Path) -> None:
    arguments = ["--path", str(tmp_path / "data"), "--port", "0", "--host", "0.0.0.0"]
    code, said = start_and_fail(*arguments)
    assert code == 1
    assert "loopback" in said


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_ends_it_cleanly_and_data_stay(
    start_server: StartServer, number: signal.Signals
) -> None:
    server = start_server(name="a folder")
    server.post("CREATE TABLE kept (n UInt64) ENGINE = MergeTree ORDER BY n")
    server.post("INSERT INTO kept VALUES (1), (2)")
    assert server.stop(number) == 0
    server.start()
    assert server.scalar("SELECT sum(n) FROM kept") == "3"


def test_signal_ends_running_queries(start_server: StartServer) -> None:
    server = start_server()
    with ThreadPoolExecutor(2) as pool:
        pool.submit(server.post, "SELECT sum(sipHash64(number)) FROM numbers(100000000000)")
        pool.submit(server.post, "SELECT number FROM system.numbers")
        assert eventually(lambda: server.running("number") == 2)
        began = time.monotonic()
        assert server.stop() == 0
    assert time.monotonic() - began < 15


def insert_until_it_dies(client: Client, worker: int, acknowledged: list[int]) -> None:
    """Insert block after block; note each that the server has confirmed."""
    block = worker * 1_000_000
    try:
        while True:
            client.insert("ledger", [[block, n] for n in range(200)], ["block", "n"])
            acknowledged.append(block)
            block += 1
    except Exception:
        # The server was killed in the middle of this one: it may or may not be there.
        return


def test_kill_while_inserting_loses_no_acknowledged_block(start_server: StartServer) -> None:
    server = start_server()
    server.post(
        "CREATE TABLE ledger (block UInt64, n UInt64) ENGINE = MergeTree ORDER BY (block, n)"
    )
    acknowledged: list[int] = []
    rounds = 0
    for round_number in range(2):
        before = len(acknowledged)
        clients = [server.client() for _ in range(3)]
        writers = [
            threading.Thread(
                target=insert_until_it_dies,
                args=(client, 10 * round_number + worker, acknowledged),
            )
            for worker, client in enumerate(clients)
        ]
        for writer in writers:
            writer.start()
        assert eventually(lambda n=before: len(acknowledged) > n + 40, 30)
        server.stop(signal.SIGKILL)
        for writer in writers:
            writer.join()
        for client in clients:
            client.close()
        server.start()
        rounds += 1
    counts: dict[int, Any] = {}
    with server.client() as client:
        for block, rows in client.query(
            "SELECT block, count() FROM ledger GROUP BY block"
        ).result_rows:
            counts[block] = rows
    assert rounds == 2
    assert {block: counts.get(block) for block in acknowledged} == dict.fromkeys(acknowledged, 200)
    assert set(counts.values()) == {200}
