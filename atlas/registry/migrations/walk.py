"""The walk over the steps that a database lacks, one process at a time, all of them or none."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, Engine

from atlas.registry.migrations import is_current

__all__ = ["walk"]

# The bytes of "atlas" as a number: the name of the lock in PostgreSQL.
_LOCK = int.from_bytes(b"atlas")
_PATIENCE_S = 60

# Alembic's `context` and `op` belong to the whole process.
_ONE_AT_A_TIME = Lock()


def walk(engine: Engine, shown: str) -> None:
    """Walk the steps that the database lacks; wait for whoever is walking them."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    with _ONE_AT_A_TIME, _alone(engine) as connection:
        if not is_current(connection, shown):  # another process may have been faster
            config.attributes["connection"] = connection
            command.upgrade(config, "head")


@contextmanager
def _alone(engine: Engine) -> Iterator[Connection]:
    """Open a transaction that only one process has at a time."""
    with engine.begin() as connection:
        if engine.dialect.name == "sqlite":
            # By itself Python's driver begins no transaction before a CREATE.
            driver = connection.connection.dbapi_connection
            assert driver is not None
            driver.isolation_level = None
            connection.exec_driver_sql("BEGIN EXCLUSIVE")
        else:
            connection.exec_driver_sql(f"SET LOCAL lock_timeout = '{_PATIENCE_S}s'")
            connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_LOCK})")
        yield connection
