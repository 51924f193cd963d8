"""Atlas's SQL database, SQLite or PostgreSQL: transactions, and how failures are told."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock

from sqlalchemy import URL, Connection, MetaData, create_engine
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, IntegrityError, NoSuchModuleError
from sqlalchemy.pool import NullPool

from atlas.errors import InvalidSettings, StoreUnavailable
from atlas.registry.migrations import bring_up_to_date

__all__ = ["SCHEMA", "Database"]

SCHEMA = MetaData()
"""What every `Table` of this database is described in; `atlas.registry.migrations` makes them."""

# How long a writer waits for another process's transaction, and for a server that is away.
_PATIENCE_S = 10

_ADVICE = {
    "sqlite": "Check that its folder can be written to and that nobody holds it locked.",
    "postgresql": "Check that the server runs and lets this user in.",
}
_DRIVERS = {"postgresql": "postgresql+psycopg", "postgres": "postgresql+psycopg"}
_SECRETS = re.compile(r"(?<=://).*(?=@)|(?<=password=)[^&]*", re.IGNORECASE)


class Database:
    """One SQL database; its tables are made, or brought up to date, at first use.

    Parameters
    ----------
    url : str
        SQLAlchemy's address: `sqlite:///…` or `postgresql://user:password@host/name`.
    """

    def __init__(self, url: str) -> None:
        try:
            self._url = _with_driver(make_url(url))
            self._backend = self._url.get_backend_name()
            # A connection a transaction: it is written to a few times a day, and a process that
            # forks or ends leaves nothing open.
            self._engine = create_engine(
                self._url, poolclass=NullPool, connect_args=_patience(self._backend)
            )
        except (ArgumentError, NoSuchModuleError, ModuleNotFoundError, ValueError) as error:
            # What SQLAlchemy says may repeat the address, with its password.
            raise InvalidSettings(
                "Expected SQLAlchemy's address of a database, sqlite:///… or postgresql://…; "
                f"found {_SECRETS.sub('***', url)!r} ({type(error).__name__})."
            ) from None
        self._prepared = False
        self._preparing = Lock()

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """Open a transaction that commits at the end of the block, or not at all.

        Raises
        ------
        StoreUnavailable
            If the database does not answer, is locked for too long, or was made by a newer Atlas.
            An `IntegrityError` of a row that is there already passes through.
        """
        try:
            self._prepare()
            with self._engine.begin() as connection:
                if self._backend == "postgresql":
                    connection.exec_driver_sql(f"SET LOCAL lock_timeout = '{_PATIENCE_S}s'")
                yield connection
        except IntegrityError:
            raise
        except (DBAPIError, OSError) as error:
            reason = " ".join(str(getattr(error, "orig", None) or error).split())
            raise StoreUnavailable(
                f"Expected the SQL database at {_shown(self._url)}; found: {reason}. "
                f"{_ADVICE[self._backend]}"
            ) from error

    def _prepare(self) -> None:
        with self._preparing:
            if self._prepared:
                return
            if self._backend == "sqlite" and self._url.database:
                Path(self._url.database).parent.mkdir(parents=True, exist_ok=True)
            bring_up_to_date(self._engine, shown=_shown(self._url))
            self._prepared = True


def _with_driver(url: URL) -> URL:
    url = url.set(drivername=_DRIVERS.get(url.drivername, url.drivername))
    if url.get_backend_name() not in _ADVICE:
        raise ArgumentError(f"no such engine: {url.drivername}")
    return url


def _patience(backend: str) -> dict[str, int]:
    if backend == "sqlite":
        return {"timeout": _PATIENCE_S}
    return {"connect_timeout": _PATIENCE_S, "tcp_user_timeout": _PATIENCE_S * 1_000}


def _shown(url: URL) -> str:
    """Return the address without its password, which may also stand among its options."""
    secret = [name for name in url.query if "password" in name.lower()]
    return url.difference_update_query(secret).render_as_string(hide_password=True)
