"""What is seen of a candidate: its signals in the streams, and what the workers say of it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Protocol

from redis import Redis

from atlas.bus import read_acks, read_signals
from atlas.deployment.observation import Intent, Observation
from atlas.matured import Matured
from atlas.serving import Signal, Stage, trades

__all__ = ["BusObserver", "Observer"]

_READ = 5_000
# Sides that wait for their counterpart, at most; a side that has none is dropped, oldest first.
_KEPT = 50_000

_Row = tuple[str, int]


class Observer(Protocol):
    """Looks at a candidate where it stands."""

    def observe(self, intent: Intent, generation: int, waited: timedelta) -> Observation:
        """Return what is seen of a version.

        Parameters
        ----------
        generation : int
            The generation of the model in which the version was put where it stands.
        waited : timedelta
            For how long it has stood there.
        """
        ...


class BusObserver:
    """Looks at the streams and at the acknowledgements of one model in Redis.

    A shadow's rows count from the oldest entry that its stream still holds: a version that has been
    a shadow for a day has its evidence already.

    Parameters
    ----------
    matured : callable
        Returns what a version has earned on paper at a stage, or None where nobody keeps the books.
    """

    def __init__(
        self,
        redis: Redis,
        model: str,
        *,
        matured: Callable[[int, Stage], Matured | None] = lambda version, stage: None,
    ) -> None:
        self._redis = redis
        self._model = model
        self._matured = matured
        self._after = {Stage.SHADOW: "0", Stage.LIVE: "0"}
        self._unmatched: dict[Stage, dict[_Row, int]] = {Stage.SHADOW: {}, Stage.LIVE: {}}
        self._shadowed = 0
        # Since the candidate was put where it stands, signals that trade: its own, and everybody's.
        self._generation = -1
        self._own = 0
        self._traded = 0
        self._matched = 0
        self._agreed = 0

    def observe(self, intent: Intent, generation: int, waited: timedelta) -> Observation:
        """Return what is seen of the version; otherwise as `Observer.observe`."""
        for stage in (Stage.SHADOW, Stage.LIVE):
            self._read(stage, intent.version)
        if generation != self._generation:  # what was read so far was said before
            self._generation, self._own, self._traded = generation, 0, 0
        acks = read_acks(self._redis, self._model)
        acted = [ack for ack in acks.values() if ack.generation >= generation]
        serving = [ack for ack in acted if ack.versions.get(intent.stage) == intent.version]
        served = [ack.served[intent.version] for ack in serving if intent.version in ack.served]
        return Observation(
            rows=self._shadowed if intent.stage is Stage.SHADOW else self._own,
            predicted=sum(one.rows for one in served),
            errors=sum(one.errors for one in served),
            latency_p99_us=max((one.latency_p99_us for one in served), default=0.0),
            agreement=self._agreed / self._matched if self._matched else None,
            share=self._own / self._traded if self._traded else None,
            matured=self._matured(intent.version, intent.stage),
            fleet=tuple(sorted(acks)),
            workers=len(serving),
            waiting=len(acks) - len(acted),
            refusals=tuple(ack.error for ack in acted if ack.error and ack not in serving),
            waited=waited,
        )

    def _read(self, stage: Stage, candidate: int) -> None:
        while signals := read_signals(self._redis, stage, after=self._after[stage], count=_READ):
            self._after[stage] = signals[-1][0]
            for _, signal in signals:
                if signal.model == self._model:
                    self._take(signal, candidate)

    def _take(self, signal: Signal, candidate: int) -> None:
        own, traded = signal.version == candidate, trades(signal.stage)
        if traded:
            self._own += own
            self._traded += 1
        # A signal of the former shadow, or the candidate's own once it trades, compares nothing.
        if own == traded:
            return
        self._shadowed += own
        row = (signal.symbol, signal.event_us)
        ours, theirs = (Stage.SHADOW, Stage.LIVE) if own else (Stage.LIVE, Stage.SHADOW)
        side = self._unmatched[theirs].pop(row, None)
        if side is not None:
            self._matched += 1
            self._agreed += side == signal.side
            return
        waiting = self._unmatched[ours]
        waiting[row] = signal.side
        if len(waiting) > _KEPT:
            del waiting[next(iter(waiting))]
