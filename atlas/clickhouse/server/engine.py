"""The ClickHouse engine over one folder: its one owner, and the handles that statements run on."""

from __future__ import annotations

import fcntl
import json
import os
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from atlas.clickhouse.server.failure import Code, QueryFailure
from atlas.clickhouse.server.limits import Limits
from atlas.clickhouse.server.statement import quoted, quoted_name
from atlas.errors import InvalidInput, StackBusy, StoreUnavailable

__all__ = ["Counts", "Engine", "ExternalTable", "Handle", "Insertion", "Setup"]

# The defaults are meant for a server machine (5 GB each) and would outgrow the memory limit.
_CACHE_BYTES = {
    "mark_cache_size": 128 << 20,
    "index_mark_cache_size": 32 << 20,
    "primary_index_cache_size": 64 << 20,
    "vector_similarity_index_cache_size": 8 << 20,
}


@dataclass(frozen=True, slots=True)
class Counts:
    """What a statement read, wrote and returned."""

    read_rows: int = 0
    read_bytes: int = 0
    written_rows: int = 0
    written_bytes: int = 0
    result_rows: int = 0
    result_bytes: int = 0
    elapsed_ns: int = 0


@dataclass(frozen=True, slots=True)
class ExternalTable:
    """Rows that came with a statement, which reads them as a temporary table."""

    name: str
    structure: str
    format: str
    rows: bytes


@dataclass(frozen=True, slots=True)
class Setup:
    """What holds for one statement only."""

    database: str = ""
    settings: Mapping[str, str] | None = None
    parameters: Mapping[str, str] | None = None
    external_tables: Sequence[ExternalTable] = ()


class Insertion:
    """An INSERT that is being fed, in constant memory."""

    def __init__(self, connection: Any, stream: Any) -> None:
        self._connection = connection
        self._stream = stream

    def append(self, rows: bytes) -> None:
        """Hand over the next bytes; they may end anywhere in a row."""
        with _engine_errors():
            self._connection.insert_append(self._stream, rows)

    def finish(self) -> Counts:
        """Commit what has been appended."""
        with _engine_errors():
            return _counts(self._connection.insert_done(self._stream))

    def cancel(self) -> None:
        """Give up: parts that were already written stay, as with any ClickHouse server."""
        # After an error the engine has cancelled it itself.
        with suppress(RuntimeError):
            self._connection.insert_cancel(self._stream)


class Handle:
    """One connection to the engine, with settings and temporary tables of its own.

    Not for two threads at once.
    """

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    def run(
        self,
        sql: bytes,
        *,
        format: str = "TabSeparated",
        parameters: Mapping[str, str] | None = None,
    ) -> tuple[bytes, Counts]:
        """Run one statement to its end; return its result, if it has one, in `format`."""
        with _engine_errors():
            result = self._connection.query(sql, format, params=dict(parameters or {}))
            return result.bytes(), _counts(result)

    def begin_insert(
        self, head: bytes, format: str, *, parameters: Mapping[str, str] | None = None
    ) -> Insertion:
        """Begin an INSERT whose rows, in `format`, will be appended."""
        if parameters:
            self._set({f"param_{name}": value for name, value in parameters.items()})
        with _engine_errors():
            stream = self._connection.send_insert(_text(head), format)
        return Insertion(self._connection, stream)

    @contextmanager
    def set_up(self, setup: Setup, *, restore: bool) -> Iterator[None]:
        """Apply what holds for one statement, and take it back if the handle will be used again."""
        settings = setup.settings or {}
        before = self._changed_settings(settings) if restore else {}
        database = self._current_database() if restore and setup.database else ""
        try:
            self._set(settings)
            if setup.database:
                self._use(setup.database)
            for table in setup.external_tables:
                self._create(table)
            yield
        finally:
            if restore:
                self._set({name: before.get(name) for name in settings})
                if database:
                    self._use(database)
                for table in setup.external_tables:
                    self.run(f"DROP TEMPORARY TABLE IF EXISTS {quoted_name(table.name)}".encode())

    def close(self) -> None:
        """Give the connection back, with whatever still runs on it."""
        self._connection.close()

    def _set(self, settings: Mapping[str, str | None]) -> None:
        if settings:
            values = (
                f"{name} = {'DEFAULT' if value is None else quoted(value)}"
                for name, value in settings.items()
            )
            self.run(f"SET {', '.join(values)}".encode())

    def _use(self, database: str) -> None:
        self.run(f"USE {quoted_name(database)}".encode())

    def _create(self, table: ExternalTable) -> None:
        name = quoted_name(table.name)
        self.run(f"CREATE TEMPORARY TABLE {name} ({table.structure})".encode())
        insertion = self.begin_insert(f"INSERT INTO {name}".encode(), table.format)
        insertion.append(table.rows)
        insertion.finish()

    def _changed_settings(self, names: Mapping[str, str]) -> dict[str, str]:
        if not names:
            return {}
        wanted = ", ".join(map(quoted, names))
        body, _ = self.run(
            b"SELECT name, value FROM system.settings "
            b"WHERE changed AND name IN (" + wanted.encode() + b")",
            format="JSONCompactEachRow",
        )
        return dict(json.loads(line) for line in body.splitlines())

    def _current_database(self) -> str:
        return self.run(b"SELECT currentDatabase()", format="RawBLOB")[0].decode()


class Engine:
    """The one owner of a ClickHouse folder.

    Attributes
    ----------
    version : str
        The engine's version, such as 26.9.2.1.

    Raises
    ------
    StackBusy
        If another process owns the folder.
    StoreUnavailable
        If the engine cannot start on it.
    """

    def __init__(self, path: Path, limits: Limits) -> None:
        self._limits = limits
        self._path = _prepared(path)
        self._module = _load_engine()
        # The first connection keeps the engine alive and ends other connections' statements.
        self._control = self._open_first()
        self._control_lock = threading.Lock()
        # Parsing must not wait for a KILL.
        self._parser = self._module.connect(self._address({}))
        self._parser_lock = threading.Lock()
        version, _ = Handle(self._control).run(b"SELECT version()", format="RawBLOB")
        self.version = version.decode()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def spool_folder(self) -> Path:
        """Where results that are too large for memory wait to be sent."""
        return self._path

    def handle(self) -> Handle:
        """Open a handle: a tenth of a millisecond, so that statements need not share one."""
        with _engine_errors():
            return Handle(self._module.connect(self._address(self._statement_options())))

    def classify(self, sql: bytes) -> tuple[int, str]:
        """Ask the engine's parser how many statements there are, and of what kind.

        Returns
        -------
        (count, kind), where kind is READ_ONLY, MUTATING, MUTATING_GLOBAL, CONTROL (it changes the
        session or the server's own state) or UNKNOWN (it does not parse).
        """
        with self._parser_lock, _engine_errors():
            report = self._parser.classify_query(sql)
        return int(report["statement_count"]), str(report["query_class"].name)

    def refuse_unparsable(self, sql: bytes) -> None:
        """Raise the engine's own account of why a statement does not parse, without running it."""
        literal = quoted(sql.decode(errors="replace"))
        handle = self.handle()
        try:
            handle.run(f"SELECT formatQuery({literal})".encode())
        except QueryFailure as failure:
            account, scope, _ = failure.text.partition(": In scope SELECT formatQuery(")
            raise QueryFailure(failure.code, account + " (SYNTAX_ERROR)" * bool(scope)) from failure
        finally:
            handle.close()
        raise QueryFailure.of(Code.SYNTAX_ERROR, "Expected one statement, found none that parses.")

    def end(self, mark: str) -> None:
        """Cancel the statement whose log_comment ends in `mark`, if it runs."""
        self._run_control(
            f"KILL QUERY WHERE endsWith(Settings['log_comment'], {quoted(mark)}) ASYNC"
        )

    def end_all(self) -> None:
        """Cancel whatever runs."""
        self._run_control("KILL QUERY WHERE 1 ASYNC")

    def query_id(self, mark: str) -> str | None:
        """Return the engine's own id of the statement whose log_comment ends in `mark`."""
        found = self._run_control(
            "SELECT query_id FROM system.processes "
            f"WHERE endsWith(Settings['log_comment'], {quoted(mark)}) LIMIT 1"
        )
        return found.decode().strip() or None

    def close(self) -> None:
        """Write out what is pending and let the folder go."""
        self._parser.close()
        self._control.close()

    def _run_control(self, sql: str) -> bytes:
        with self._control_lock:
            return Handle(self._control).run(sql.encode())[0]

    def _statement_options(self) -> dict[str, str | int]:
        return {
            "session_timezone": "UTC",
            "max_memory_usage": self._limits.query_memory_bytes,
            # A server does not take an expression for a SELECT, nor a typing error for either.
            "implicit_select": 0,
        }

    def _address(self, options: Mapping[str, str | int]) -> str:
        return f"{self._path}?" + "&".join(f"{name}={value}" for name, value in options.items())

    def _open_first(self) -> Any:
        options = {"max_server_memory_usage": self._limits.server_memory_bytes, **_CACHE_BYTES}
        try:
            return self._module.connect(self._address({**self._statement_options(), **options}))
        except RuntimeError as error:
            _refuse_owned(self._path)
            raise StoreUnavailable(
                f"Expected a ClickHouse folder at {self._path}; the engine does not start on it: "
                f"{str(error)[:300]}. Restore it, or choose another path."
            ) from error


def _load_engine() -> Any:
    """Import chDB, whose server time zone is that of the process at that moment."""
    os.environ["TZ"] = "UTC"
    time.tzset()
    # The wrapper class around it (chdb.connect) leaves out classify_query.
    from chdb import _chdb

    return _chdb


def _prepared(path: Path) -> Path:
    path = path.resolve()
    if "?" in str(path):
        raise InvalidInput(f"Expected a ClickHouse folder without '?' in its path, found {path}.")
    try:
        path.mkdir(parents=True, exist_ok=True)
        _refuse_owned(path)
    except OSError as error:
        raise InvalidInput(
            f"Expected a folder for ClickHouse at {path}, which can be made or written; found: "
            f"{error.strerror}. Choose another path."
        ) from error
    return path


def _refuse_owned(path: Path) -> None:
    """Look at the engine's own lock: its complaint is several lines long and names no way out."""
    try:
        lock = os.open(path / "status", os.O_RDONLY)
    except FileNotFoundError:
        return
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise StackBusy(
            f"Expected to own the ClickHouse folder {path}; another process has it open. "
            "Stop that one, or choose another path."
        ) from None
    finally:
        os.close(lock)


@contextmanager
def _engine_errors() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        raise QueryFailure.from_engine(error) from error


def _text(sql: bytes) -> str:
    try:
        return sql.decode()
    except UnicodeDecodeError as error:
        raise QueryFailure.of(
            Code.SYNTAX_ERROR, f"Expected an INSERT in UTF-8, found byte {sql[error.start]:#x}."
        ) from error


def _counts(result: Any) -> Counts:
    return Counts(
        read_rows=result.storage_rows_read(),
        read_bytes=result.storage_bytes_read(),
        written_rows=result.rows_written(),
        written_bytes=result.bytes_written(),
        result_rows=result.rows_read(),
        result_bytes=result.bytes_read(),
        elapsed_ns=int(result.elapsed() * 1e9),
    )
