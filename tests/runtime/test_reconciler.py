"""After each start of Redis the log in SQL decides again whether the desk may trade."""

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from redis import Redis
from redis.exceptions import RedisError

from atlas.bus import grant, is_permitted
from atlas.config import load_settings
from atlas.runtime.installation import Installation
from atlas.runtime.reconciler import SIGNATURE_KEY, Reconciler


@pytest.fixture
def server(tmp_path: Path, redis_binary: str, free_port: Callable[[], int]) -> Iterator["Server"]:
    """A Redis of this test's own, to be killed."""
    own = Server(redis_binary, free_port(), tmp_path)
    own.start()
    yield own
    own.kill()


class Server:
    """A Redis that keeps what it holds, as the stack's does."""

    def __init__(self, binary: str, port: int, folder: Path) -> None:
        self.port = port
        options = ("--bind", "127.0.0.1", "--save", "", "--appendonly", "yes")
        self._command = [binary, "--port", str(port), "--dir", str(folder), *options]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self._process = subprocess.Popen(
            [*self._command, "--appendfsync", "always"], stdout=subprocess.DEVNULL
        )
        with Redis(port=self.port) as redis:
            for _ in range(200):
                try:
                    redis.ping()
                except RedisError:
                    time.sleep(0.05)
                else:
                    return
        raise RuntimeError("Redis did not start")

    def kill(self) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait()


@pytest.fixture
def installation(tmp_path: Path, server: Server) -> Installation:
    return Installation(load_settings({}, home=tmp_path, redis_port=server.port))


def test_a_halt_that_redis_missed_holds_after_its_restart(
    installation: Installation, server: Server
) -> None:
    reconciler = Reconciler(installation)
    installation.latch.release("ann", "first start", expected=0)
    assert reconciler.look()
    assert is_permitted(installation.redis)
    server.kill()
    installation.halts.halt("ann", "while Redis was down")
    server.start()
    assert reconciler.look()
    assert not is_permitted(installation.redis)


def test_a_redis_that_lost_everything_gets_the_permit_back_from_the_log(
    installation: Installation, server: Server
) -> None:
    installation.latch.release("ann", "first start", expected=0)
    installation.redis.flushall()
    Reconciler(installation).look()
    assert is_permitted(installation.redis)


def test_a_permit_in_redis_counts_for_nothing_without_a_release_in_the_log(
    installation: Installation,
) -> None:
    grant(installation.redis, "nobody")
    Reconciler(installation).look()
    assert not is_permitted(installation.redis)


def test_a_permit_that_is_deleted_by_hand_stays_deleted(installation: Installation) -> None:
    reconciler = Reconciler(installation)
    installation.latch.release("ann", "first start", expected=0)
    reconciler.look()
    installation.redis.delete("atlas:permit")
    assert not reconciler.look()
    assert not is_permitted(installation.redis)


def test_it_signs_with_its_process_number_for_some_seconds(installation: Installation) -> None:
    Reconciler(installation).look()
    assert int(installation.redis.get(SIGNATURE_KEY)) == os.getpid()  # type: ignore[arg-type]
    assert 0 < installation.redis.ttl(SIGNATURE_KEY) <= 10  # type: ignore[operator]
