"""The desk and the worker, each test's own."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from redis import Redis
from serving_desk import Desk, Face, WorkerProcess, running, unused_port

from atlas.config import Settings, load_settings
from atlas.registry import BlobStore


@pytest.fixture
def desk(redis: Redis, tmp_path: Path) -> Desk:
    """The desk over an empty Redis."""
    return Desk(redis, BlobStore(tmp_path / "blobs"))


@pytest.fixture
def settings(tmp_path: Path, redis_port: int) -> Settings:
    """Settings over the test's Redis; nothing listens where ClickHouse should."""
    return load_settings(
        {},
        home=tmp_path,
        redis_port=redis_port,
        worker_port=unused_port(),
        clickhouse_port=unused_port(),
    )


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a worker of this process look at routes and end its waits more often than it need."""
    monkeypatch.setattr("atlas.inference.route_follower._LOOK_S", 0.2)
    monkeypatch.setattr("atlas.inference.row_feed._BLOCK_MS", 50)


@pytest.fixture
def worker(desk: Desk, settings: Settings) -> Iterator[Face]:
    """A worker over the desk's Redis."""
    with running(settings) as face:
        yield face


@pytest.fixture
def worker_process(desk: Desk, settings: Settings, tmp_path: Path) -> Iterator[WorkerProcess]:
    """A worker that the test starts, kills and stops."""
    worker = WorkerProcess(settings, tmp_path / "worker.log")
    yield worker
    if worker.process is not None and worker.process.poll() is None:
        worker.kill()
    worker.face.http.close()


@pytest.fixture
def unused_redis() -> int:
    """A port where Redis should be and is not."""
    return unused_port()
