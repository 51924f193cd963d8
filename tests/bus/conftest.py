"""A port for a Redis that a test starts and kills by itself."""

import socket

import pytest


@pytest.fixture
def free_redis_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
