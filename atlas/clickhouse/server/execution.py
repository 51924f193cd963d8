"""How one statement runs: which handle it gets, in which thread, and what ends it."""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from atlas.clickhouse.server.engine import Counts, Engine, Handle, Insertion, Setup
from atlas.clickhouse.server.failure import Code, QueryFailure
from atlas.clickhouse.server.limits import Limits
from atlas.clickhouse.server.pipe import ResultPipe
from atlas.clickhouse.server.sessions import Session
from atlas.clickhouse.server.statement import (
    Insert,
    insert_target,
    replace_literals,
    verb,
)

__all__ = ["Execution"]

T = TypeVar("T")

# A cancelled statement may not have reached the engine yet, so it is told again.
_RETRY_SECONDS = 0.1


class Execution:
    """Runs statements on the engine, each in a worker thread, on a handle of its own.

    Parameters
    ----------
    engine : Engine
        Outlives this object.
    """

    def __init__(self, engine: Engine, limits: Limits) -> None:
        self._engine = engine
        self._limits = limits
        # A running statement needs one thread at a time. What ends statements needs its own, and
        # not those of KILL, which may wait for a victim (SYNC).
        self._workers = ThreadPoolExecutor(limits.max_running, thread_name_prefix="statement")
        self._killers = ThreadPoolExecutor(2, thread_name_prefix="kill")
        self._enders = ThreadPoolExecutor(1, thread_name_prefix="end")
        self._working: set[Future[Any]] = set()

    @property
    def spool_folder(self) -> Path:
        """Where a result that is too large for memory may wait."""
        return self._engine.spool_folder

    def classify(self, sql: bytes) -> str:
        """Ask the engine's parser what the bytes are: see Engine.classify.

        Raises
        ------
        QueryFailure
            If they are not one statement.
        """
        count, kind = self._engine.classify(sql)
        if count == 1:
            return kind
        if count > 1:
            raise QueryFailure.of(Code.SYNTAX_ERROR, "Multi-statements are not allowed.")
        if not verb(sql):
            raise QueryFailure.of(Code.SYNTAX_ERROR, "Empty query.")
        self._engine.refuse_unparsable(sql)
        return kind

    def select(
        self, sql: bytes, pipe: ResultPipe, setup: Setup, session: Session | None
    ) -> asyncio.Future[Counts]:
        """Start a statement that writes its result into the pipe's path."""

        def run() -> Counts:
            try:
                with self._lease(setup, session) as handle:
                    return handle.run(sql, parameters=setup.parameters)[1]
            finally:
                pipe.close_writer()

        return self._start(run)

    async def command(
        self, sql: bytes, format: str, setup: Setup, session: Session | None, mark: str
    ) -> tuple[bytes, Counts]:
        """Run a statement with little or no result. Only the server's end stops it halfway."""

        def run() -> tuple[bytes, Counts]:
            with self._lease(setup, session) as handle:
                return handle.run(sql, format=format, parameters=setup.parameters)

        running = self._start(run)
        try:
            return await asyncio.shield(running)
        except asyncio.CancelledError:
            await self.end(mark, running)
            raise

    async def insert(
        self,
        insert: Insert,
        rows: AsyncIterator[bytes],
        setup: Setup,
        session: Session | None,
    ) -> Counts:
        """Feed the rows to the engine as they come, and commit at their end."""

        def begin() -> tuple[ExitStack, Insertion]:
            with ExitStack() as stack:
                handle = stack.enter_context(self._lease(setup, session))
                _refuse_constraints(handle, insert.head)
                insertion = handle.begin_insert(
                    insert.head, insert.format, parameters=setup.parameters
                )
                return stack.pop_all(), insertion

        if insert.input_call:
            return await self._insert_through_file(insert, rows, setup, session)
        lease, insertion = await self._in_worker(begin)
        try:
            await self._feed(insertion, rows)
            return await self._in_worker(insertion.finish)
        except BaseException:
            await self._in_worker(insertion.cancel)
            raise
        finally:
            await self._in_worker(lease.close)

    async def _feed(self, insertion: Insertion, rows: AsyncIterator[bytes]) -> None:
        """Append each piece while the next one is on its way."""
        appending: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        appending.set_result(None)
        try:
            async for piece in rows:
                await asyncio.shield(appending)
                appending = self._start(partial(insertion.append, piece))
            await asyncio.shield(appending)
        finally:
            await asyncio.wait([appending])
            appending.exception()

    async def _insert_through_file(
        self,
        insert: Insert,
        rows: AsyncIterator[bytes],
        setup: Setup,
        session: Session | None,
    ) -> Counts:
        """Serve `input('…')`, for which the engine in a process has no rows to read."""
        with tempfile.NamedTemporaryFile(dir=self.spool_folder, prefix="input-") as staged:
            async for piece in rows:
                await asyncio.to_thread(staged.write, piece)
            staged.flush()

            def run() -> Counts:
                with self._lease(setup, session) as handle:
                    sql = insert.reading(staged.name)
                    return handle.run(sql, parameters=setup.parameters)[1]

            return await self._in_worker(run)

    async def kill(self, sql: bytes, format: str, setup: Setup, marks: Mapping[str, str]) -> bytes:
        """Run KILL QUERY, in which clients name statements by the ids that they gave them."""

        def engine_id(literal: str) -> str | None:
            mark = marks.get(literal)
            return self._engine.query_id(mark) if mark else None

        def run() -> bytes:
            with self._lease(setup, None) as handle:
                return handle.run(
                    replace_literals(sql, engine_id), format=format, parameters=setup.parameters
                )[0]

        return await asyncio.wrap_future(self._killers.submit(run))

    async def end(self, mark: str, running: asyncio.Future[Any]) -> None:
        """Cancel a statement and wait until the engine has let go of it."""
        while not running.done():
            await asyncio.wrap_future(self._enders.submit(self._engine.end, mark))
            await asyncio.wait([running], timeout=_RETRY_SECONDS)
        # Whoever cancelled it does not want to know how it ended.
        with suppress(QueryFailure, asyncio.CancelledError):
            running.result()

    def close(self) -> None:
        """End what still runs, after the event loop has gone."""
        while any(not work.done() for work in self._working):
            self._engine.end_all()
            time.sleep(_RETRY_SECONDS)
        for pool in (self._workers, self._killers, self._enders):
            pool.shutdown()

    @contextmanager
    def _lease(self, setup: Setup, session: Session | None) -> Iterator[Handle]:
        """Give out the session's handle, or a fresh one that is closed afterwards."""
        if session is not None and session.handle is not None:
            if "readonly" in (setup.settings or {}):
                raise QueryFailure.of(
                    Code.NOT_IMPLEMENTED,
                    "A session that holds state cannot be made readonly for one statement: the "
                    "setting could not be taken back. Send the statement without session_id.",
                )
            with session.handle.set_up(setup, restore=True):
                yield session.handle
            return
        handle = self._engine.handle()
        try:
            with handle.set_up(setup, restore=False):
                yield handle
        finally:
            handle.close()

    def _start(self, call: Callable[[], T]) -> asyncio.Future[T]:
        work = self._workers.submit(call)
        self._working.add(work)
        work.add_done_callback(self._working.discard)
        return asyncio.wrap_future(work)

    async def _in_worker(self, call: Callable[..., T], *args: Any) -> T:
        """Run a call in a worker thread; if cancelled, stay until the thread is done with it."""
        work = self._start(lambda: call(*args))
        try:
            return await asyncio.shield(work)
        except asyncio.CancelledError:
            await asyncio.wait([work])
            raise


def _refuse_constraints(handle: Handle, head: bytes) -> None:
    """Refuse rows for a table with a CONSTRAINT: the engine would drop them, and report success."""
    target = insert_target(head)
    if target is None:
        return
    try:
        created = handle.run(b"SHOW CREATE TABLE " + target)[0]
    except QueryFailure:
        # Not there, or not to be looked at: the INSERT itself says so.
        return
    if b" CONSTRAINT " in created.replace(b"\\n", b" "):
        raise QueryFailure.of(
            Code.NOT_IMPLEMENTED,
            f"Expected a table without CONSTRAINT, since the embedded engine does not tell of rows "
            f"that break one; found {target.decode(errors='replace')}. Drop the constraint, or "
            "stage the rows in another table and INSERT … SELECT.",
        )
