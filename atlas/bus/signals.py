"""How signals leave: one step in Redis that asks the permit, refuses repeats, and publishes.

Only signals that trade, of a live version or a canary, need the permit, and only they reach
`atlas:signals`, which the trader reads; of one row only one of the two may speak. What a shadow or
a rejected model says goes to a stream of its own that nobody trades on; it goes on through a halt,
because a person must see what the models say before lifting one.

A stream's length is bounded; every prediction is also kept in ClickHouse. The marks of what was
published last (`atlas:last:…`) can be rebuilt from the streams.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import fields
from enum import StrEnum
from typing import Any

from redis import Redis
from redis.asyncio import Redis as AsyncRedis

from atlas.bus.connection import reaching
from atlas.bus.permit import PERMIT_KEY
from atlas.bus.script import Argument, Script
from atlas.errors import InvalidInput
from atlas.serving import Signal, Stage, signals_stream, trades

__all__ = [
    "SIGNAL_STAGES",
    "Publication",
    "decode_signal",
    "forget_published",
    "latest_signals",
    "publish",
    "publish_async",
    "read_signals",
]

SIGNAL_STAGES = (Stage.LIVE, Stage.CANARY, Stage.SHADOW, Stage.REJECTED)
"""The stages whose models say something."""

STREAM_LENGTH = 100_000
_FIELDS = tuple(field.name for field in fields(Signal))


class Publication(StrEnum):
    """What became of a signal."""

    PUBLISHED = "published"
    HALTED = "halted"
    """The permit is absent."""
    DUPLICATE = "duplicate"
    """The model has already spoken of this symbol at this time or later, to the same stream."""


# A repeat is recognised before the permit is asked: a signal that left before a halt did leave.
_PUBLISH = Script("""
local permitted = redis.call('EXISTS', KEYS[1]) == 1
local width = tonumber(ARGV[2])
local replies, at = {}, 3 + width
while at <= #ARGV do
    local stream, last = KEYS[2 * ARGV[at]], KEYS[2 * ARGV[at] + 1]
    local guarded, symbol, event_us = ARGV[at + 1] == '1', ARGV[at + 2], ARGV[at + 3]
    local known = redis.call('HGET', last, symbol)
    if known and tonumber(event_us) <= tonumber(known) then
        replies[#replies + 1] = 'duplicate'
    elseif guarded and not permitted then
        replies[#replies + 1] = 'halted'
    else
        local entry = {}
        for i = 1, width do
            entry[2 * i - 1], entry[2 * i] = ARGV[2 + i], ARGV[at + 3 + i]
        end
        redis.call('XADD', stream, 'MAXLEN', '~', ARGV[1], '*', unpack(entry))
        redis.call('HSET', last, symbol, event_us)
        replies[#replies + 1] = 'published'
    end
    at = at + 4 + width
end
return replies
""")


def publish(redis: Redis, signals: Sequence[Signal]) -> list[Publication]:
    """Publish a batch in one step and say of each signal what became of it, in order.

    The permit is asked in the same step, so no halt falls between the question and the signal. A
    batch may be sent again after an error: what was published the first time is a duplicate.

    Raises
    ------
    InvalidInput
        If a signal comes from a stage that has nothing to say, or its score is not a number.
    StoreUnavailable
        If Redis does not answer; this counts as halted.
    """
    if not signals:
        return []
    return _publications(_PUBLISH.run(redis, *_request(signals)))


async def publish_async(redis: AsyncRedis, signals: Sequence[Signal]) -> list[Publication]:
    """Publish a batch from the event loop; otherwise as `publish`."""
    if not signals:
        return []
    return _publications(await _PUBLISH.run_async(redis, *_request(signals)))


def decode_signal(entry: Mapping[bytes, bytes]) -> Signal:
    """Rebuild a signal from the fields of its stream entry."""
    texts = {name: entry[name.encode()].decode() for name in _FIELDS}
    values: dict[str, Any] = {
        **texts,
        "version": int(texts["version"]),
        "stage": Stage(texts["stage"]),
        "event_us": int(texts["event_us"]),
        "score": float(texts["score"]),
        "side": int(texts["side"]),
        "decides": texts["decides"] == "1",
        "generation": int(texts["generation"]),
    }
    return Signal(**values)


def latest_signals(redis: Redis, stage: Stage, count: int) -> list[tuple[str, Signal]]:
    """Return the newest signals of a stage's stream with their ids, oldest first.

    Live versions and canaries share a stream, so either stage gives the signals of both.
    """
    with reaching(redis):
        entries: Any = redis.xrevrange(signals_stream(_speaking(stage)), count=count)
    return [(key.decode(), decode_signal(entry)) for key, entry in reversed(entries)]


def read_signals(
    redis: Redis, stage: Stage, *, after: str, count: int = 1_000, wait_ms: int | None = None
) -> list[tuple[str, Signal]]:
    """Return the signals of a stage's stream that follow an id, with their ids, oldest first.

    Parameters
    ----------
    after : str
        A stream id; `0` is before the first entry.
    wait_ms : int or None
        How long to wait for the first when there is none yet; at most 4 000.
    """
    with reaching(redis):
        found: Any = redis.xread(
            {signals_stream(_speaking(stage)): after}, count=count, block=wait_ms
        )
    entries = found[0][1] if found else []
    return [(key.decode(), decode_signal(entry)) for key, entry in entries]


def forget_published(redis: Redis, models: Sequence[str]) -> None:
    """Let these models speak again of times already spoken of: for a replay that is wound back."""
    keys = [_last_key(model, stage) for model in models for stage in SIGNAL_STAGES]
    if keys:
        with reaching(redis):
            redis.delete(*keys)


def _request(signals: Sequence[Signal]) -> tuple[list[str], list[Argument]]:
    keys = [PERMIT_KEY]
    groups: dict[tuple[str, Stage], int] = {}
    arguments: list[Argument] = [STREAM_LENGTH, len(_FIELDS), *_FIELDS]
    for signal in signals:
        group = (signal.model, signal.stage)
        if group not in groups:
            keys += (signals_stream(_speaking(signal.stage)), _last_key(*group))
            groups[group] = len(groups) + 1
        if not math.isfinite(signal.score):
            raise InvalidInput(
                f"Expected a score that is a number; found {signal.score} from {signal.model}/"
                f"{signal.version} for {signal.symbol}. Nothing of the batch was published."
            )
        guarded = "1" if trades(signal.stage) else "0"
        arguments += (groups[group], guarded, signal.symbol, int(signal.event_us))
        arguments += _encode(signal)
    return keys, arguments


def _encode(signal: Signal) -> tuple[Argument, ...]:
    # In the order of _FIELDS. The conversions also take NumPy's numbers, exactly.
    return (
        signal.model,
        int(signal.version),
        str(signal.stage),
        signal.symbol,
        int(signal.event_us),
        repr(float(signal.score)),
        int(signal.side),
        int(signal.decides),
        signal.feature_hash,
        int(signal.generation),
    )


def _publications(replies: Sequence[bytes]) -> list[Publication]:
    return [Publication(reply.decode()) for reply in replies]


def _speaking(stage: Stage) -> Stage:
    if stage not in SIGNAL_STAGES:
        raise InvalidInput(
            f"Expected a stage with signals, {', '.join(SIGNAL_STAGES)}; found {stage}."
        )
    return stage


def _last_key(model: str, stage: Stage) -> str:
    return f"atlas:last:{model}:{Stage.LIVE if trades(stage) else stage}"
