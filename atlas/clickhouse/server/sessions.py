"""HTTP sessions: those that changed a setting or made a temporary table keep a handle."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from atlas.clickhouse.server.engine import Engine, Handle
from atlas.clickhouse.server.failure import Code, QueryFailure

__all__ = ["Session", "Sessions"]


@dataclass(slots=True)
class Session:
    """One client's state between its requests; most never have any."""

    expires: float
    handle: Handle | None = None
    busy: bool = False


class Sessions:
    """The sessions in use, by id; used from the event loop only."""

    def __init__(self, engine: Engine, max_sessions: int) -> None:
        self._engine = engine
        self._max_sessions = max_sessions
        self._sessions: dict[str, Session] = {}

    @contextmanager
    def use(
        self, session_id: str, *, timeout_seconds: float, must_exist: bool, close: bool
    ) -> Iterator[Session | None]:
        """Hold the session for one statement; without an id there is none.

        Raises
        ------
        QueryFailure
            If it is in use (SESSION_IS_LOCKED), or unknown but has to exist (SESSION_NOT_FOUND).
        """
        if not session_id:
            yield None
            return
        self._forget_expired()
        session = self._sessions.get(session_id)
        if session is None:
            if must_exist:
                raise QueryFailure.of(Code.SESSION_NOT_FOUND, f"Session {session_id} not found.")
            session = self._sessions[session_id] = Session(expires=0.0)
        if session.busy:
            raise QueryFailure.of(
                Code.SESSION_IS_LOCKED, f"Session {session_id} is locked by a concurrent client."
            )
        session.busy = True
        try:
            yield session
        finally:
            session.busy = False
            session.expires = time.monotonic() + (0.0 if close else timeout_seconds)

    def give_handle(self, session: Session) -> None:
        """Let the session keep what its next statement changes.

        Raises
        ------
        QueryFailure
            If too many sessions hold state already.
        """
        if session.handle is not None:
            return
        held = sum(other.handle is not None for other in self._sessions.values())
        if held >= self._max_sessions:
            raise QueryFailure.of(
                Code.LIMIT_EXCEEDED,
                f"{held} sessions hold settings or temporary tables, which is the most. "
                "Wait until some expire, or send close_session=1 with a session's last statement.",
            )
        session.handle = self._engine.handle()

    def close(self) -> None:
        """Drop all."""
        for session in self._sessions.values():
            if session.handle is not None:
                session.handle.close()
        self._sessions.clear()

    def _forget_expired(self) -> None:
        now = time.monotonic()
        for session_id, session in list(self._sessions.items()):
            if not session.busy and session.expires <= now:
                del self._sessions[session_id]
                if session.handle is not None:
                    session.handle.close()
