"""How the HTTP server runs inside the worker's event loop, under the worker's signals."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn
from starlette.types import ASGIApp

from atlas.errors import PortTaken

__all__ = ["HttpServer", "listen"]

_FINISH_WITHIN_S = 3


class _Server(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        # The worker stops the server last, when its rows are finished; uvicorn would stop first.
        yield


class HttpServer:
    """Serves an application on a socket that listens already."""

    def __init__(self, app: ASGIApp, listener: socket.socket) -> None:
        config = uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            lifespan="off",
            ws="none",
            timeout_graceful_shutdown=_FINISH_WITHIN_S,
        )
        self._server = _Server(config)
        self._listener = listener

    async def serve(self) -> None:
        """Serve until `stop`."""
        await self._server.serve(sockets=[self._listener])

    def stop(self) -> None:
        """Answer what has been asked, and end."""
        self._server.should_exit = True


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens there.

    Raises
    ------
    PortTaken
        If another program does.
    """
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(128)
    except OSError as error:
        listener.close()
        raise PortTaken(
            f"Expected {host}:{port} to be free for the worker; found: {error.strerror}. "
            "Stop what listens there, or set ATLAS_WORKER_PORT."
        ) from error
    return listener
