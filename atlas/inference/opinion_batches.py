"""How questions that come together are answered together: one read and one call of the model.

A question that finds nobody else's being answered by its model is answered at once. Others wait
for that answer, which is of 1 000 rows and some milliseconds at most, and are then one batch.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

import numpy as np
from redis.asyncio import Redis as AsyncRedis

from atlas.bus import AsyncRedisClock
from atlas.clock import from_micros
from atlas.decision import centre_of, on_grid, sides
from atlas.errors import AtlasError
from atlas.inference.candidate import ServedModel
from atlas.inference.vector_reader import VectorReader
from atlas.inference.vectors import Newest, Unusable, judge
from atlas.inference.window_reader import newest_windows
from atlas.serving import Manifest

__all__ = ["EnquiryRefused", "Opinion", "OpinionBatches"]

_BATCH = 1_000


class EnquiryRefused(AtlasError):
    """A question that has no answer at present."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        """HTTP status that says the same."""


@dataclass(frozen=True, slots=True)
class Opinion:
    """What the model says of one symbol."""

    symbol: str
    event_us: int
    score: float
    side: int
    decides: bool


_Told = dict[str, Opinion | EnquiryRefused]


@dataclass(slots=True)
class _Queue:
    served: ServedModel
    waiting: deque[tuple[Sequence[str], asyncio.Future[_Told]]] = field(default_factory=deque)
    work: asyncio.Task[None] | None = None


class OpinionBatches:
    """Puts the questions to each model in service together."""

    def __init__(self, redis: AsyncRedis, reader: VectorReader) -> None:
        self._clock = AsyncRedisClock(redis)
        self._reader = reader
        self._queues: dict[int, _Queue] = {}

    async def ask(self, served: ServedModel, symbols: Sequence[str]) -> list[Opinion]:
        """Return what a model says of each symbol, in order.

        Raises
        ------
        EnquiryRefused
            The first symbol's that has no answer.
        StoreUnavailable
            If Redis does not answer.
        """
        queue = self._queues.setdefault(id(served), _Queue(served))
        told: asyncio.Future[_Told] = asyncio.get_running_loop().create_future()
        queue.waiting.append((symbols, told))
        if queue.work is None:
            queue.work = asyncio.create_task(self._work(queue))
        answers = await told
        opinions = []
        for symbol in symbols:
            said = answers[symbol]
            if isinstance(said, EnquiryRefused):
                raise EnquiryRefused(said.status, str(said))
            opinions.append(said)
        return opinions

    async def _work(self, queue: _Queue) -> None:
        while queue.waiting:
            symbols: dict[str, None] = {}
            asked: list[asyncio.Future[_Told]] = []
            while queue.waiting and len(symbols) < _BATCH:
                names, told = queue.waiting.popleft()
                symbols.update(dict.fromkeys(names))
                asked.append(told)
            try:
                answers = await self._answers(queue.served, list(symbols))
            except Exception as error:
                for told in asked:
                    if not told.done():  # its client may have gone
                        told.set_exception(error)
            else:
                for told in asked:
                    if not told.done():
                        told.set_result(answers)
        del self._queues[id(queue.served)]

    async def _answers(self, served: ServedModel, symbols: Sequence[str]) -> _Told:
        manifest = served.manifest
        newest = await self._newest(manifest, symbols, await self._clock.now())
        answers, fit = _refusals(manifest, symbols, newest)
        scored = await served.lane.score(newest.values[fit])
        side = sides(scored.scores, manifest.threshold, centre=centre_of(manifest.task))
        event_us = newest.event_us[fit]
        decides = on_grid(event_us, served.interval_us, manifest.decision_bars)
        for i, at in enumerate(fit):
            symbol, score = newest.symbols[at], float(scored.scores[i])
            if np.isnan(score):
                answers[symbol] = EnquiryRefused(
                    500,
                    f"{manifest.model}/{manifest.version} failed on the row of {symbol}: "
                    f"{scored.error}",
                )
            else:
                answers[symbol] = Opinion(
                    symbol, int(event_us[i]), score, int(side[i]), bool(decides[i])
                )
        return answers

    async def _newest(self, manifest: Manifest, symbols: Sequence[str], now: datetime) -> Newest:
        plan = manifest.plan
        if manifest.window > 1:
            return await newest_windows(self._reader, plan, manifest.window, symbols, now=now)
        read = await self._reader.read(plan, symbols, now=now)
        values = read.vectors.values.astype(np.float32)
        reasons = tuple(judge(values, read.vectors.status))
        return Newest(tuple(read.position), read.vectors.event_ts, values, reasons)


def _refusals(
    manifest: Manifest, symbols: Sequence[str], newest: Newest
) -> tuple[_Told, list[int]]:
    """Return why symbols have no answer, and which rows can be scored."""
    view = manifest.plan.view
    refused: _Told = {
        symbol: EnquiryRefused(
            422, f"The row of {symbol} in {view} is not readable: materialise it again."
        )
        for symbol in set(symbols) - set(newest.symbols)
    }
    fit = []
    for i, (symbol, reason) in enumerate(zip(newest.symbols, newest.reasons, strict=True)):
        if newest.event_us[i] == 0:
            refused[symbol] = EnquiryRefused(
                404,
                f"Expected a row of {symbol} in {view}; found none. Is the symbol right, and has "
                "it been materialised?",
            )
        elif reason is not None:
            since = from_micros(int(newest.event_us[i]))
            refused[symbol] = EnquiryRefused(
                409 if reason is Unusable.STALE else 422,
                f"Expected a fresh and warm row of {symbol} in {view}; the newest, of "
                f"{since:%Y-%m-%d %H:%M:%S} UTC, is {_WORDS[reason]}.",
            )
        else:
            fit.append(i)
    return refused, fit


_WORDS = {
    Unusable.STALE: "stale: nothing newer has come within the view's time to live",
    Unusable.MISSING: "without some of the model's features: materialise the view again",
    Unusable.NOT_WARM: "not warm: over half of its features are null",
    Unusable.SHORT_HISTORY: "one of too few: the model looks back on more rows",
    Unusable.NOT_FINITE: "not finite: a feature is beyond what the model takes",
}
