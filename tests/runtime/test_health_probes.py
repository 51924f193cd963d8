"""Each probe tells a healthy component from one that is away, wrong, or not ready yet."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from atlas.runtime import ConnectedProbe, HttpProbe, RedisProbe, TcpProbe
from atlas.runtime.health import PrefectWorkerProbe


@contextmanager
def web_server(status: int, body: str) -> Iterator[int]:
    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body.encode())

        do_POST = do_GET  # noqa: N815

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Page) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


@contextmanager
def line_server(answer: bytes) -> Iterator[int]:
    """Answer every connection with one line, as Redis does while it loads."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(64)
                connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        yield server.getsockname()[1]
        thread.join()


def test_a_listening_port_is_healthy_and_a_closed_one_is_not():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert TcpProbe("127.0.0.1", port)(None) is None
    assert TcpProbe("127.0.0.1", port)(None) == (
        f"127.0.0.1:{port} does not answer: connection refused"
    )


def test_a_page_must_answer_200_with_the_expected_text():
    with web_server(200, "Ok.\n") as port:
        assert HttpProbe("127.0.0.1", port, "/ping", "Ok.")(None) is None
        assert HttpProbe("127.0.0.1", port, "/ping", "1")(None) == (
            f"http://127.0.0.1:{port}/ping should say '1' and says 'Ok.'"
        )


def test_a_page_that_answers_an_error_tells_its_first_line():
    with web_server(503, "Code: 60.\nmore") as port:
        assert HttpProbe("127.0.0.1", port, "/")(None) == (
            f"http://127.0.0.1:{port}/ answers 503: Code: 60."
        )


def test_a_page_of_nobody_is_told_so(free_port):
    port = free_port()
    assert HttpProbe("127.0.0.1", port, "/")(None) == (
        f"http://127.0.0.1:{port}/ does not answer: connection refused"
    )


def test_redis_that_still_loads_is_not_healthy():
    with line_server(b"-LOADING Redis is loading the dataset in memory\r\n") as port:
        assert "LOADING" in str(RedisProbe("127.0.0.1", port)(None))


def test_a_silent_redis_is_not_healthy():
    with line_server(b"") as port:
        assert "answers 'nothing' to PING" in str(RedisProbe("127.0.0.1", port)(None))


def test_a_process_is_healthy_while_it_is_connected():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        probe = ConnectedProbe(port)
        before = probe(os.getpid())
        with socket.create_connection(("127.0.0.1", port)):
            during = probe(os.getpid())
    assert (before, during) == (f"its process {os.getpid()} is not connected to port {port}", None)


@pytest.mark.parametrize(
    ("age", "known", "problem"),
    [
        (timedelta(0), True, None),
        (timedelta(0), False, None),
        (timedelta(seconds=60), False, "the worker last reported to Prefect 60 s ago"),
        (
            timedelta(days=9000),
            True,
            "no worker of pool p has reported to Prefect since it was started",
        ),
    ],
)
def test_a_prefect_worker_must_have_reported_since_it_began_and_lately(
    age: timedelta, known: bool, problem: str | None
):
    heard = datetime.now(UTC) - age
    with web_server(200, f'[{{"last_heartbeat_time": "{heard.isoformat()}"}}]') as port:
        probe = PrefectWorkerProbe("127.0.0.1", port, "p", max_age=timedelta(seconds=45))
        assert probe(os.getpid() if known else None) == problem


def test_a_pool_without_workers_is_not_healthy():
    with web_server(200, "[]") as port:
        probe = PrefectWorkerProbe("127.0.0.1", port, "p", max_age=timedelta(seconds=45))
        assert probe(os.getpid()) == (
            "no worker of pool p has reported to Prefect since it was started"
        )
