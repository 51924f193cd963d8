"""What was published of rows that come again, since a worker died before it could record it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from redis.asyncio import Redis as AsyncRedis

from atlas.bus import decode_signal, reaching
from atlas.serving import Signal, signals_stream

__all__ = ["Subject", "already_said", "subject"]

# Together more than all models can have said between a worker's death and its successor's start.
_PAGE = 500
_LOOK_BACK_PAGES = 20

Subject = tuple[str, str, str, int]


def subject(signal: Signal) -> Subject:
    """Return what a signal is about; the bus lets only one signal of it pass."""
    return signal.model, signals_stream(signal.stage), signal.symbol, signal.event_us


async def already_said(redis: AsyncRedis, signals: Sequence[Signal]) -> dict[Subject, Signal]:
    """Find what was published of the subjects of these signals, newest entries first."""
    said: dict[Subject, Signal] = {}
    for stream in {signals_stream(signal.stage) for signal in signals}:
        wanted = {subject(s) for s in signals if signals_stream(s.stage) == stream}
        before = "+"
        for _ in range(_LOOK_BACK_PAGES):
            with reaching(redis):
                page: Any = await redis.xrevrange(stream, max=before, count=_PAGE)
            found = {subject(signal): signal for signal in map(decode_signal, dict(page).values())}
            said |= {about: found[about] for about in wanted & found.keys()}
            if len(page) < _PAGE or wanted <= said.keys():
                break
            before = f"({page[-1][0].decode()}"
    return said
