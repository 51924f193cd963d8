"""How Atlas keeps an append-only table in SQL: no row is changed or deleted, not even by hand."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock

from sqlalchemy import Connection, Table, create_engine, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, IntegrityError, NoSuchModuleError
from sqlalchemy.pool import NullPool
from sqlalchemy.schema import CreateTable

from atlas.errors import InvalidSettings, StoreUnavailable

__all__ = ["Ledger"]

# How long a writer waits for another process's transaction, in seconds.
_PATIENCE_S = 10

_GUARDS = {
    "no_update": "BEFORE UPDATE ON {table}",
    "no_delete": "BEFORE DELETE ON {table}",
    # INSERT OR REPLACE deletes the older row without asking the trigger above.
    "no_replace": "BEFORE INSERT ON {table} WHEN EXISTS (SELECT 1 FROM {table} WHERE {same})",
}


class Ledger:
    """One append-only table in the SQL database; it is made at first use.

    Parameters
    ----------
    url : str
        SQLAlchemy's address of the database.
    table : Table
        What is kept.
    identity : tuple of str
        Columns by which two rows would be the same row; the table must hold them unique.
    """

    def __init__(self, url: str, table: Table, *, identity: tuple[str, ...]) -> None:
        try:
            self._url = make_url(url)
            lite = self._url.get_backend_name() == "sqlite"
            # A connection a transaction: the ledger is written a few times a day, and a process
            # that forks or ends leaves nothing open.
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
        self._table = table
        self._identity = identity
        self._made = False
        self._making = Lock()

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
            self._make()
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

    def _make(self) -> None:
        with self._making:
            if self._made:
                return
            lite = self._url.get_backend_name() == "sqlite"
            if lite and self._url.database:
                Path(self._url.database).parent.mkdir(parents=True, exist_ok=True)
            with self._engine.begin() as connection:
                connection.execute(CreateTable(self._table, if_not_exists=True))
                if lite:
                    for statement in self._guards():
                        connection.execute(text(statement))
            self._made = True

    def _guards(self) -> Iterator[str]:
        table = self._table.name
        same = " AND ".join(f"{column} = NEW.{column}" for column in self._identity)
        for name, event in _GUARDS.items():
            yield (
                f"CREATE TRIGGER IF NOT EXISTS {table}_{name} "
                f"{event.format(table=table, same=same)} "
                f"BEGIN SELECT RAISE(ABORT, '{table} is append-only'); END"
            )
