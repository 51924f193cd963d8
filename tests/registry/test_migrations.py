"""The steps: from nothing, from before there were steps, by many at once, and never backwards."""

import hashlib
import subprocess
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from postgres_server import PostgresServer
from sqlalchemy import Engine, create_engine, inspect
from sqlalchemy.pool import NullPool

import atlas.registry.migrations
from atlas.errors import InvalidSettings, StoreUnavailable
from atlas.registry import Database, DeploymentLog, HaltKind, HaltLog, Latch
from atlas.registry.database import SCHEMA
from atlas.registry.migrations import VERSION_TABLE, steps
from atlas.serving import Manifest

MODULES_WITH_TABLES = (
    "atlas.deployment.experiments.log",
    "atlas.paper.tables",
    "atlas.registry.deployments",
    "atlas.registry.halts",
)

# What the first release made, of SQLite's tables; PostgreSQL made the same without the guards.
BEFORE_STEPS = {
    "sqlite": """
CREATE TABLE IF NOT EXISTS deployments (id INTEGER NOT NULL, model VARCHAR(128) NOT NULL,
 generation BIGINT NOT NULL, position INTEGER NOT NULL, action VARCHAR(16) NOT NULL,
 version BIGINT NOT NULL, from_stage VARCHAR(16), to_stage VARCHAR(16) NOT NULL,
 who VARCHAR(128) NOT NULL, why TEXT NOT NULL, at_us BIGINT NOT NULL, report TEXT NOT NULL,
 blob VARCHAR(64) NOT NULL, manifest TEXT NOT NULL, PRIMARY KEY (id),
 UNIQUE (model, generation, position));
CREATE TRIGGER deployments_no_update BEFORE UPDATE ON deployments
 BEGIN SELECT RAISE(ABORT, 'deployments is append-only'); END;
CREATE TABLE IF NOT EXISTS halts (sequence BIGINT NOT NULL, kind VARCHAR(16) NOT NULL,
 who VARCHAR(128) NOT NULL, why TEXT NOT NULL, at_us BIGINT NOT NULL, PRIMARY KEY (sequence))
""",
    "postgresql": """
CREATE TABLE IF NOT EXISTS deployments (id BIGSERIAL NOT NULL, model VARCHAR(128) NOT NULL,
 generation BIGINT NOT NULL, position INTEGER NOT NULL, action VARCHAR(16) NOT NULL,
 version BIGINT NOT NULL, from_stage VARCHAR(16), to_stage VARCHAR(16) NOT NULL,
 who VARCHAR(128) NOT NULL, why TEXT NOT NULL, at_us BIGINT NOT NULL, report TEXT NOT NULL,
 blob VARCHAR(64) NOT NULL, manifest TEXT NOT NULL, PRIMARY KEY (id),
 UNIQUE (model, generation, position));
CREATE TABLE IF NOT EXISTS halts (sequence BIGINT NOT NULL, kind VARCHAR(16) NOT NULL,
 who VARCHAR(128) NOT NULL, why TEXT NOT NULL, at_us BIGINT NOT NULL, PRIMARY KEY (sequence))
""",
}


@pytest.fixture
def engine(url: str) -> Engine:
    if url.startswith("sqlite:///"):
        Path(url.removeprefix("sqlite:///")).parent.mkdir(parents=True, exist_ok=True)
    return create_engine(url, poolclass=NullPool)


def version_of(engine: Engine) -> str:
    with engine.begin() as connection:
        return str(connection.exec_driver_sql(f"SELECT version_num FROM {VERSION_TABLE}").scalar())


def test_the_steps_are_one_chain_in_the_order_of_their_numbers() -> None:
    config = Config()
    folder = Path(atlas.registry.migrations.__file__).parent
    config.set_main_option("script_location", str(folder))
    config.set_main_option("path_separator", "os")
    walked = [each.revision for each in ScriptDirectory.from_config(config).walk_revisions()]
    assert tuple(reversed(walked)) == steps()


def test_the_steps_make_what_the_tables_say(url: str, engine: Engine) -> None:
    for name in MODULES_WITH_TABLES:
        import_module(name)
    with Database(url).transaction() as connection:
        context = MigrationContext.configure(
            connection, opts={"version_table": VERSION_TABLE, "compare_type": True}
        )
        assert compare_metadata(context, SCHEMA) == []
    assert version_of(engine) == steps()[-1]


def test_a_database_of_before_the_steps_keeps_its_rows_and_gets_the_guards(
    url: str, engine: Engine
) -> None:
    with engine.begin() as connection:
        for statement in BEFORE_STEPS[engine.dialect.name].split(";\n"):
            connection.exec_driver_sql(statement)
        connection.exec_driver_sql("INSERT INTO halts VALUES (1, 'release', 'ada', 'open', 7)")
    halts = HaltLog(url)
    halts.halt("bob", "close")
    assert [(e.sequence, e.kind) for e in halts.history()] == [
        (1, HaltKind.RELEASE),
        (2, HaltKind.HALT),
    ]
    with pytest.raises(Exception, match="append-only"), engine.begin() as connection:
        connection.exec_driver_sql("DELETE FROM halts")


def test_a_database_of_a_newer_release_is_refused(
    url: str, engine: Engine, manifest: Callable[..., Manifest]
) -> None:
    log = DeploymentLog(url)
    log.register(manifest(1), passed=True, report="", who="ada", why="")
    with engine.begin() as connection:
        connection.exec_driver_sql(f"UPDATE {VERSION_TABLE} SET version_num = '9999'")
    with pytest.raises(StoreUnavailable, match="found 9999, which a newer Atlas made"):
        DeploymentLog(url).models()
    # A process that runs goes on: what it knows is still there.
    assert log.models() == (manifest(1).model,)


def test_a_halt_stops_redis_whatever_release_made_the_database(
    url: str, engine: Engine, redis: object
) -> None:
    Latch(HaltLog(url), redis).release("ada", "open", expected=0)  # type: ignore[arg-type]
    with engine.begin() as connection:
        connection.exec_driver_sql(f"UPDATE {VERSION_TABLE} SET version_num = '9999'")
    latch = Latch(HaltLog(url), redis)  # type: ignore[arg-type]
    with pytest.raises(StoreUnavailable, match="halted in Redis, but the halt was not recorded"):
        latch.halt("bob", "stop")
    assert not latch.permitted()


def test_many_processes_may_be_the_first_at_once(url: str, engine: Engine) -> None:
    code = "import sys; from atlas.registry import HaltLog; HaltLog(sys.argv[1]).halt('ada', 'go')"
    processes = [subprocess.Popen([sys.executable, "-c", code, url]) for _ in range(4)]
    assert [process.wait() for process in processes] == [0] * 4
    assert [e.sequence for e in HaltLog(url).history()] == [1, 2, 3, 4]
    assert version_of(engine) == steps()[-1]


def test_a_step_that_fails_leaves_nothing(
    url: str, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    with engine.begin() as connection:
        # In the way of the second table, so that the step fails half-way.
        connection.exec_driver_sql("CREATE VIEW halts AS SELECT 1 AS one")
    with pytest.raises(StoreUnavailable):
        DeploymentLog(url).models()
    assert inspect(engine).get_table_names() == []
    with engine.begin() as connection:
        connection.exec_driver_sql("DROP VIEW halts")
    assert DeploymentLog(url).models() == ()


def test_a_database_that_is_current_costs_no_alembic(url: str) -> None:
    DeploymentLog(url).models()
    code = (
        "import sys; from atlas.registry import DeploymentLog; "
        "assert DeploymentLog(sys.argv[1]).models() == (); assert 'alembic' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code, url], check=True)


def test_a_wrong_password_is_not_printed(postgres: PostgresServer) -> None:
    secret = hashlib.sha256(b"secret").hexdigest()
    with pytest.raises(StoreUnavailable, match="password authentication failed") as caught:
        DeploymentLog(postgres.network_url("postgres", secret)).models()
    assert secret not in str(caught.value)
    with postgres.database() as name:
        assert DeploymentLog(postgres.network_url(name, postgres.password)).models() == ()


@pytest.mark.parametrize(
    "address",
    [
        "postgresql://ada:secret@host:port/atlas",
        "postgresql+nothing://ada:secret@host/atlas",
        "mysql://ada:secret@host/atlas",
        "ada:se@cret@://:secret@",
        "mysql://host/atlas?password=secret",
    ],
)
def test_an_address_that_is_none_is_refused_without_its_password(address: str) -> None:
    with pytest.raises(InvalidSettings, match="address of a database") as caught:
        Database(address)
    assert "secret" not in str(caught.value)


def test_a_password_among_the_options_is_not_printed_either() -> None:
    database = Database("postgresql://ada@127.0.0.1:1/atlas?password=secret")
    with pytest.raises(StoreUnavailable, match="Expected the SQL database") as caught:
        database.transaction().__enter__()
    assert "secret" not in str(caught.value)
    assert "ada@127.0.0.1:1/atlas" in str(caught.value)
