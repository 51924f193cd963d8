"""How the rows of one feature view become signals: read, judge, score, publish, record."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from redis.asyncio import Redis as AsyncRedis

from atlas.bus import AsyncRedisClock, Publication, publish_async
from atlas.clock import to_micros
from atlas.errors import InvalidInput, StoreUnavailable
from atlas.inference.already_said import already_said, subject
from atlas.inference.candidate import ServedModel
from atlas.inference.lineup import Lineups, Reading
from atlas.inference.metrics import Metrics
from atlas.inference.opinions import Opinion, divide, opine
from atlas.inference.outbox import Finished, Outbox, Prediction
from atlas.inference.partitions import Partitions
from atlas.inference.parts import Parts
from atlas.inference.row_feed import Entry, Row, RowFeed, parse_row
from atlas.inference.vector_reader import VectorReader
from atlas.inference.vectors import Chosen, Unusable, choose
from atlas.inference.window_reader import read_windows
from atlas.serving import Signal, Stage, rows_stream, trades

__all__ = ["Desk", "Duty", "ViewConsumer"]

_WAIT_S = 0.5
# How long a candidate may take for a batch, and for each of its rows: a transformer of 100 steps
# takes some milliseconds a row.
_CALL_S = 0.1
_ROW_S = 0.01


class Duty(StrEnum):
    """What a view's consumer is doing."""

    STARTING = "starting"
    LEADING = "leading"
    """It turns rows into signals: all of the view's, or its share of them."""
    STANDBY = "standby"
    """Other workers share all partitions; it would follow within seconds."""
    OUTBOX_FULL = "outbox full"
    """Rows wait until ClickHouse has taken predictions."""


@dataclass(frozen=True, slots=True)
class Desk:
    """What the consumers of all views share."""

    redis: AsyncRedis
    lineups: Lineups
    reader: VectorReader
    outbox: Outbox
    parts: Parts
    metrics: Metrics


class ViewConsumer:
    """Serves the rows of one view's partitions that are this worker's, in order, each once."""

    def __init__(self, view: str, desk: Desk, *, worker: str) -> None:
        self.view = view
        self.part = f"view:{view}"
        self.duty = Duty.STARTING
        self.partitions: frozenset[int] = frozenset()
        """Those that it serves at present."""
        self._desk = desk
        self._worker = worker
        self._clock = AsyncRedisClock(desk.redis)
        self._leases = Partitions(desk.redis, view, worker)
        self._feed = RowFeed(desk.redis, view, worker)

    async def run(self) -> None:
        """Serve until the worker stops."""
        self.duty = Duty.STARTING
        # Of these, rows may be unfinished: whatever ended the last run may have left some, and so
        # may the worker that had a partition before.
        behind: frozenset[int] = frozenset()
        self.partitions = frozenset()
        while not self._desk.parts.stopping.is_set():
            if self._desk.outbox.full:
                self.duty = Duty.OUTBOX_FULL
                await self._desk.outbox.measure()
                await self._desk.parts.stopped_within(_WAIT_S)
                continue
            before, self.partitions = self.partitions, await self._leases.share()
            behind = (behind & self.partitions) | (self.partitions - before)
            if not self.partitions:
                self.duty = Duty.STANDBY
                await self._desk.parts.stopped_within(_WAIT_S)
                continue
            now, entries = await self._await_rows(behind)
            self.duty = Duty.LEADING
            if entries:
                await self._serve(entries, now, again=bool(behind))
            else:
                behind = frozenset()
            self._desk.parts.works(self.part)
        await self._feed.leave()
        await self._leases.release()

    async def _await_rows(self, behind: frozenset[int]) -> tuple[datetime, list[Entry]]:
        """Return entries and the time by the project's clock.

        The clock is asked while the rows are awaited, which spares each row a round trip; so it is
        behind by the wait, a quarter of a second, at most.
        """
        now, entries = await asyncio.gather(
            self._clock.now(),
            self._feed.pending(behind) if behind else self._feed.fresh(self.partitions),
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
        lag_s = max(0.0, time.time() - max(e.written_ms for e in entries) / 1_000)
        # Taken once: the whole batch is served by the same models, whatever is swapped meanwhile.
        readings = desk.lineups.of_view(self.view)
        rows, unusable = _parse(self._feed, entries)
        asked: list[tuple[ServedModel, Chosen]] = []
        for reading, models in readings.items() if rows else ():
            chosen = await self._choose(reading, rows, now)
            if Unusable.STALE in chosen.unusable:
                # The clock may have been set back since, to the start of a replay.
                chosen = await self._choose(reading, rows, await self._clock.now())
            unusable += chosen.unusable
            asked += ((model, chosen) for model in models)
        batch = _Batch(started, frozenset(entry.partition for entry in entries), again)
        # What is traded on leaves before those that are only watched are asked.
        traders = [one for one in asked if trades(one[0].manifest.stage)]
        watched = [one for one in asked if not trades(one[0].manifest.stage)]
        predictions = await self._speak(traders, batch)
        predictions += await self._speak(watched, batch)
        await desk.outbox.record(_finished(self._feed, entries, predictions))
        desk.metrics.count_unusable(unusable)
        desk.metrics.stream_lag.labels(self.view).set(lag_s)

    async def _choose(self, reading: Reading, rows: Sequence[Row], now: datetime) -> Chosen:
        plan = reading.plan
        if reading.window > 1:
            return await read_windows(self._desk.reader, plan, reading.window, rows, now=now)
        symbols = list(dict.fromkeys(row.symbol for row in rows))
        read = await self._desk.reader.read(plan, symbols, now=now)
        return choose(rows, read.vectors, read.position, plan, now_us=to_micros(now))

    async def _speak(
        self, asked: Sequence[tuple[ServedModel, Chosen]], batch: _Batch
    ) -> list[Prediction]:
        """Score, publish and account; return what is to be recorded."""
        if not asked:
            return []
        began = time.perf_counter_ns()
        scored = await asyncio.gather(
            *(
                model.lane.score(chosen.values, within_s=_patience(model, chosen))
                for model, chosen in asked
            )
        )
        opinions = divide(
            [opine(*one, said) for one, said in zip(asked, scored, strict=True)], self._worker
        )
        signals = [signal for opinion in opinions for signal in opinion.signals]
        # A slow batch may have outlasted the leases; then it may go on only if nobody took over.
        if not await self._leases.keep(batch.partitions):
            raise StoreUnavailable(
                f"Expected to publish the rows of {self.view} within the lease; it took longer, "
                "and another worker serves them now."
            )
        scored_at = time.perf_counter_ns()
        outcomes = await publish_async(self._desk.redis, signals)
        published_at = time.perf_counter_ns()
        # Reading and publishing are everyone's; the scoring is each model's own.
        shared_us = (began - batch.started - batch.spoken_ns + published_at - scored_at) // 1_000
        batch.spoken_ns += published_at - began
        latencies = {id(one.model): shared_us + one.took_us for one in opinions}
        self._account(opinions, latencies)
        of_signal = [latencies[id(one.model)] for one in opinions for _ in one.signals]
        self._desk.metrics.count(signals, outcomes, of_signal)
        return await self._predictions(signals, outcomes, of_signal, again=batch.again)

    async def _predictions(
        self,
        signals: Sequence[Signal],
        outcomes: Sequence[Publication],
        latencies_us: Sequence[int],
        *,
        again: bool,
    ) -> list[Prediction]:
        """Return what is to be recorded of the signals.

        A repeat of a row that was finished has its record. But when a worker died between the
        publication and the record, its rows come again, and what it said is taken from the stream:
        another version may serve by now.
        """
        repeats = [s for s, o in zip(signals, outcomes, strict=True) if o is Publication.DUPLICATE]
        said = await already_said(self._desk.redis, repeats) if again else {}
        predictions = []
        for signal, outcome, latency_us in zip(signals, outcomes, latencies_us, strict=True):
            if outcome is not Publication.DUPLICATE:
                left = outcome is Publication.PUBLISHED
                predictions.append(Prediction(signal, left, latency_us))
            elif subject(signal) in said:
                predictions.append(Prediction(said[subject(signal)], True, latency_us))
        return predictions

    def _account(self, opinions: Sequence[Opinion], latencies: Mapping[int, int]) -> None:
        for one in opinions:
            part = f"model:{one.model.manifest.model}/{one.model.manifest.version}"
            if one.error is not None:
                self._desk.parts.fails(part, one.error)
            elif one.signals:
                self._desk.parts.works(part)
            tally, latency_us = one.model.tally, latencies[id(one.model)]
            tally.rows += one.n_scored
            tally.errors += one.n_failed
            tally.latencies_us.extend([latency_us] * one.n_scored)


@dataclass(slots=True)
class _Batch:
    """What is known of the rows in hand."""

    started: int
    """Reading of the performance counter when their notifications had been read."""
    partitions: frozenset[int]
    again: bool
    spoken_ns: int = 0
    """Spent so far on scoring and publishing."""


def _patience(model: ServedModel, chosen: Chosen) -> float | None:
    """Return how long a model may score a batch: the live one as long as it takes."""
    if model.manifest.stage is Stage.LIVE:
        return None
    return _CALL_S + _ROW_S * len(chosen.rows)


def _finished(
    feed: RowFeed, entries: Sequence[Entry], predictions: Sequence[Prediction]
) -> list[Finished]:
    """Put predictions and entries together by the stream that they came from."""
    ids: dict[str, list[bytes]] = {}
    made: dict[str, list[Prediction]] = {}
    for entry in entries:
        ids.setdefault(feed.streams[entry.partition], []).append(entry.id)
    for prediction in predictions:
        stream = rows_stream(feed.view, prediction.signal.symbol)
        made.setdefault(stream, []).append(prediction)
    return [Finished(name, tuple(own), tuple(made.get(name, ()))) for name, own in ids.items()]


def _parse(feed: RowFeed, entries: Sequence[Entry]) -> tuple[list[Row], Counter[Unusable]]:
    rows: list[Row] = []
    unusable: Counter[Unusable] = Counter()
    for entry in entries:
        if entry.fields is None:
            unusable[Unusable.TRIMMED] += 1
            continue
        try:
            row = parse_row(entry.fields)
        except InvalidInput:
            unusable[Unusable.MALFORMED] += 1
            continue
        # Another worker may serve the symbol at this moment; two would break its order.
        if rows_stream(feed.view, row.symbol) == feed.streams[entry.partition]:
            rows.append(row)
        else:
            unusable[Unusable.MALFORMED] += 1
    return rows, unusable
