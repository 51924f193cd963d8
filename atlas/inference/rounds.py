"""Interval mode: rows that nobody told of are looked for, every so often, and told of.

What is found goes the way of every row, through the stream: it is served by the worker that has its
partition, in order, recorded with its prediction, and said once. A row that was told of is not told
of again, by whichever worker.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from redis.asyncio import Redis as AsyncRedis

from atlas.bus.rows import tell_newer_async
from atlas.clock import from_micros, wall_micros
from atlas.inference.lineup import Lineups
from atlas.inference.parts import Parts
from atlas.inference.vector_reader import VectorReader

__all__ = ["Rounds"]

# One script call holds Redis for some milliseconds at most.
_SYMBOLS_PER_CALL = 500


class Rounds:
    """Looks for the newest rows of the symbols that the models in service were trained on."""

    def __init__(
        self, redis: AsyncRedis, lineups: Lineups, reader: VectorReader, parts: Parts
    ) -> None:
        self._redis = redis
        self._lineups = lineups
        self._reader = reader
        self._parts = parts

    async def run(self, every: timedelta) -> None:
        """Look once an interval until the worker stops."""
        while not await self._parts.stopped_within(every.total_seconds()):
            for view in self._lineups.views:
                await self.look(view)
            self._parts.works("rounds")

    async def look(self, view: str) -> int:
        """Tell of the rows of a view that nobody told of; return how many there were.

        Raises
        ------
        StoreUnavailable
            If Redis does not answer.
        """
        told = 0
        for reading, models in self._lineups.of_view(view).items():
            symbols = sorted({name for model in models for name in model.manifest.symbols})
            # Only when the row is of is asked here; who serves it reads the rest.
            plan = replace(reading.plan, features=(), kinds=(), ttl_us=0)
            for start in range(0, len(symbols), _SYMBOLS_PER_CALL):
                some = symbols[start : start + _SYMBOLS_PER_CALL]
                read = await self._reader.read(plan, some, now=from_micros(wall_micros()))
                events = read.vectors.event_ts
                newest = {name: int(events[at]) for name, at in read.position.items() if events[at]}
                told += await tell_newer_async(self._redis, view, newest)
        return told
