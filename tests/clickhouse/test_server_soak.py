"""The embedded server under clients that come, go, fail and break off at random."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest
from embedded_server import eventually

if TYPE_CHECKING:
    from embedded_server import EmbeddedServer, StartServer

CLIENTS = 12
STEPS = 40


def open_pipes(server: EmbeddedServer) -> int:
    """Count the pipes and sockets that the server's process holds."""
    count = 0
    for each in Path(f"/proc/{server.process.pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            count += str(each.readlink()).startswith(("pipe:", "socket:"))
    return count


def break_off(server: EmbeddedServer, chance: random.Random) -> None:
    """Take a few pieces of an endless result and close the connection."""
    with httpx.stream("POST", server.url, content="SELECT number FROM system.numbers") as response:
        pieces = response.iter_raw()
        for _ in range(chance.randrange(3)):
            next(pieces)


def go_away(server: EmbeddedServer, chance: random.Random) -> None:
    """Close the connection before there is anything to read."""
    sql = "SELECT sum(sipHash64(number)) FROM numbers(100000000000)"
    with contextlib.suppress(httpx.ReadTimeout):
        httpx.post(server.url, content=sql, timeout=chance.random() * 0.2 + 0.001)


def break_insert(server: EmbeddedServer, chance: random.Random) -> None:
    """Stop in the middle of an INSERT."""

    def rows() -> Iterator[bytes]:
        for _ in range(chance.randrange(4)):
            yield b"1\n" * 200_000
        raise ConnectionAbortedError

    with contextlib.suppress(ConnectionAbortedError):
        parameters = {"query": "INSERT INTO FUNCTION null('n UInt8') FORMAT TSV"}
        httpx.post(server.url, params=parameters, content=rows())


def fail(server: EmbeddedServer, chance: random.Random) -> None:
    """Send a statement that fails halfway, or at once."""
    at = chance.choice([0, 100, 3_000_000])
    with contextlib.suppress(httpx.RemoteProtocolError):
        server.post(f"SELECT throwIf(number = {at}) FROM numbers(4000000)")


def keep_state(server: EmbeddedServer, chance: random.Random) -> None:
    """Leave a session with a temporary table behind."""
    session = f"s{chance.randrange(10)}"
    server.post(
        "CREATE TEMPORARY TABLE IF NOT EXISTS x (n UInt8)", session_id=session, session_timeout=1
    )


@pytest.mark.slow
def test_nothing_is_left_behind_by_clients_that_break_off(start_server: StartServer) -> None:
    server = start_server("--max-running", "6")
    server.post("SELECT 1")
    before = open_pipes(server)

    def misbehave(seed: int) -> int:
        chance = random.Random(seed)
        for _ in range(STEPS):
            chance.choice([break_off, go_away, break_insert, fail, keep_state])(server, chance)
        return STEPS

    with ThreadPoolExecutor(CLIENTS) as pool:
        assert list(pool.map(misbehave, range(CLIENTS))) == [STEPS] * CLIENTS
    # Only the one that counts is left.
    assert eventually(lambda: server.scalar("SELECT count() FROM system.processes") == "1", 60)
    assert eventually(lambda: open_pipes(server) == before)
    answers = [server.post("SELECT sleep(0.01)").status_code for _ in range(20)]
    assert answers == [200] * 20
    assert len(server.log().splitlines()) == 1, server.log()
