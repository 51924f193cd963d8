"""One HTTP exchange over ASGI: the request in pieces, the response in pieces, who still listens."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, MutableMapping
from typing import Any

from atlas.clickhouse.server.encoding import decoder
from atlas.clickhouse.server.failure import Code, QueryFailure

__all__ = ["Body", "ClientGone", "Exchange", "Receive", "Scope", "Send"]

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

# Ids and settings are repeated in headers, which they must not end.
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
# Below this a codec is quicker than the way to another thread and back.
_INLINE_BYTES = 64 << 10


class ClientGone(Exception):
    """The client closed the connection, or takes nothing any more, before the exchange was over."""


class Body:
    """A request's decoded body, of which the beginning can be looked at without taking it."""

    def __init__(self, receive: Receive, encoding: str, max_idle_seconds: float) -> None:
        self._receive = receive
        self._max_idle_seconds = max_idle_seconds
        self._decoder = decoder(encoding)
        self._ahead = bytearray()
        self.complete = False

    def prepend(self, start: bytes) -> None:
        """Put bytes before what is still unread."""
        self._ahead[:0] = start

    async def peek(self, size: int) -> bytes:
        """Return the next `size` bytes, or as many as there are, and leave them."""
        while len(self._ahead) < size and not self.complete:
            self._ahead += await self._receive_piece(size)
        return bytes(self._ahead)

    async def whole(self, limit: int) -> bytes:
        """Take all that is left.

        Raises
        ------
        QueryFailure
            If it is longer than `limit`.
        """
        body = await self.peek(limit + 1)
        if len(body) > limit:
            raise QueryFailure.of(
                Code.QUERY_IS_TOO_LARGE,
                f"Expected a statement of at most {limit} bytes. Send rows behind INSERT … FORMAT.",
            )
        self._ahead.clear()
        return body

    async def pieces(self, size: int) -> AsyncIterator[bytes]:
        """Take what is left in pieces of about `size` bytes."""
        if self._ahead:
            yield bytes(self._ahead)
            self._ahead.clear()
        while not self.complete:
            piece = await self._receive_piece(size)
            if piece:
                yield piece

    def skip(self, size: int) -> None:
        """Take bytes that have been looked at."""
        del self._ahead[:size]

    async def _receive_piece(self, size: int) -> bytes:
        """Wait for some `size` bytes as they were sent, then decode them in one go."""
        parts: list[bytes] = []
        while size > 0 and not self.complete:
            message = await self._next_message()
            if message["type"] == "http.disconnect":
                raise ClientGone
            parts.append(message.get("body", b""))
            size -= len(parts[-1])
            self.complete = not message.get("more_body", False)
        received = b"".join(parts)
        if self._decoder is None:
            return received
        if len(received) <= _INLINE_BYTES:
            decoded = self._decoder.decode(received)
        else:
            decoded = await asyncio.to_thread(self._decoder.decode, received)
        if self.complete:
            self._decoder.finish()
        return decoded

    async def _next_message(self) -> MutableMapping[str, Any]:
        try:
            async with asyncio.timeout(self._max_idle_seconds):
                return await self._receive()
        except TimeoutError:
            raise QueryFailure.of(
                Code.SOCKET_TIMEOUT,
                f"Timeout exceeded: nothing came within {self._max_idle_seconds:g} s.",
            ) from None


class Exchange:
    """A request on its way to a response.

    Parameters
    ----------
    max_idle_seconds : float
        How long the client may neither send nor take anything.
    """

    def __init__(
        self, scope: Scope, receive: Receive, send: Send, *, max_idle_seconds: float
    ) -> None:
        self.method: str = scope["method"]
        self.path: str = scope["path"]
        self.query_string: bytes = scope["query_string"]
        self.headers: Mapping[str, str] = {
            name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]
        }
        self._receive = receive
        self._send = send
        self._max_idle_seconds = max_idle_seconds
        self.started = False

    def body(self) -> Body:
        """Return the request's body; once."""
        encoding = self.headers.get("content-encoding", "").lower()
        return Body(self._receive, encoding, self._max_idle_seconds)

    async def client_gone(self) -> None:
        """Return when the client closes the connection; only after the body has been read."""
        while (await self._receive())["type"] != "http.disconnect":
            pass

    async def begin(self, status: int, headers: Mapping[str, str]) -> None:
        """Send the status and the headers; without a Content-Length the body is sent in chunks."""
        self.started = True
        fields = [
            (name.lower().encode(), _CONTROL.sub("?", value).encode("latin-1", "replace"))
            for name, value in headers.items()
        ]
        await self._send({"type": "http.response.start", "status": status, "headers": fields})

    async def write(self, piece: bytes, *, last: bool = False) -> None:
        """Send a piece of the body; waits while the client does not keep up.

        Raises
        ------
        ClientGone
            If it takes nothing for too long.
        """
        try:
            async with asyncio.timeout(self._max_idle_seconds):
                await self._send(
                    {"type": "http.response.body", "body": piece, "more_body": not last}
                )
        except TimeoutError:
            raise ClientGone from None

    async def respond(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        """Send a whole response."""
        await self.begin(status, {**headers, "Content-Length": str(len(body))})
        await self.write(body, last=True)
