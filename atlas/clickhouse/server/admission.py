"""How many statements run at once, and how many may wait for their turn."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from atlas.clickhouse.server.failure import Code, QueryFailure
from atlas.clickhouse.server.limits import Limits

__all__ = ["Admission"]


class Admission:
    """Places for running statements, first come, first served."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._places = asyncio.Semaphore(limits.max_running)
        self._waiting = 0

    @asynccontextmanager
    async def place(self) -> AsyncIterator[None]:
        """Hold a place; wait for one if all are taken.

        Raises
        ------
        QueryFailure
            TOO_MANY_SIMULTANEOUS_QUERIES, if too many wait already or the wait is too long.
        """
        if self._places.locked():
            await self._wait()
        else:
            await self._places.acquire()
        try:
            yield
        finally:
            self._places.release()

    async def _wait(self) -> None:
        limits = self._limits
        if self._waiting >= limits.max_waiting:
            raise QueryFailure.of(
                Code.TOO_MANY_SIMULTANEOUS_QUERIES,
                f"Too many simultaneous queries: {limits.max_running} are running and "
                f"{self._waiting} are waiting. Try again later.",
            )
        self._waiting += 1
        try:
            async with asyncio.timeout(limits.max_wait_seconds):
                await self._places.acquire()
        except TimeoutError:
            raise QueryFailure.of(
                Code.TOO_MANY_SIMULTANEOUS_QUERIES,
                f"Too many simultaneous queries: none of {limits.max_running} ended within "
                f"{limits.max_wait_seconds:g} s. Try again later.",
            ) from None
        finally:
            self._waiting -= 1
