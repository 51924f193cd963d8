"""Regimes in Redis: what is told of each symbol now, the state behind it, and every change.

A row moves a symbol on in one step: its state, what is told, the changes and the notification of
the new feature row. So a service that is killed at any moment goes on from what was told, and says
nothing twice. All of it can be rebuilt from the checkpoints in the blob store and the feature rows.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from redis import Redis

from atlas.bus.connection import reaching
from atlas.bus.rows import ROWS_LENGTH, told_key
from atlas.bus.script import Argument, Script
from atlas.serving import rows_stream

__all__ = [
    "RegimeChange",
    "RegimeMove",
    "ToldRegime",
    "forget_regimes",
    "move_regimes",
    "read_regime_changes",
    "read_regime_states",
    "read_regimes",
]

_STREAM_LENGTH = 100_000
# One script call holds Redis for some milliseconds at most.
_SYMBOLS_PER_CALL = 100
# A version begins with the moment of its refit, `20240205T000000.000000Z`.
_MOMENT_LENGTH = 23

# A state of an older refit, or of a row that was read already, moves nothing.
_MOVE = Script("""
local replies, at, moment = {}, 4, tonumber(ARGV[3])
for i = 3, #KEYS, 3 do
    local version, event_us, state, told = unpack(ARGV, at, at + 3)
    local n_changes, n_fields = tonumber(ARGV[at + 4]), tonumber(ARGV[at + 5])
    at = at + 6
    local stored = redis.call('HMGET', KEYS[i], 'model_version', 'event_us')
    local moves = true
    if stored[1] then
        if stored[1] == version then
            moves = tonumber(event_us) > tonumber(stored[2])
        else
            moves = string.sub(version, 1, moment) >= string.sub(stored[1], 1, moment)
        end
    end
    if moves then
        redis.call('HSET', KEYS[i], 'model_version', version, 'event_us', event_us, 'state', state)
        redis.call('SET', KEYS[i + 1], told)
        for n = 0, n_changes - 1 do
            redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[1], '*', 'change', ARGV[at + n])
        end
        if n_fields > 0 then
            local first = at + n_changes
            redis.call('XADD', KEYS[i + 2], 'MAXLEN', '~', ARGV[2], '*',
                unpack(ARGV, first, first + n_fields - 1))
            redis.call('HSET', KEYS[2], ARGV[first + 1], event_us)
        end
    end
    at = at + n_changes + n_fields
    replies[#replies + 1] = moves and 1 or 0
end
return replies
""")


@dataclass(frozen=True, slots=True)
class ToldRegime:
    """What is told of a symbol."""

    symbol: str
    regime: int | None
    """By its name; None before the first that was likely enough."""
    confidence: float | None
    """Its probability by the last row that could be believed."""
    since_us: int | None
    """Event time of the row that it is told since."""
    event_us: int
    """Event time of the last row, in microseconds."""
    model_version: str
    likeliest: int | None
    """What the model alone says of the last row; None where that says nothing."""
    held: str | None
    """Why that is not told."""
    gap_bars: int
    """Bars that were not there before the last row."""


@dataclass(frozen=True, slots=True)
class RegimeChange:
    """A change of what is told."""

    symbol: str
    regime: int
    former: int | None
    confidence: float
    event_us: int
    model_version: str


@dataclass(frozen=True, slots=True)
class RegimeMove:
    """What the rows since the last move of a symbol come to."""

    told: ToldRegime
    state: str
    """What the service remembers, as JSON."""
    changes: tuple[RegimeChange, ...] = ()
    notification: Mapping[str, Argument] = field(default_factory=dict)
    """Fields for the stream of the view's rows, the symbol first; empty tells nobody."""


def move_regimes(redis: Redis, view: str, moves: Sequence[RegimeMove]) -> list[bool]:
    """Move symbols on, each in one step; say of each whether its rows were not read already.

    Raises
    ------
    StoreUnavailable
        If Redis does not answer.
    """
    replies: list[bool] = []
    for start in range(0, len(moves), _SYMBOLS_PER_CALL):
        keys = [_changes_key(view), told_key(view)]
        arguments: list[Argument] = [_STREAM_LENGTH, ROWS_LENGTH, _MOMENT_LENGTH]
        for move in moves[start : start + _SYMBOLS_PER_CALL]:
            told = move.told
            keys += (_state_key(view, told.symbol), _told_key(view, told.symbol))
            keys.append(rows_stream(view, told.symbol))
            fields = [part for pair in move.notification.items() for part in pair]
            arguments += (told.model_version, told.event_us, move.state, _encode(told))
            arguments += (len(move.changes), len(fields))
            arguments += (*map(_encode, move.changes), *fields)
        replies += map(bool, _MOVE.run(redis, keys, arguments))
    return replies


def read_regimes(redis: Redis, view: str, symbols: Sequence[str]) -> list[ToldRegime | None]:
    """Return what is told of each symbol, in their order; None where nothing is."""
    with reaching(redis):
        found: Any = redis.mget([_told_key(view, symbol) for symbol in symbols]) if symbols else []
    return [ToldRegime(**json.loads(text)) if text is not None else None for text in found]


def read_regime_states(redis: Redis, view: str, symbols: Sequence[str]) -> list[str | None]:
    """Return the state of each symbol as it was left last, in their order."""
    with reaching(redis):
        pipeline = redis.pipeline(transaction=False)
        for symbol in symbols:
            pipeline.hget(_state_key(view, symbol), "state")
        found: list[Any] = pipeline.execute()
    return [text.decode() if text is not None else None for text in found]


def read_regime_changes(
    redis: Redis, view: str, *, after: str = "0", count: int = 1_000
) -> list[tuple[str, RegimeChange]]:
    """Return the changes of a view that follow a stream id, with their ids, oldest first."""
    with reaching(redis):
        found: Any = redis.xrange(_changes_key(view), min=f"({after}", count=count)
    return [(key.decode(), RegimeChange(**json.loads(entry[b"change"]))) for key, entry in found]


def forget_regimes(redis: Redis, view: str, symbols: Sequence[str]) -> None:
    """Forget what was told of symbols, and of when: for a replay that is wound back."""
    keys = [key(view, symbol) for symbol in symbols for key in (_state_key, _told_key)]
    if keys:
        with reaching(redis):
            redis.delete(*keys)


def _encode(value: ToldRegime | RegimeChange) -> str:
    return json.dumps(asdict(value), allow_nan=False)


def _told_key(view: str, symbol: str) -> str:
    return f"atlas:regime:{view}:{symbol}"


def _state_key(view: str, symbol: str) -> str:
    return f"atlas:regime:state:{view}:{symbol}"


def _changes_key(view: str) -> str:
    return f"atlas:regimes:{view}"
