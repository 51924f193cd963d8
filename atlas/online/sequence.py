"""The last rows of each entity in Redis, for models that look at a sequence: written and decoded.

One string for each entity and view holds its rows by event time: 8 bytes event and 8 bytes known,
little-endian microseconds since 1970, then 8 bytes for each feature, NaN for null. Behind the rows
come 8 bytes that name the features, so that rows of other features are never taken for these. An
entity costs `depth * (16 + 8 * n_features)` bytes and about a hundred more: 64 rows of 30 features
are 16 kB.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import numpy.typing as npt
from redis import Redis
from redis.cluster import RedisCluster

from atlas.bus import Script
from atlas.errors import FeatureMismatch, InvalidInput
from atlas.online.entity_keys import EntityKeys, EntityValue
from atlas.online.materialisation.slots import by_slot
from atlas.online.replies import bulks
from atlas.online.round_trip import Command
from atlas.online.status import Status
from atlas.online.values import IN_FLOAT64
from atlas.online.wire import history_key
from atlas.serving import ReadPlan, feature_hash

__all__ = ["History", "SequenceReads", "SequenceWriter"]

Micros = Sequence[int] | npt.NDArray[np.int64]

# One script call holds Redis for some milliseconds at most, also when rows come out of order.
_KEYS_PER_CALL = 64
# Lua has doubles: beyond this, in the year 2255, two times might look equal.
_LAST_MICROS = 1 << 53

# KEYS: one for each entity. ARGV: bytes of a row, rows to keep, the mark of the features, whether
# a row of the same (event, known) with other values replaces the one there, seconds to live (0: as
# before), and for each entity its new rows, by event, each event once.
_MERGE = Script("""
local size, depth, mark, restates = tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3], ARGV[4] == '1'
local ttl = tonumber(ARGV[5])
local landed = 0

local function times(rows, at)
  return struct.unpack('<i8i8', rows, at + 1)
end

local function row(rows, at)
  return string.sub(rows, at + 1, at + size)
end

local function merged(old, new)
  local rows, is_new, a, b = {}, {}, 0, 0
  while a < #old or b < #new do
    local event, known, new_event, new_known
    if a < #old then event, known = times(old, a) end
    if b < #new then new_event, new_known = times(new, b) end
    local n = #rows + 1
    if not new_event or (event and event < new_event) then
      rows[n], is_new[n] = row(old, a), false
      a = a + size
    else
      local taken = row(new, b)
      local lands = true
      if event == new_event then
        local there = row(old, a)
        lands = new_known > known or (restates and new_known == known and taken ~= there)
        if not lands then taken = there end
        a = a + size
      end
      rows[n], is_new[n] = taken, lands
      b = b + size
    end
  end
  local first, count = math.max(1, #rows - depth + 1), 0
  for n = first, #rows do
    if is_new[n] then count = count + 1 end
  end
  return table.concat(rows, '', first), count
end

for i, key in ipairs(KEYS) do
  local new = ARGV[5 + i]
  local old = redis.call('GET', key)
  old = old and string.sub(old, -#mark) == mark and string.sub(old, 1, -#mark - 1) or ''
  local rows, count
  if old == '' or (times(old, #old - size)) < (times(new, 0)) then
    rows, count = string.sub(old .. new, -size * depth), #new / size
  else
    rows, count = merged(old, new)
  end
  if count > 0 then
    redis.call('SET', key, rows .. mark, 'KEEPTTL')
    if ttl > 0 then redis.call('EXPIRE', key, ttl) end
  end
  landed = landed + count
end
return landed
""")


@dataclass(frozen=True, slots=True)
class _Layout:
    """How a plan's rows lie in bytes."""

    row: np.dtype[Any]
    mark: bytes

    @staticmethod
    def of(plan: ReadPlan) -> _Layout:
        if plan.depth < 1:
            raise InvalidInput(
                f"Expected view {plan.view} to keep its last rows; its depth is {plan.depth}. Give "
                "its feature set a depth, apply it and materialise again."
            )
        wrong = [
            f"{name} ({kind})"
            for name, kind in zip(plan.features, plan.kinds, strict=True)
            if kind not in IN_FLOAT64
        ]
        if wrong:
            raise InvalidInput(
                f"Expected the features of view {plan.view} to be numbers that float64 carries, "
                f"since it keeps its last rows; found {', '.join(wrong)}."
            )
        row = np.dtype(
            [("event", "<i8"), ("known", "<i8"), ("values", "<f8", (len(plan.features),))]
        )
        return _Layout(row, bytes.fromhex(feature_hash(plan.view, plan.features)))


class SequenceWriter:
    """Keeps the last `plan.depth` rows of each entity; safe to repeat, in any order, and to race.

    Of two rows with one event the one known later stays; a row that comes late takes its place by
    event time, or none if so many later ones are there.

    Parameters
    ----------
    restates : bool
        Whether a row with the same event and known, but other values, replaces the one there.
    seconds_to_live : int or None
        So long after its last change an entity's history goes; None leaves that as it is.
    """

    def __init__(
        self,
        redis: Redis | RedisCluster,
        plan: ReadPlan,
        *,
        restates: bool = False,
        seconds_to_live: int | None = None,
    ) -> None:
        self._layout = _Layout.of(plan)
        self._redis = redis
        self._plan = plan
        self._key = EntityKeys(plan)
        self._head = (
            self._layout.row.itemsize,
            plan.depth,
            self._layout.mark,
            int(restates),
            seconds_to_live or 0,
        )

    def write(
        self,
        keys: Sequence[EntityValue],
        event_us: Micros,
        known_us: Micros,
        values: npt.NDArray[np.float64],
    ) -> int:
        """Write rows and return how many have changed what is kept.

        Parameters
        ----------
        event_us, known_us : (n,)
            Microseconds since 1970.
        values : (n, n_features)
            In the plan's order; NaN is null.

        Raises
        ------
        InvalidInput
            If the lengths differ, or a time lies beyond the year 2255.
        StoreUnavailable
            If Redis does not answer.
        """
        rows = self._rows(len(keys), np.asarray(event_us), np.asarray(known_us), values)
        if not len(rows):
            return 0
        entities = {key: at for at, key in enumerate(dict.fromkeys(keys))}
        codes = np.fromiter((entities[key] for key in keys), np.int64, len(keys))
        order = _latest(codes, rows["event"], rows["known"], self._plan.depth)
        ends = np.cumsum(np.bincount(codes[order], minlength=len(entities)))
        parts = np.split(rows[order], ends[:-1])
        redis_keys = [history_key(self._plan.view, self._key(key)) for key in entities]
        landed = 0
        for chunk in self._chunks(redis_keys):
            landed += _MERGE.run(
                cast("Redis", self._redis),
                cast("Sequence[str]", [redis_keys[at] for at in chunk]),
                [*self._head, *(parts[at].tobytes() for at in chunk)],
            )
        return landed

    def _rows(
        self,
        n: int,
        event_us: npt.NDArray[np.int64],
        known_us: npt.NDArray[np.int64],
        values: npt.NDArray[np.float64],
    ) -> npt.NDArray[Any]:
        width = len(self._plan.features)
        if event_us.shape != (n,) or known_us.shape != (n,) or values.shape != (n, width):
            raise InvalidInput(
                f"Expected {n} events, {n} known times and values of shape ({n}, {width}) for view "
                f"{self._plan.view}; found shapes {event_us.shape}, {known_us.shape} and "
                f"{values.shape}."
            )
        rows = np.empty(n, self._layout.row)
        for name, micros in (("event", event_us), ("known", known_us)):
            if np.any(np.abs(micros) >= _LAST_MICROS):
                raise InvalidInput(
                    f"Expected {name} times of view {self._plan.view} in microseconds since 1970, "
                    f"before the year 2255; found {micros[np.argmax(np.abs(micros))]}."
                )
            rows[name] = micros
        # One NaN for all, so that equal rows have equal bytes.
        rows["values"] = np.where(np.isnan(values), np.nan, values)
        return rows

    def _chunks(self, keys: Sequence[bytes]) -> Iterator[Sequence[int]]:
        # A script's keys must lie in one slot of a cluster.
        clustered = isinstance(self._redis, RedisCluster)
        groups: list[Sequence[int]] = (
            [places.tolist() for _, places in by_slot(keys)] if clustered else [range(len(keys))]
        )
        for group in groups:
            for start in range(0, len(group), _KEYS_PER_CALL):
                yield group[start : start + _KEYS_PER_CALL]


def _latest(
    codes: npt.NDArray[np.int64],
    events: npt.NDArray[np.int64],
    knowns: npt.NDArray[np.int64],
    depth: int,
) -> npt.NDArray[np.intp]:
    """Return the places of each entity's last rows, by entity and event, each event once."""
    # Of one event's rows the known latest comes last, and of those the first given.
    order = np.lexsort((-np.arange(len(codes)), knowns, events, codes))
    by_code, by_event = codes[order], events[order]
    last = np.ones(len(order), np.bool_)
    last[:-1] = (by_code[1:] != by_code[:-1]) | (by_event[1:] != by_event[:-1])
    order, by_code = order[last], by_code[last]
    ends = np.searchsorted(by_code, by_code, side="right")
    return order[ends - np.arange(len(order)) <= depth]


@dataclass(frozen=True, slots=True)
class History:
    """The last rows of several keys, oldest first; where there are fewer, they stand at the end."""

    values: npt.NDArray[np.float64]
    """(n_keys, n, n_features); NaN for null, in front of the first row, and where STALE."""
    event_ts: npt.NDArray[np.int64]
    """(n_keys, n); microseconds since 1970, 0 in front of the first row."""
    n_rows: npt.NDArray[np.int64]
    """(n_keys,); how many rows there are, at most n."""
    status: npt.NDArray[np.uint8]
    """(n_keys,); `Status` of the sequence: PRESENT, STALE by its last row's age, or MISSING."""
    known_ts: npt.NDArray[np.int64]
    """(n_keys, n); when each row became known, as `event_ts`."""


class SequenceReads:
    """How the last rows are asked for, and how the replies become arrays."""

    def __init__(self, plan: ReadPlan) -> None:
        self._layout = _Layout.of(plan)
        self._plan = plan

    def command(self, entity: bytes, n: int) -> Command:
        """Ask for an entity's last n rows, and the mark behind them.

        Raises
        ------
        InvalidInput
            If the view does not keep so many.
        """
        if not 1 <= n <= self._plan.depth:
            raise InvalidInput(
                f"Expected to read 1 to {self._plan.depth} rows, as many as view "
                f"{self._plan.view} keeps; found {n}. Raise the depth of its feature set."
            )
        size = n * self._layout.row.itemsize + len(self._layout.mark)
        return Command.of(b"GETRANGE", history_key(self._plan.view, entity), b"%d" % -size, b"-1")

    def decode(self, reply: bytes, n_keys: int, n: int, now_us: int) -> History:
        """Read the replies to one command for each key.

        Raises
        ------
        FeatureMismatch
            If the rows are of other features than the plan's.
        StoreUnavailable
            If Redis answered with an error.
        """
        row, mark = self._layout.row, self._layout.mark
        nothing = np.zeros(n, row)
        nothing["values"] = np.nan
        padding = nothing.tobytes()
        parts, n_rows = [], np.zeros(n_keys, np.int64)
        for at, data in enumerate(bulks(reply, n_keys)):
            whole, rest = divmod(max(len(data) - len(mark), 0), row.itemsize)
            if data and (rest or not data.endswith(mark)):
                raise FeatureMismatch(
                    f"Expected the last rows of view {self._plan.view} to have the features "
                    f"{', '.join(self._plan.features)}; found rows of others. Materialise again."
                )
            n_rows[at] = whole
            parts += [padding[whole * row.itemsize :], data[: whole * row.itemsize]]
        rows = np.frombuffer(b"".join(parts), row).reshape(n_keys, n)
        event_ts = rows["event"].astype(np.int64)
        values = rows["values"].astype(np.float64)
        status = np.where(n_rows, np.uint8(Status.PRESENT), np.uint8(Status.MISSING))
        if self._plan.ttl_us:
            stale = (now_us - event_ts[:, -1] > self._plan.ttl_us) & (n_rows > 0)
            status[stale] = Status.STALE
            values[stale] = np.nan
        return History(values, event_ts, n_rows, status, rows["known"].astype(np.int64))
