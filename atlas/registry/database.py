"""Atlas's SQL database: transactions, and one sentence for what goes wrong."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock

from sqlalchemy import Connection, MetaData, create_engine
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, IntegrityError, NoSuchModuleError
from sqlalchemy.pool import NullPool

from atlas.errors import InvalidSettings, StoreUnavailable

__all__ = ["SCHEMA", "Database"]

SCHEMA = MetaData()
"""What every `Table` of this database is described in."""

# How long a writer waits for another process's transaction, in seconds.
_PATIENCE_S = 10


class Database:
    """One SQL database; its tables are made at first use.

    Parameters
    ----------
    url : str
        SQLAlchemy's address.
    """

    def __init__(self, url: str) -> None:
        try:
            self._url = make_url(url)
            lite = self._url.get_backend_name() == "sqlite"
            self._engine = create_engine(
                self._url,
                poolclass=NullPool,
                connect_args={"timeout": _PATIENCE_S} if lite else {},
            )
        except (ArgumentError, NoSuchModuleError, ModuleNotFoundError) as error:
            raise InvalidSettings(
                f"Expected SQLAlchemy's address of a database with its driver; found {url!r}: "
                f"{error}."
            ) from error
        self._prepared = False
        self._preparing = Lock()

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """Open a transaction that commits at the end of the block, or not at all.

        Raises
        ------
        StoreUnavailable
            If the database does not answer, or is locked for too long. An `IntegrityError` of a
            row that is there already passes through.
        """
        try:
            self._prepare()
            with self._engine.begin() as connection:
                yield connection
        except IntegrityError:
            raise
        except (DBAPIError, OSError) as error:
            reason = str(getattr(error, "orig", None) or error)
            raise StoreUnavailable(
                f"Expected the SQL database at {self._url.render_as_string()}; found: {reason}. "
                "Check that its folder can be written to and that nobody holds it locked."
            ) from error

    def _prepare(self) -> None:
        with self._preparing:
            if self._prepared:
                return
            if self._url.get_backend_name() == "sqlite" and self._url.database:
                Path(self._url.database).parent.mkdir(parents=True, exist_ok=True)
            SCHEMA.create_all(self._engine)
            self._prepared = True
