"""Reads feature vectors from Redis without Feast: one round trip, arrays out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import numpy as np
import numpy.typing as npt
from redis.asyncio import Redis, RedisCluster

from atlas.clock import to_micros
from atlas.errors import InvalidInput
from atlas.online.columns import columns_of
from atlas.online.entity_keys import EntityKeys, EntityValue
from atlas.online.replies import doubles_of, locate
from atlas.online.round_trip import Command, RoundTrip
from atlas.online.sequence import History, SequenceReads
from atlas.online.status import Status
from atlas.online.values import IN_FLOAT64
from atlas.online.wire import event_field, event_micros, feature_field
from atlas.serving import ReadPlan, ValueKind

__all__ = ["OnlineReader", "Vectors"]

# Commands kept ready, each as long as the plan's fields.
_REMEMBERED = 20_000


@dataclass(frozen=True, slots=True)
class Vectors:
    """Feature vectors of several keys, in the plan's order of features."""

    values: npt.NDArray[np.float64]
    """(n_keys, n_features); NaN where the status is not PRESENT, and for what is in `columns`."""
    status: npt.NDArray[np.uint8]
    """(n_keys, n_features); values of `Status`."""
    event_ts: npt.NDArray[np.int64]
    """(n_keys,); microseconds since 1970 of each row's event, 0 when there is no row."""
    columns: Mapping[str, list[Any]] = field(default_factory=dict)
    """By name, n_keys values of each feature that float64 cannot carry exactly: whole numbers of 64
    bits, texts, bytes, timestamps and lists, as Feast gives them; None where not PRESENT."""


class OnlineReader:
    """Reads the rows of one view that a plan describes."""

    def __init__(self, redis: Redis | RedisCluster, plan: ReadPlan) -> None:
        self._round_trip = RoundTrip(redis)
        self._plan = plan
        self._key = EntityKeys(plan)
        self._fields = (
            event_field(plan.view),
            *(feature_field(plan.view, feature) for feature in plan.features),
        )
        self._commands: dict[EntityValue, Command] = {}
        self._sequences: SequenceReads | None = None
        self._all_doubles = all(kind is ValueKind.DOUBLE for kind in plan.kinds)

    async def read(self, keys: Sequence[EntityValue], *, now: datetime) -> Vectors:
        """Return the newest rows of those keys, in their order, in one round trip.

        A row is fresh while `now - event <= ttl`, the end included; the event is taken to whole
        microseconds, rounded down. A row whose event lies after `now` is present: it was written
        because it was known, so the clock is behind, not it. A `now` without a zone is in UTC.

        Raises
        ------
        FeatureMismatch
            If Redis holds a feature as something else than the plan says.
        InvalidInput
            If a key is not of the plan's kinds, or `now` is no moment.
        StoreUnavailable
            If Redis does not answer.
        """
        now_us = _moment(now)
        commands = self._made(self._command, keys)
        reply = await self._round_trip.ask(commands) if commands else b""
        width = len(self._plan.features)
        if self._all_doubles and (found := doubles_of(reply, len(commands), width)):
            written, values = found
            events: list[bytes | None] = list(written)
            status = np.full(values.shape, Status.PRESENT, np.uint8)
            columns: dict[str, list[Any]] = {}
        else:
            cells = locate(reply, len(commands), width)
            events = cells.events(reply)
            values, status, columns = columns_of(self._plan, reply, cells)
        return self._aged(values, status, columns, _micros(events), now_us)

    async def history(self, keys: Sequence[EntityValue], n: int, *, now: datetime) -> History:
        """Return the last n rows of those keys, in one round trip, as the offline store has them.

        A sequence is fresh while its last row is, by the rule of `read`.

        Raises
        ------
        FeatureMismatch
            If Redis holds rows of other features.
        InvalidInput
            If the view does not keep so many rows, or a key is not of the plan's kinds.
        StoreUnavailable
            If Redis does not answer.
        """
        now_us = _moment(now)
        if self._sequences is None:
            self._sequences = SequenceReads(self._plan)
        sequences = self._sequences
        commands = self._made(lambda key: sequences.command(self._key(key), n), keys)
        reply = await self._round_trip.ask(commands) if commands else b""
        return self._sequences.decode(reply, len(commands), n, now_us)

    def _aged(
        self,
        values: npt.NDArray[np.float64],
        status: npt.NDArray[np.uint8],
        columns: dict[str, list[Any]],
        event_ts: npt.NDArray[np.int64],
        now_us: int,
    ) -> Vectors:
        plan = self._plan
        numeric = np.array([kind in IN_FLOAT64 for kind in plan.kinds], np.bool_)
        # A NaN that another client wrote is no number either.
        status[np.isnan(values) & numeric & (status == Status.PRESENT)] = Status.NULL
        if plan.ttl_us:
            stale = now_us - event_ts > plan.ttl_us
            if stale.any():
                status[stale[:, None] & (status != Status.MISSING)] = Status.STALE
                values[stale] = np.nan
                for column in columns.values():
                    for row in np.flatnonzero(stale).tolist():
                        column[row] = None
        return Vectors(values, status, event_ts, columns)

    def _made(
        self, command: Callable[[EntityValue], Command], keys: Sequence[EntityValue]
    ) -> list[Command]:
        # A text is a sequence, too: of its letters, which are no keys.
        if isinstance(keys, str | bytes | Mapping | Set) or not isinstance(keys, Iterable):
            raise InvalidInput(
                f"Expected a list of keys of view {self._plan.view}; found {keys!r:.80}. Give one "
                "key as a list of one."
            )
        key: Any = None
        commands = []
        try:
            for key in keys:
                commands.append(command(key))
        except (TypeError, UnicodeEncodeError) as error:
            raise InvalidInput(
                f"Expected each key to be a value of {', '.join(self._plan.join_keys)}, or a tuple "
                f"with one for each; found {key!r:.80}."
            ) from error
        return commands

    def _command(self, key: EntityValue) -> Command:
        command = self._commands.get(key)
        # True equals 1, and 1.0 does: only what was checked may be taken from memory.
        if command is None or type(key) is not str:
            command = Command.of(b"HMGET", self._key(key), *self._fields)
            if len(self._commands) >= _REMEMBERED:
                self._commands.clear()
            self._commands[key] = command
        return command


def _moment(now: datetime) -> int:
    # pandas's NaT is a datetime that equals nothing.
    if not isinstance(now, datetime) or now != now:
        raise InvalidInput(
            f"Expected the moment of the read as a datetime; found {now!r:.80}. Ask the clock."
        )
    return to_micros(now if now.utcoffset() is not None else now.replace(tzinfo=UTC))


def _micros(events: Sequence[bytes | None]) -> npt.NDArray[np.int64]:
    # Bars close together: there are far fewer times than keys.
    known = {event: event_micros(event) if event is not None else 0 for event in set(events)}
    return np.array([known[event] for event in events], np.int64)
