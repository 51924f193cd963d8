"""How a question over HTTP is answered: what does this model say of these symbols now?

An answer is computed of the newest rows, exactly as a signal is, but it is no signal: it is neither
published nor recorded, and a halt does not concern it.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from redis.asyncio import Redis as AsyncRedis

from atlas.bus import AsyncRedisClock
from atlas.clock import from_micros
from atlas.decision import centre_of, on_grid, sides
from atlas.errors import AtlasError
from atlas.inference.candidate import ServedModel
from atlas.inference.lineup import Lineups
from atlas.inference.vector_reader import ReadVectors, VectorReader
from atlas.inference.vectors import Unusable, judge
from atlas.serving import Manifest, Stage

__all__ = ["Answer", "Enquiries", "EnquiryRefused", "Opinion"]


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


@dataclass(frozen=True, slots=True)
class Answer:
    """What one model version says of all symbols asked for, in their order."""

    manifest: Manifest
    opinions: tuple[Opinion, ...]
    latency_us: int


class Enquiries:
    """Answers questions with the models in service."""

    def __init__(self, redis: AsyncRedis, lineups: Lineups, reader: VectorReader) -> None:
        self._clock = AsyncRedisClock(redis)
        self._lineups = lineups
        self._reader = reader

    async def ask(self, model: str, symbols: Sequence[str], stage: Stage | None = None) -> Answer:
        """Return what a model says: its version at that stage, or else the one nearest to live.

        Raises
        ------
        EnquiryRefused
            503 when no version serves, 404 for a symbol without a row, 409 for a stale row, 422
            for a row that is not fit to be scored. One such symbol refuses the whole question.
        StoreUnavailable
            If Redis does not answer.
        """
        started = time.perf_counter_ns()
        served = self._serving(model, stage)
        manifest = served.manifest
        distinct = list(dict.fromkeys(symbols))
        for symbol in distinct:
            if not manifest.speaks_of(symbol):
                raise EnquiryRefused(
                    404,
                    f"{manifest.model}/{manifest.version} was trained on "
                    f"{', '.join(manifest.symbols)}; it says nothing of {symbol}.",
                )
        now = await self._clock.now()
        read = await self._reader.read(manifest.plan, distinct, now=now)
        rows = self._fit(manifest, distinct, read)
        scored = await served.lane.score(rows)
        if scored.error is not None:
            raise EnquiryRefused(
                500, f"{manifest.model}/{manifest.version} failed on its rows: {scored.error}"
            )
        side = sides(scored.scores, manifest.threshold, centre=centre_of(manifest.task))
        event_us = read.vectors.event_ts
        decides = on_grid(event_us, served.interval_us, manifest.decision_bars)
        opinions = {
            symbol: Opinion(
                symbol, int(event_us[i]), float(scored.scores[i]), int(side[i]), bool(decides[i])
            )
            for i, symbol in enumerate(distinct)
        }
        latency_us = (time.perf_counter_ns() - started) // 1_000
        return Answer(manifest, tuple(opinions[symbol] for symbol in symbols), latency_us)

    def _serving(self, model: str, stage: Stage | None) -> ServedModel:
        lineup = self._lineups.of_model(model)
        models = lineup.models if lineup else ()
        for served in models:  # live first
            if stage is None or served.manifest.stage is stage:
                return served
        names = sorted(name for name, lineup in self._lineups if lineup.models)
        raise EnquiryRefused(
            503,
            f"Expected a {stage or 'served'} version of model {model!r}; found none. "
            f"In service: {', '.join(names) or 'no model'}. Deploy one with `atlas deploy`.",
        )

    @staticmethod
    def _fit(
        manifest: Manifest, symbols: Sequence[str], read: ReadVectors
    ) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
        view, vectors = manifest.plan.view, read.vectors
        for symbol in symbols:
            if symbol not in read.position:
                raise EnquiryRefused(
                    422, f"The row of {symbol} in {view} is not readable: materialise it again."
                )
            if vectors.event_ts[read.position[symbol]] == 0:
                raise EnquiryRefused(
                    404,
                    f"Expected a row of {symbol} in {view}; found none. Is the symbol right, and "
                    "has it been materialised?",
                )
        values = vectors.values.astype(np.float32)
        for symbol, reason in zip(symbols, judge(values, vectors.status), strict=True):
            if reason is not None:
                since = from_micros(int(vectors.event_ts[read.position[symbol]]))
                raise EnquiryRefused(
                    409 if reason is Unusable.STALE else 422,
                    f"Expected a fresh and warm row of {symbol} in {view}; the newest, of "
                    f"{since:%Y-%m-%d %H:%M:%S} UTC, is {_WORDS[reason]}.",
                )
        return values


_WORDS = {
    Unusable.STALE: "stale: nothing newer has come within the view's time to live",
    Unusable.MISSING: "without some of the model's features: materialise the view again",
    Unusable.NOT_WARM: "not warm: over half of its features are null",
    Unusable.NOT_FINITE: "not finite: a feature is beyond what the model takes",
}
