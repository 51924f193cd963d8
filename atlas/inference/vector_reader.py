"""How vectors are read: all in one round trip, and alone where one symbol spoils the others."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

import numpy as np
from redis.asyncio import Redis as AsyncRedis

from atlas.bus import reaching
from atlas.errors import AtlasError
from atlas.inference.parts import Parts
from atlas.online import History, OnlineReader, Vectors
from atlas.serving import ReadPlan

__all__ = ["ReadHistories", "ReadVectors", "VectorReader"]

Found = TypeVar("Found", Vectors, History)


@dataclass(frozen=True, slots=True)
class ReadVectors:
    """Vectors, and whose they are."""

    vectors: Vectors
    position: Mapping[str, int]
    """Symbol to its row in `vectors`; a symbol whose bytes are not a row has none."""


@dataclass(frozen=True, slots=True)
class ReadHistories:
    """The last rows of symbols, and whose they are."""

    history: History
    position: Mapping[str, int]
    """Symbol to its place in `history`; a symbol whose bytes are no rows has none."""


class VectorReader:
    """Reads last rows by plan; a symbol that cannot be read degrades that symbol only."""

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
        reader = self._reader(plan)
        position, parts = await self._ask(plan, symbols, lambda keys: reader.read(keys, now=now))
        if len(parts) == 1:
            return ReadVectors(parts[0], position)
        none = np.empty((0, len(plan.features)))
        parts = [Vectors(none, none.astype(np.uint8), np.empty(0, np.int64)), *parts]
        vectors = Vectors(
            np.concatenate([part.values for part in parts]),
            np.concatenate([part.status for part in parts]),
            np.concatenate([part.event_ts for part in parts]),
        )
        return ReadVectors(vectors, position)

    async def histories(
        self, plan: ReadPlan, symbols: Sequence[str], n: int, *, now: datetime
    ) -> ReadHistories:
        """Return the last n rows of each symbol, each given once, in one round trip.

        Raises
        ------
        StoreUnavailable
            If Redis does not answer.
        """
        reader = self._reader(plan)

        async def ask(keys: Sequence[str]) -> History:
            return await reader.history(keys, n, now=now)

        position, parts = await self._ask(plan, symbols, ask)
        if len(parts) == 1:
            return ReadHistories(parts[0], position)
        parts = [await ask([]), *parts]
        history = History(
            np.concatenate([part.values for part in parts]),
            np.concatenate([part.event_ts for part in parts]),
            np.concatenate([part.n_rows for part in parts]),
            np.concatenate([part.status for part in parts]),
            np.concatenate([part.known_ts for part in parts]),
        )
        return ReadHistories(history, position)

    def _reader(self, plan: ReadPlan) -> OnlineReader:
        reader = self._readers.get(plan)
        if reader is None:
            reader = self._readers[plan] = OnlineReader(self._redis, plan)
        return reader

    async def _ask(
        self,
        plan: ReadPlan,
        symbols: Sequence[str],
        question: Callable[[Sequence[str]], Awaitable[Found]],
    ) -> tuple[dict[str, int], list[Found]]:
        """Return the answer for all symbols, or one for each that can be read; and their places."""
        try:
            found = await question(symbols)
        except AtlasError:
            await self._require_redis()
        else:
            if self._unreadable:
                for symbol in symbols:
                    self._reads(plan, symbol)
            return {symbol: i for i, symbol in enumerate(symbols)}, [found]
        alone: dict[str, Found] = {}
        for symbol in symbols:
            try:
                alone[symbol] = await question([symbol])
            except AtlasError as error:
                await self._require_redis()
                self._unreadable.add(_part(plan, symbol))
                self._parts.fails(_part(plan, symbol), error)
            else:
                self._reads(plan, symbol)
        return {symbol: i for i, symbol in enumerate(alone)}, list(alone.values())

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
