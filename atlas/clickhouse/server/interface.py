"""ClickHouse's HTTP interface: what a request asks for, who may run now, and what is answered."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractContextManager, AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass

from atlas.clickhouse.server.admission import Admission
from atlas.clickhouse.server.delivery import deliver, summary
from atlas.clickhouse.server.engine import Counts, Engine, Setup
from atlas.clickhouse.server.exchange import Body, ClientGone, Exchange, Receive, Scope, Send
from atlas.clickhouse.server.execution import Execution
from atlas.clickhouse.server.failure import Code, QueryFailure
from atlas.clickhouse.server.limits import Limits
from atlas.clickhouse.server.pipe import ResultPipe
from atlas.clickhouse.server.request import Request, read_request, refuse_browser, with_form
from atlas.clickhouse.server.sessions import Session, Sessions
from atlas.clickhouse.server.statement import (
    Insert,
    has_result,
    read_insert,
    refuse_outfile,
    verb,
    with_outfile,
)
from atlas.telemetry import get_logger

__all__ = ["HttpInterface"]

log = get_logger(__name__)

_DISPLAY_NAME = "atlas"
_INSERT_HEAD_BYTES = 64 << 10
_MAX_INSERT_HEAD_BYTES = 1 << 20
_ROW_PIECE_BYTES = 1 << 20
# Larger statements are cut up in another thread.
_INLINE_STATEMENT_BYTES = 64 << 10

_CONTENT_TYPES = {
    "CSV": "text/csv; charset=UTF-8; header=absent",
    "CSVWithNames": "text/csv; charset=UTF-8; header=present",
    "CSVWithNamesAndTypes": "text/csv; charset=UTF-8; header=present",
    "JSON": "application/json; charset=UTF-8",
    "JSONCompact": "application/json; charset=UTF-8",
    "JSONEachRow": "application/x-ndjson; charset=UTF-8",
    "JSONCompactEachRow": "application/x-ndjson; charset=UTF-8",
    "TabSeparated": "text/tab-separated-values; charset=UTF-8",
    "TSV": "text/tab-separated-values; charset=UTF-8",
    "TabSeparatedWithNames": "text/tab-separated-values; charset=UTF-8",
    "Native": "application/octet-stream",
    "Arrow": "application/octet-stream",
    "ArrowStream": "application/octet-stream",
    "Parquet": "application/octet-stream",
    "RowBinary": "application/octet-stream",
}


@dataclass(frozen=True, slots=True)
class _Statement:
    """What arrived: a whole statement, or an INSERT whose rows are still in the body."""

    sql: bytes = b""
    kind: str = ""
    """The engine's word for what the statement does: READ_ONLY, MUTATING, CONTROL, …"""
    insert: Insert | None = None


@dataclass(frozen=True, slots=True)
class _Task:
    """A statement that is to be run, and whom to answer."""

    exchange: Exchange
    request: Request
    session: Session | None
    setup: Setup
    mark: str
    headers: dict[str, str]

    async def acknowledge(self, counts: Counts, result: bytes = b"") -> None:
        """Answer with a small result, or with none."""
        headers = {**self.headers, "X-ClickHouse-Summary": summary(counts)}
        if result:
            headers = _with_format(headers, self.request.default_format)
        await self.exchange.respond(200, headers, result)


class HttpInterface:
    """The ASGI application."""

    def __init__(self, engine: Engine, limits: Limits, host: str) -> None:
        self._limits = limits
        self._host = host
        self._execution = Execution(engine, limits)
        self._admission = Admission(limits)
        self._sessions = Sessions(engine, limits.max_sessions)
        self._marks: dict[str, str] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return
        exchange = Exchange(scope, receive, send, max_idle_seconds=self._limits.max_idle_seconds)
        headers = {"X-ClickHouse-Server-Display-Name": _DISPLAY_NAME}
        try:
            await self._route(exchange, headers)
        except ClientGone:
            return
        except QueryFailure as failure:
            await _refuse(exchange, headers, failure)
        except asyncio.CancelledError:
            # Nothing but the server's end cancels a request.
            await _refuse(exchange, headers, QueryFailure.of(Code.ABORTED, "The server stops."))
        except Exception as error:
            log.exception("request_failed", path=exchange.path)
            text = f"{type(error).__name__}: {error}"
            await _refuse(exchange, headers, QueryFailure.of(Code.UNKNOWN_EXCEPTION, text))

    def close(self) -> None:
        """End what still runs, after the event loop has gone."""
        self._execution.close()
        self._sessions.close()

    async def _route(self, exchange: Exchange, headers: dict[str, str]) -> None:
        refuse_browser(exchange.headers, self._host)
        greeting = exchange.path == "/" and exchange.method == "GET" and not exchange.query_string
        if greeting or exchange.path in ("/ping", "/replicas_status"):
            await exchange.respond(200, {**headers, "Content-Type": "text/plain"}, b"Ok.\n")
        elif exchange.path != "/":
            text = f"There is no handle {exchange.path}. Use / or /ping.\n"
            await exchange.respond(404, headers, text.encode())
        elif exchange.method not in ("GET", "POST"):
            await exchange.respond(405, {**headers, "Allow": "GET, POST"}, b"Use GET or POST.\n")
        else:
            request = read_request(exchange.method, exchange.query_string, exchange.headers)
            headers["X-ClickHouse-Query-Id"] = request.query_id
            headers["X-ClickHouse-Timezone"] = request.time_zone
            await self._query(exchange, request, headers)

    async def _query(self, exchange: Exchange, request: Request, headers: dict[str, str]) -> None:
        body = exchange.body()
        content_type = exchange.headers.get("content-type", "")
        if content_type.startswith("multipart/form-data"):
            form = await body.whole(self._limits.max_statement_bytes)
            request = with_form(request, content_type, form)
        if request.statement:
            # As in ClickHouse, the statement begins in the parameter and goes on in the body.
            body.prepend(request.statement + b"\n")
        statement = await self._read_statement(body)
        if request.read_only:
            _refuse_change(statement)
        with self._named(request.query_id) as mark, self._session(request) as session:
            task = _Task(exchange, request, session, self._setup(request, mark), mark, headers)
            if verb(statement.sql) == "KILL":
                await self._kill(task, statement)
            elif statement.insert is not None:
                await self._insert(task, statement.insert, body)
            elif statement.kind == "READ_ONLY" and has_result(statement.sql):
                async with _until_gone(exchange), self._admission.place():
                    await self._select(task, statement.sql)
            else:
                await self._command(task, statement)

    async def _read_statement(self, body: Body) -> _Statement:
        head = await body.peek(_INSERT_HEAD_BYTES)
        if verb(head) == "INSERT":
            insert = await _find_rows(body, head)
            if insert is not None:
                body.skip(insert.rows_start)
                return _Statement(insert=insert)
        sql = (await body.whole(self._limits.max_statement_bytes)).strip()
        if len(sql) <= _INLINE_STATEMENT_BYTES:
            return self._inspect(sql)
        return await asyncio.to_thread(self._inspect, sql)

    def _inspect(self, sql: bytes) -> _Statement:
        refuse_outfile(sql)
        return _Statement(sql, self._execution.classify(sql))

    async def _select(self, task: _Task, sql: bytes) -> None:
        pipe = ResultPipe()
        try:
            sql, format_name = await _cut(sql, pipe.path, task.request.default_format)
        except BaseException:
            pipe.close_writer()
            pipe.close_reader()
            raise
        running = self._execution.select(sql, pipe, task.setup, task.session)

        async def outcome() -> Counts:
            return await asyncio.shield(running)

        try:
            await deliver(
                task.exchange,
                pipe,
                outcome,
                headers=_with_format(task.headers, format_name),
                encoding=task.request.encoding,
                hold=task.request.wait_for_end,
                spool_folder=self._execution.spool_folder,
            )
        finally:
            pipe.close_reader()
            await self._execution.end(task.mark, running)

    async def _insert(self, task: _Task, insert: Insert, body: Body) -> None:
        async with self._admission.place():
            rows = body.pieces(_ROW_PIECE_BYTES)
            counts = await self._execution.insert(insert, rows, task.setup, task.session)
        await task.acknowledge(counts)

    async def _command(self, task: _Task, statement: _Statement) -> None:
        async with AsyncExitStack() as place:
            async with _until_gone(task.exchange):
                await place.enter_async_context(self._admission.place())
            # From here on the client may vanish: half a change is worse than one unseen.
            if task.session is not None and statement.kind == "CONTROL":
                self._sessions.give_handle(task.session)
            result, counts = await self._execution.command(
                statement.sql, task.request.default_format, task.setup, task.session, task.mark
            )
        await task.acknowledge(counts, result)

    async def _kill(self, task: _Task, statement: _Statement) -> None:
        """Run at once: all places may be taken by what is to be killed."""
        result = await self._execution.kill(
            statement.sql, task.request.default_format, task.setup, self._marks
        )
        await task.acknowledge(Counts(), result)

    @contextmanager
    def _named(self, query_id: str) -> Iterator[str]:
        """Keep the mark by which the engine's process list knows the client's statement."""
        if query_id in self._marks:
            raise QueryFailure.of(
                Code.QUERY_WITH_SAME_ID_IS_ALREADY_RUNNING,
                f"Query with id = {query_id} is already running.",
            )
        self._marks[query_id] = mark = f"[{uuid.uuid4().hex}]"
        try:
            yield mark
        finally:
            del self._marks[query_id]

    def _session(self, request: Request) -> AbstractContextManager[Session | None]:
        return self._sessions.use(
            request.session_id,
            timeout_seconds=request.session_seconds,
            must_exist=request.session_must_exist,
            close=request.close_session,
        )

    def _setup(self, request: Request, mark: str) -> Setup:
        settings = dict(request.settings)
        wanted = settings.get("max_memory_usage", "")
        if wanted.isdigit():
            cap = self._limits.query_memory_bytes
            settings["max_memory_usage"] = str(min(int(wanted) or cap, cap))
        settings["log_comment"] = f"{settings.get('log_comment', '')} {mark}".lstrip()
        return Setup(request.database, settings, request.parameters, request.external_tables)


async def _refuse(exchange: Exchange, headers: dict[str, str], failure: QueryFailure) -> None:
    if exchange.started:
        # Too late for a status: without an end, the response is seen to be broken.
        return
    fields = {
        **headers,
        "Content-Type": "text/plain; charset=UTF-8",
        "X-ClickHouse-Exception-Code": str(failure.code),
    }
    await exchange.respond(failure.status, fields, failure.text.encode() + b"\n")


def _refuse_change(statement: _Statement) -> None:
    if statement.kind != "READ_ONLY" and verb(statement.sql) not in ("SET", "USE"):
        raise QueryFailure.of(
            Code.READONLY,
            "Cannot execute query in readonly mode. For queries over HTTP, method GET implies "
            "readonly. You should use method POST for modifying queries.",
        )


def _with_format(headers: dict[str, str], format_name: str) -> dict[str, str]:
    content_type = _CONTENT_TYPES.get(format_name, "text/plain; charset=UTF-8")
    return {**headers, "X-ClickHouse-Format": format_name, "Content-Type": content_type}


async def _find_rows(body: Body, head: bytes) -> Insert | None:
    """Look for the rows behind an INSERT."""
    while True:
        insert = read_insert(head, complete=body.complete)
        if insert is not None or body.complete or len(head) > _MAX_INSERT_HEAD_BYTES:
            return insert
        head = await body.peek(2 * len(head))


async def _cut(sql: bytes, path: str, default_format: str) -> tuple[bytes, str]:
    if len(sql) <= _INLINE_STATEMENT_BYTES:
        return with_outfile(sql, path, default_format)
    return await asyncio.to_thread(with_outfile, sql, path, default_format)


@asynccontextmanager
async def _until_gone(exchange: Exchange) -> AsyncIterator[None]:
    """Leave with ClientGone as soon as nobody waits for the answer."""
    work = asyncio.current_task()
    gone = False

    async def watch() -> None:
        nonlocal gone
        await exchange.client_gone()
        gone = True
        if work is not None:
            work.cancel()

    watcher = asyncio.create_task(watch())
    try:
        yield
    except asyncio.CancelledError:
        if not gone:
            raise
    finally:
        watcher.cancel()
    if gone:
        if work is not None:
            work.uncancel()
        raise ClientGone
