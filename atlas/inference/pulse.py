"""What the worker measures of itself: how late the event loop is, and whether trade is halted."""

from __future__ import annotations

import asyncio
from collections import deque

from redis.asyncio import Redis as AsyncRedis

from atlas.bus import is_permitted_async
from atlas.errors import StoreUnavailable
from atlas.inference.metrics import Metrics
from atlas.inference.parts import Parts

__all__ = ["watch_loop", "watch_permit"]

_BEAT_S = 0.05
_WINDOW_S = 5.0
_LOOK_S = 1.0


async def watch_loop(parts: Parts, metrics: Metrics) -> None:
    """Measure how much later than asked the event loop wakes this up."""
    loop = asyncio.get_running_loop()
    lags: deque[float] = deque(maxlen=int(_WINDOW_S / _BEAT_S))
    while not parts.stopping.is_set():
        asked = loop.time()
        await asyncio.sleep(_BEAT_S)
        lags.append(max(0.0, loop.time() - asked - _BEAT_S))
        metrics.loop_lag.set(max(lags))


async def watch_permit(redis: AsyncRedis, parts: Parts, metrics: Metrics) -> None:
    """Say each second whether live signals may leave; every publication asks for itself."""
    while not parts.stopping.is_set():
        try:
            metrics.halted.set(not await is_permitted_async(redis))
        except StoreUnavailable:
            metrics.halted.set(1)
            raise
        parts.works("redis")
        await parts.stopped_within(_LOOK_S)
