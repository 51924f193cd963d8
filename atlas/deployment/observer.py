"""What is seen of a candidate: its signals in the streams, and what the workers say of it."""

from __future__ import annotations

from datetime import timedelta
from typing import Protocol

from redis import Redis

from atlas.bus import read_acks, read_signals
from atlas.deployment.strategy import Intent, Observation
from atlas.serving import Signal, Stage

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

    Rows count from the oldest entry that the shadow stream still holds: a version that has been a
    shadow for a day has its evidence already.
    """

    def __init__(self, redis: Redis, model: str) -> None:
        self._redis = redis
        self._model = model
        self._after = {Stage.SHADOW: "0", Stage.LIVE: "0"}
        self._unmatched: dict[Stage, dict[_Row, int]] = {Stage.SHADOW: {}, Stage.LIVE: {}}
        self._rows = 0
        self._matched = 0
        self._agreed = 0

    def observe(self, intent: Intent, generation: int, waited: timedelta) -> Observation:
        """Return what is seen of the version; otherwise as `Observer.observe`."""
        for stage in (Stage.SHADOW, Stage.LIVE):
            self._read(stage, intent.version)
        acks = tuple(read_acks(self._redis, self._model).values())
        acted = [ack for ack in acks if ack.generation >= generation]
        serving = [ack for ack in acted if ack.versions.get(intent.stage) == intent.version]
        served = [ack.served[intent.version] for ack in serving if intent.version in ack.served]
        return Observation(
            rows=self._rows,
            errors=sum(one.errors for one in served),
            latency_p99_us=max((one.latency_p99_us for one in served), default=0.0),
            agreement=self._agreed / self._matched if self._matched else None,
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
        own = signal.version == candidate
        # A signal of the former shadow, or the candidate's own once it is live, compares nothing.
        if own != (signal.stage is Stage.SHADOW):
            return
        self._rows += own
        row = (signal.symbol, signal.event_us)
        other = Stage.LIVE if own else Stage.SHADOW
        side = self._unmatched[other].pop(row, None)
        if side is not None:
            self._matched += 1
            self._agreed += side == signal.side
            return
        waiting = self._unmatched[signal.stage]
        waiting[row] = signal.side
        if len(waiting) > _KEPT:
            del waiting[next(iter(waiting))]
