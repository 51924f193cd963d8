"""How the rows of one feature view become signals: read, judge, score, publish, record."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, NamedTuple

import numpy as np
from redis.asyncio import Redis as AsyncRedis

from atlas.bus import AsyncRedisClock, Publication, decode_signal, publish_async, reaching
from atlas.clock import to_micros
from atlas.decision import centre_of, on_grid, sides
from atlas.errors import InvalidInput, StoreUnavailable
from atlas.inference.candidate import ServedModel
from atlas.inference.lease import Lease
from atlas.inference.lineup import Lineups
from atlas.inference.metrics import Metrics
from atlas.inference.outbox import Outbox, Prediction
from atlas.inference.parts import Parts
from atlas.inference.row_feed import Entry, Row, RowFeed, parse_row
from atlas.inference.scorer import Scored, Scorer
from atlas.inference.vector_reader import VectorReader
from atlas.inference.vectors import Chosen, Unusable, choose
from atlas.serving import ReadPlan, Signal, signals_stream

__all__ = ["Desk", "Duty", "ViewConsumer"]

_WAIT_S = 0.5
# Together more than all models can have said between a worker's death and its successor's start.
_PAGE = 500
_LOOK_BACK_PAGES = 20


class Duty(StrEnum):
    """What a view's consumer is doing."""

    STARTING = "starting"
    LEADING = "leading"
    """It turns the view's rows into signals."""
    STANDBY = "standby"
    """Another worker does; it would follow within seconds."""
    OUTBOX_FULL = "outbox full"
    """Rows wait until ClickHouse has taken predictions."""


@dataclass(frozen=True, slots=True)
class Desk:
    """What the consumers of all views share."""

    redis: AsyncRedis
    lineups: Lineups
    reader: VectorReader
    scorer: Scorer
    outbox: Outbox
    parts: Parts
    metrics: Metrics


class ViewConsumer:
    """Serves one view's rows in order, each exactly once."""

    def __init__(self, view: str, desk: Desk, *, worker: str) -> None:
        self.view = view
        self.part = f"view:{view}"
        self.duty = Duty.STARTING
        self._desk = desk
        self._clock = AsyncRedisClock(desk.redis)
        self._lease = Lease(desk.redis, f"view:{view}", worker)
        self._feed = RowFeed(desk.redis, view, worker)

    async def run(self) -> None:
        """Serve until the worker stops."""
        self.duty = Duty.STARTING
        # Whatever ended the last run may have left rows unfinished, and so may another worker.
        behind = True
        while not self._desk.parts.stopping.is_set():
            if self._desk.outbox.full:
                self.duty = Duty.OUTBOX_FULL
                await self._desk.outbox.measure()
                await self._desk.parts.stopped_within(_WAIT_S)
                continue
            if not await self._lease.hold():
                self.duty, behind = Duty.STANDBY, True
                await self._desk.parts.stopped_within(_WAIT_S)
                continue
            now, entries = await self._await_rows(pending=behind)
            self.duty = Duty.LEADING
            if entries:
                await self._serve(entries, now, again=behind)
            else:
                behind = False
            self._desk.parts.works(self.part)
        await self._feed.leave()
        await self._lease.release()

    async def _await_rows(self, *, pending: bool) -> tuple[datetime, list[Entry]]:
        """Return entries and the time by the project's clock.

        The clock is asked while the rows are awaited, which spares each row a round trip; so it is
        behind by the wait, a quarter of a second, at most.
        """
        now, entries = await asyncio.gather(
            self._clock.now(),
            self._feed.pending() if pending else self._feed.fresh(),
            # Both end before either's error is raised: a read that went on unseen would take rows
            # past the ones that come again.
            return_exceptions=True,
        )
        if isinstance(entries, BaseException):
            raise entries
        if isinstance(now, BaseException):
            raise now
        return now, entries

    async def _serve(self, entries: Sequence[Entry], now: datetime, *, again: bool) -> None:
        """Turn entries into signals and finish them, or leave all of them for another time."""
        desk, started = self._desk, time.perf_counter_ns()
        lag_s = max(0.0, time.time() - entries[-1].written_ms / 1_000)
        # Taken once: the whole batch is served by the same models, whatever is swapped meanwhile.
        plans = desk.lineups.of_view(self.view)
        rows, unusable = _parse(entries)
        opinions: list[_Opinion] = []
        for plan, models in plans.items() if rows else ():
            chosen = await self._choose(plan, rows, now)
            if Unusable.STALE in chosen.unusable:
                # The clock may have been set back since, to the start of a replay.
                chosen = await self._choose(plan, rows, await self._clock.now())
            unusable += chosen.unusable
            scored = await desk.scorer.score(models, chosen.values)
            opinions += (_opine(m, chosen, s) for m, s in zip(models, scored, strict=True))
        signals = [signal for opinion in opinions for signal in opinion.signals]
        # A slow batch may have outlasted the lease; then it may go on only if nobody took over.
        if not self._lease.held and not await self._lease.hold():
            raise StoreUnavailable(
                f"Expected to publish the rows of {self.view} within the lease; it took longer, "
                "and another worker serves them now."
            )
        outcomes = await publish_async(desk.redis, signals)
        latency_us = (time.perf_counter_ns() - started) // 1_000
        predictions = await self._predictions(signals, outcomes, latency_us, again=again)
        await desk.outbox.record(predictions, self._feed.stream, [entry.id for entry in entries])
        self._account(opinions, latency_us)
        desk.metrics.stream_lag.labels(self.view).set(lag_s)
        desk.metrics.count(signals, outcomes, unusable, latency_us)

    async def _choose(self, plan: ReadPlan, rows: Sequence[Row], now: datetime) -> Chosen:
        symbols = list(dict.fromkeys(row.symbol for row in rows))
        read = await self._desk.reader.read(plan, symbols, now=now)
        return choose(rows, read.vectors, read.position, plan, now_us=to_micros(now))

    async def _predictions(
        self,
        signals: Sequence[Signal],
        outcomes: Sequence[Publication],
        latency_us: int,
        *,
        again: bool,
    ) -> list[Prediction]:
        """Return what is to be recorded of the signals.

        A repeat of a row that was finished has its record. But when a worker died between the
        publication and the record, its rows come again, and what it said is taken from the stream:
        another version may serve by now.
        """
        repeats = [s for s, o in zip(signals, outcomes, strict=True) if o is Publication.DUPLICATE]
        said = await _already_said(self._desk.redis, repeats) if again else {}
        predictions = []
        for signal, outcome in zip(signals, outcomes, strict=True):
            if outcome is not Publication.DUPLICATE:
                left = outcome is Publication.PUBLISHED
                predictions.append(Prediction(signal, left, latency_us))
            elif _subject(signal) in said:
                predictions.append(Prediction(said[_subject(signal)], True, latency_us))
        return predictions

    def _account(self, opinions: Sequence[_Opinion], latency_us: int) -> None:
        for model, signals, error, n_failed in opinions:
            part = f"model:{model.manifest.model}/{model.manifest.version}"
            if error is not None:
                self._desk.parts.fails(part, error)
            elif signals:
                self._desk.parts.works(part)
            model.tally.rows += len(signals)
            model.tally.errors += n_failed
            model.tally.latencies_us.extend([latency_us] * len(signals))


class _Opinion(NamedTuple):
    """What one model says of a batch."""

    model: ServedModel
    signals: tuple[Signal, ...]
    error: Exception | None
    n_failed: int


def _parse(entries: Sequence[Entry]) -> tuple[list[Row], Counter[Unusable]]:
    rows: list[Row] = []
    unusable: Counter[Unusable] = Counter()
    for entry in entries:
        if entry.fields is None:
            unusable[Unusable.TRIMMED] += 1
            continue
        try:
            rows.append(parse_row(entry.fields))
        except InvalidInput:
            unusable[Unusable.MALFORMED] += 1
    return rows, unusable


def _opine(model: ServedModel, chosen: Chosen, scored: Scored) -> _Opinion:
    manifest, scores = model.manifest, scored.scores
    event_us = np.array([row.event_us for row in chosen.rows], dtype=np.int64)
    side = sides(scores, manifest.threshold, centre=centre_of(manifest.task))
    decides = on_grid(event_us, model.interval_us, manifest.decision_bars)
    scored_rows = np.flatnonzero(~np.isnan(scores))
    # The gates judged it on its own symbols; of others it keeps silent.
    told = [i for i in scored_rows if manifest.speaks_of(chosen.rows[i].symbol)]
    signals = tuple(
        Signal(
            model=manifest.model,
            version=manifest.version,
            stage=manifest.stage,
            symbol=chosen.rows[i].symbol,
            event_us=chosen.rows[i].event_us,
            score=float(scores[i]),
            side=int(side[i]),
            decides=bool(decides[i]),
            feature_hash=manifest.feature_hash,
            generation=manifest.generation,
        )
        for i in told
    )
    return _Opinion(model, signals, scored.error, len(scores) - len(scored_rows))


_Subject = tuple[str, str, str, int]


def _subject(signal: Signal) -> _Subject:
    """Return what a signal is about; the bus lets only one signal of it pass."""
    return signal.model, signal.stage, signal.symbol, signal.event_us


async def _already_said(redis: AsyncRedis, signals: Sequence[Signal]) -> dict[_Subject, Signal]:
    """Find what was published of the subjects of these signals, newest entries first."""
    said: dict[_Subject, Signal] = {}
    for stage in {signal.stage for signal in signals}:
        wanted, before = {_subject(s) for s in signals if s.stage is stage}, "+"
        for _ in range(_LOOK_BACK_PAGES):
            with reaching(redis):
                page: Any = await redis.xrevrange(signals_stream(stage), max=before, count=_PAGE)
            found = {_subject(signal): signal for signal in map(decode_signal, dict(page).values())}
            said |= {subject: found[subject] for subject in wanted & found.keys()}
            if len(page) < _PAGE or wanted <= said.keys():
                break
            before = f"({page[-1][0].decode()}"
    return said
