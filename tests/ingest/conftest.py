"""Databases of a test's own on the real server."""

import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
from clickhouse_connect.driver.client import Client

from atlas.clickhouse import connect, migrate


@pytest.fixture
def new_client(clickhouse_port: int) -> Iterator[Callable[..., Client]]:
    """Open a client of a new database, or another one of a database that is there."""
    with ExitStack() as stack:

        def new(database: str | None = None) -> Client:
            client = stack.enter_context(connect(port=clickhouse_port, database=database))
            if database is None:
                name = f"test_{uuid.uuid4().hex[:12]}"
                migrate(client, name)
                stack.callback(client.command, f"DROP DATABASE `{name}`")
            return client

        yield new
