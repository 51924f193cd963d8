"""The regime service: reads the newest rows of all symbols, moves their regimes on, and tells.

Each look reads in one round trip. Where Redis keeps fewer rows than have come since a symbol's last
one, the offline store gives the others; a row is never passed over. What is read is computed in a
thread, so the event loop waits for no model and no store.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import TypeVar

import numpy as np
from redis import Redis
from redis.asyncio import Redis as AsyncRedis

from atlas.bus import reaching
from atlas.bus.regimes import read_regime_states
from atlas.clock import from_micros, wall_micros
from atlas.errors import AtlasError, NotEnoughData
from atlas.features import RegimeSet
from atlas.inference.parts import Parts
from atlas.inference.regimes.history import RegimeHistory
from atlas.inference.regimes.publisher import RegimePublisher
from atlas.inference.vector_reader import ReadHistories, VectorReader
from atlas.regimes import Checkpoint, LiveRegime, Moved, Rows, SteadyRules, blob_of
from atlas.registry import BlobStore
from atlas.telemetry import get_logger

__all__ = ["SIGNATURE_KEY", "RegimeService"]

log = get_logger(__name__)

SIGNATURE_KEY = "atlas:regimes:alive"
_EXPIRES_S = 30
# Rows of each symbol in a usual round: the newest, and some that came since the last round.
_ROWS = 4
_SYMBOLS_AT_ONCE = 100
_LOOK_FOR_MODELS_S = 30.0

Found = TypeVar("Found")


class RegimeService:
    """Keeps the regime of every symbol that has a regime model.

    Parameters
    ----------
    history : RegimeHistory
        Tells which models speak, and gives rows that Redis keeps no longer.
    rules, max_empty
        As for `LiveRegime`.
    """

    def __init__(
        self,
        regimes: RegimeSet,
        *,
        redis: Redis,
        redis_async: AsyncRedis,
        history: RegimeHistory,
        blobs: BlobStore,
        parts: Parts,
        rules: SteadyRules,
        max_empty: float = 0.5,
    ) -> None:
        self._regimes = regimes
        self._redis = redis
        self._redis_async = redis_async
        self._reader = VectorReader(redis_async, parts)
        self._history = history
        self._blobs = blobs
        self._parts = parts
        self._rules = rules
        self._max_empty = max_empty
        self._publisher = RegimePublisher(redis, regimes)
        # A regime goes on from row to row, so a row is read however late; who asks sees its age.
        self._plan = replace(regimes.source.plan, ttl_us=0)
        self._columns = [self._plan.features.index(name) for name in regimes.recipe.names]
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="regimes")
        self._live: dict[str, LiveRegime] = {}
        self._checkpoints: dict[str, Checkpoint] = {}
        self._models_at = float("-inf")

    async def run(self, period: timedelta) -> None:
        """Look once a period until told to stop."""
        while not self._parts.stopping.is_set():
            started = time.monotonic()
            await self.look()
            self._parts.works("regimes")
            await self._parts.stopped_within(
                max(0.0, period.total_seconds() - (time.monotonic() - started))
            )

    def close(self) -> None:
        """End the thread after what it is doing, and leave the offline store."""
        self._thread.shutdown()
        self._history.close()

    async def look(self) -> int:
        """Read what has come since the last look and tell it; return how many symbols moved.

        Raises
        ------
        StoreUnavailable
            If Redis does not answer.
        """
        if time.monotonic() - self._models_at > _LOOK_FOR_MODELS_S:
            await self._aside(self._find_models)
        moved = 0
        if self._checkpoints:
            await self._aside(self._take_up)
            moved = await self._move_on(list(self._live))
        with reaching(self._redis_async):
            await self._redis_async.set(SIGNATURE_KEY, os.getpid(), ex=_EXPIRES_S)
        return moved

    async def _move_on(self, symbols: Sequence[str]) -> int:
        moves: dict[str, Moved] = {}
        lagging = await self._advance(symbols, min(_ROWS, self._plan.depth), moves, {})
        # Many rows of many symbols would hold the event loop while they are decoded.
        for start in range(0, len(lagging), _SYMBOLS_AT_ONCE):
            some = lagging[start : start + _SYMBOLS_AT_ONCE]
            behind = await self._advance(some, self._plan.depth, moves, {})
            if behind:
                after = {symbol: self._live[symbol].event_us for symbol in behind}
                stored = await self._aside(partial(self._stored, after))
                for symbol in await self._advance(behind, self._plan.depth, moves, stored):
                    self._tell_gap(symbol)
        return await self._aside(partial(self._publish, moves))

    async def _advance(
        self,
        symbols: Sequence[str],
        depth: int,
        moves: dict[str, Moved],
        stored: Mapping[str, Rows],
    ) -> list[str]:
        """Read and move symbols on; return those of whom a row may be missing."""
        now = from_micros(wall_micros())
        read = await self._reader.histories(self._plan, symbols, depth, now=now)
        return await self._aside(partial(self._take_in, read, moves, stored))

    def _take_in(
        self, read: ReadHistories, moves: dict[str, Moved], stored: Mapping[str, Rows]
    ) -> list[str]:
        lagging = []
        for symbol in read.position.keys() & self._live.keys():
            live, kept = self._live[symbol], self._rows(read, symbol)
            if not len(kept):
                continue
            if kept.event_us[-1] < live.event_us:
                if live.has_read:
                    self._wound_back(symbol)
                continue
            rows = self._joined(live, kept, stored.get(symbol))
            if rows is None:
                lagging.append(symbol)
                continue
            try:
                moved = live.update(rows)
            except AtlasError as error:
                self._parts.fails(_part(symbol), error)
                self._live.pop(symbol)
                continue
            if moved is not None:
                moves[symbol] = moved
            if rows.event_us[-1] >= live.until_us:
                self._tell_refit(symbol)
            else:
                self._parts.works(_part(symbol))
        return sorted(lagging)

    def _joined(self, live: LiveRegime, kept: Rows, stored: Rows | None) -> Rows | None:
        """Return all rows since the last one read, or None where some may be missing."""
        if kept.event_us[0] <= live.event_us:
            return kept
        first, last = int(kept.event_us[0]), live.event_us
        if stored is None or not len(stored):
            return None if first - last > self._regimes.interval.micros else kept
        earlier = stored.after(last, before=first)
        last = int(earlier.event_us[-1]) if len(earlier) else last
        # The offline store is written in order: once it has come so far, nothing lies between.
        reaches = int(stored.event_us[-1]) >= first
        if not reaches and first - last > self._regimes.interval.micros:
            return None
        return Rows(
            *(
                np.concatenate([getattr(earlier, name), getattr(kept, name)])
                for name in ("event_us", "known_us", "inputs")
            )
        )

    def _rows(self, read: ReadHistories, symbol: str) -> Rows:
        history, at = read.history, read.position[symbol]
        n_rows = int(history.n_rows[at])
        first = history.event_ts.shape[1] - n_rows
        return Rows(
            history.event_ts[at, first:],
            history.known_ts[at, first:],
            history.values[at, first:][:, self._columns],
        )

    def _publish(self, moves: Mapping[str, Moved]) -> int:
        told = 0
        try:
            moved = self._publisher.publish(
                {symbol: (moves[symbol], self._live[symbol]) for symbol in moves}
            )
            for symbol, is_new in moved.items():
                told += is_new
                if not is_new:  # another service was quicker, or Redis was put back
                    self._live.pop(symbol)
        except AtlasError:
            # What is in memory is ahead of what is told: it is taken up again from Redis.
            for symbol in moves:
                self._live.pop(symbol, None)
            raise
        return told

    def _find_models(self) -> None:
        """Learn which refits speak; without ClickHouse those that did speak on."""
        try:
            versions = self._history.versions()
        except AtlasError as error:
            self._parts.fails("regime_models", error)
            return
        self._models_at = time.monotonic()
        self._parts.works("regime_models")
        for symbol, version in versions.items():
            known = self._checkpoints.get(symbol)
            if known is not None and known.stamp == version:
                continue
            try:
                found = Checkpoint.load(self._blobs.get(blob_of(version)))
            except AtlasError as error:
                self._parts.fails(_part(symbol), error)
                continue
            self._checkpoints[symbol] = found
            self._live.pop(symbol, None)
            log.info("regime_model", symbol=symbol, model_version=version)

    def _take_up(self) -> None:
        """Go on from what was told, for symbols that are not in memory."""
        symbols = sorted(self._checkpoints.keys() - self._live.keys())
        states = read_regime_states(self._redis, self._regimes.view, symbols)
        for symbol, state in zip(symbols, states, strict=True):
            try:
                self._live[symbol] = self._begin(symbol, state)
            except AtlasError as error:
                self._parts.fails(_part(symbol), error)

    def _begin(self, symbol: str, state: str | None) -> LiveRegime:
        def fresh() -> LiveRegime:
            return LiveRegime(
                self._regimes, self._checkpoints[symbol], self._rules, max_empty=self._max_empty
            )

        live = fresh()
        if state is None:
            return live
        try:
            return live.restore(state)
        except AtlasError as error:
            log.warning("regime_state_lost", symbol=symbol, reason=str(error))
            return fresh()

    def _wound_back(self, symbol: str) -> None:
        """Take up anew what is told of a symbol whose market was set back, such as by a replay."""
        [state] = read_regime_states(self._redis, self._regimes.view, [symbol])
        self._live[symbol] = self._begin(symbol, state)

    def _stored(self, behind: Mapping[str, int]) -> dict[str, Rows]:
        try:
            return self._history.rows(behind)
        except AtlasError as error:
            self._parts.fails("regime_rows", error)
            return {}

    def _tell_gap(self, symbol: str) -> None:
        self._parts.fails(
            _part(symbol),
            NotEnoughData(
                f"Expected the rows of {symbol} in {self._plan.view} after "
                f"{from_micros(self._live[symbol].event_us):%Y-%m-%d %H:%M} UTC; neither Redis nor "
                "ClickHouse has all of them. Compute and store them; the regime waits."
            ),
        )

    def _tell_refit(self, symbol: str) -> None:
        view = self._regimes.view
        self._parts.fails(
            _part(symbol),
            NotEnoughData(
                f"Expected a refit of {view} of {symbol} for bars from "
                f"{from_micros(self._live[symbol].until_us):%Y-%m-%d %H:%M} UTC; there is none. "
                f"Make it: atlas features {view}"
            ),
        )

    async def _aside(self, work: Callable[[], Found]) -> Found:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)


def _part(symbol: str) -> str:
    return f"regime:{symbol}"
