"""The pipe through which the engine hands a result over: it waits when nobody reads."""

from __future__ import annotations

import asyncio
import fcntl
import os
import sys
from contextlib import suppress

__all__ = ["ResultPipe"]

_PIECE_BYTES = 1 << 20


class ResultPipe:
    """A pipe that the engine opens by path, in its own threads, and the event loop reads."""

    def __init__(self) -> None:
        self._reader, self._writer = os.pipe()
        os.set_blocking(self._reader, False)
        if sys.platform == "linux":
            # Fewer, larger pieces; refused once a user's pipes hold 64 MB, which does no harm.
            with suppress(PermissionError):
                fcntl.fcntl(self._reader, fcntl.F_SETPIPE_SZ, _PIECE_BYTES)

    @property
    def path(self) -> str:
        """Where the engine finds the writing end."""
        return f"/dev/fd/{self._writer}"

    async def read(self) -> bytes:
        """Return the next bytes, at most 1 MiB; none at the end."""
        while True:
            try:
                return os.read(self._reader, _PIECE_BYTES)
            except BlockingIOError:
                await self._readable()

    def close_writer(self) -> None:
        """Let the reader see the end, once the engine too has closed its side."""
        os.close(self._writer)

    def close_reader(self) -> None:
        """Read no more: the engine's next write fails."""
        os.close(self._reader)

    async def _readable(self) -> None:
        loop = asyncio.get_running_loop()
        ready: asyncio.Future[None] = loop.create_future()
        loop.add_reader(self._reader, _wake, ready)
        try:
            await ready
        finally:
            loop.remove_reader(self._reader)


def _wake(ready: asyncio.Future[None]) -> None:
    if not ready.done():
        ready.set_result(None)
