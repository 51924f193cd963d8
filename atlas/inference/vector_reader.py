"""How vectors are read: all in one round trip, and alone where one symbol spoils the others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
from redis.asyncio import Redis as AsyncRedis

from atlas.bus import reaching
from atlas.errors import AtlasError
from atlas.inference.parts import Parts
from atlas.online import OnlineReader, Vectors
from atlas.serving import ReadPlan

__all__ = ["ReadVectors", "VectorReader"]


@dataclass(frozen=True, slots=True)
class ReadVectors:
    """Vectors, and whose they are."""

    vectors: Vectors
    position: Mapping[str, int]
    """Symbol to its row in `vectors`; a symbol whose bytes are not a row has none."""


class VectorReader:
    """Reads newest rows by plan; a symbol that cannot be read degrades that symbol only."""

    def __init__(self, redis: AsyncRedis, parts: Parts) -> None:
        self._redis = redis
        self._parts = parts
        self._readers: dict[ReadPlan, OnlineReader] = {}
        self._unreadable: set[str] = set()

    async def read(self, plan: ReadPlan, symbols: Sequence[str], *, now: datetime) -> ReadVectors:
        """Return the newest row of each symbol, each given once, in one round trip.

        Raises
        ------
        StoreUnavailable
            If Redis does not answer.
        """
        reader = self._readers.get(plan)
        if reader is None:
            reader = self._readers[plan] = OnlineReader(self._redis, plan)
        try:
            vectors = await reader.read(symbols, now=now)
        except AtlasError:
            await self._require_redis()
            return await self._one_by_one(reader, plan, symbols, now)
        if self._unreadable:
            for symbol in symbols:
                self._reads(plan, symbol)
        return ReadVectors(vectors, {symbol: i for i, symbol in enumerate(symbols)})

    async def _one_by_one(
        self, reader: OnlineReader, plan: ReadPlan, symbols: Sequence[str], now: datetime
    ) -> ReadVectors:
        read: dict[str, Vectors] = {}
        for symbol in symbols:
            try:
                read[symbol] = await reader.read([symbol], now=now)
            except AtlasError as error:
                await self._require_redis()
                self._unreadable.add(_part(plan, symbol))
                self._parts.fails(_part(plan, symbol), error)
            else:
                self._reads(plan, symbol)
        none = np.empty((0, len(plan.features)))
        parts = [Vectors(none, none.astype(np.uint8), np.empty(0, np.int64)), *read.values()]
        vectors = Vectors(
            np.concatenate([part.values for part in parts]),
            np.concatenate([part.status for part in parts]),
            np.concatenate([part.event_ts for part in parts]),
        )
        return ReadVectors(vectors, {symbol: i for i, symbol in enumerate(read)})

    def _reads(self, plan: ReadPlan, symbol: str) -> None:
        part = _part(plan, symbol)
        if part in self._unreadable:
            self._unreadable.remove(part)
            self._parts.works(part)

    async def _require_redis(self) -> None:
        """Raise `StoreUnavailable` if Redis is away: nothing can then be said of any symbol."""
        with reaching(self._redis):
            reply: Any = self._redis.ping()
            await reply


def _part(plan: ReadPlan, symbol: str) -> str:
    return f"row:{plan.view}:{symbol}"
