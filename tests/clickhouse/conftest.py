"""Embedded servers for tests: one that all share, and any number that belong to one test."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from clickhouse_connect.driver.client import Client
from embedded_server import EmbeddedServer, StartServer


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedServer]:
    """One server for all tests that leave nothing behind but tables of their own."""
    embedded = EmbeddedServer(tmp_path_factory.mktemp("clickhouse") / "data")
    yield embedded
    assert embedded.stop() == 0, embedded.log()


@pytest.fixture
def start_server(tmp_path: Path) -> Iterator[StartServer]:
    """Start servers that belong to one test."""
    with ExitStack() as stack:

        def start(*options: str, name: str = "data") -> EmbeddedServer:
            embedded = EmbeddedServer(tmp_path / name, *options)
            stack.callback(embedded.stop, signal.SIGKILL)
            return embedded

        yield start


@pytest.fixture
def client(server: EmbeddedServer) -> Iterator[Client]:
    """A client of the shared server."""
    with server.client() as ordinary:
        yield ordinary


@pytest.fixture
def table(client: Client, request: pytest.FixtureRequest) -> Iterator[str]:
    """The name of a table that this test may create."""
    name = f"t_{os.getpid()}_{abs(hash(request.node.name))}"
    yield name
    client.command(f"DROP TABLE IF EXISTS {name}")
