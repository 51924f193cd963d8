"""What is seen of a candidate: its signals in the streams, and what the workers say of it."""

from __future__ import annotations

import math
from datetime import timedelta
from typing import Protocol

from redis import Redis

from atlas.bus import Ack, Signal, read_acks, read_signals
from atlas.deployment.strategy import Intent, Observation
from atlas.serving import Stage

__all__ = ["BusObserver", "Observer"]

# Sides kept for comparing the candidate with the live version.
_KEPT = 50_000


class Observer(Protocol):
    """Looks at a candidate where it stands."""

    def observe(self, intent: Intent, generation: int, waited: timedelta) -> Observation:
        """Return what is seen of the version since it stands where the intent put it."""
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
        self._rows = 0
        self._candidate: dict[tuple[str, int], int] = {}
        self._live: dict[tuple[str, int], int] = {}

    def observe(self, intent: Intent, generation: int, waited: timedelta) -> Observation:
        """Return what is seen of the version; otherwise as `Observer.observe`."""
        self._read(intent.version)
        acks = tuple(read_acks(self._redis, self._model).values())
        served = [ack.served[intent.version] for ack in acks if intent.version in ack.served]
        acted = [ack for ack in acks if ack.generation >= generation]
        return Observation(
            rows=self._rows,
            errors=sum(s.errors for s in served),
            latency_p99_us=max((s.latency_p99_us for s in served), default=0.0),
            agreement=self._agreement(),
            workers=sum(ack.versions.get(intent.stage) == intent.version for ack in acted),
            waiting=len(acks) - len(acted),
            refusals=tuple(ack.error for ack in acted if ack.error is not None),
            waited=waited,
        )
