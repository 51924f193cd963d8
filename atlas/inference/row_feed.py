"""How notifications of new feature rows are read: in order, each until it is acknowledged.

An entry of one of `atlas.serving.rows_streams` has the fields `symbol` and `event_us`. It may carry
the row itself, as `values` (little-endian float64, NaN for null) and `feature_hash`
(`atlas.serving.feature_hash` of the view and the features in that order), so that a row that the
online store has meanwhile replaced can still be predicted. Other fields are passed over.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from redis.asyncio import Redis as AsyncRedis
from redis.exceptions import ResponseError

from atlas.bus import Script, reaching
from atlas.errors import InvalidInput
from atlas.serving import rows_streams

__all__ = ["GROUP", "Entry", "Row", "RowFeed", "parse_row"]

GROUP = "worker"
"""The consumer group; its pending entries are the rows that nobody has finished."""

# A batch under three models holds the event loop for some 20 ms at a time.
_BATCH = 96
_BLOCK_MS = 250

# A consumer takes its pending entries along, so one that has any must stay.
_LEAVE = Script("""
for _, stream in ipairs(KEYS) do
    local pending = redis.pcall('XPENDING', stream, ARGV[1], '-', '+', 1, ARGV[2])
    if not pending.err and #pending == 0 then
        redis.call('XGROUP', 'DELCONSUMER', stream, ARGV[1], ARGV[2])
    end
end
return 1
""")

Fields = Mapping[bytes, bytes]


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of the stream, as it was read."""

    partition: int
    """Place of its stream among those of the view."""
    id: bytes
    fields: Fields | None
    """None when the stream was trimmed before the entry was served."""

    @property
    def written_ms(self) -> int:
        """When Redis took the entry, in wall milliseconds since 1970."""
        return int(self.id.split(b"-")[0])


@dataclass(frozen=True, slots=True)
class Row:
    """A notification: this symbol has a new feature row."""

    symbol: str
    event_us: int
    feature_hash: str | None = None
    values: bytes | None = None
    """The row itself, if the notification carries it."""


def parse_row(fields: Fields) -> Row:
    """Read the fields of an entry.

    Raises
    ------
    InvalidInput
        If the symbol or the time is absent or is not one.
    """
    try:
        carried = fields.get(b"values")
        named = fields.get(b"feature_hash")
        return Row(
            symbol=fields[b"symbol"].decode(),
            event_us=int(fields[b"event_us"]),
            feature_hash=named.decode() if named is not None else None,
            values=carried if named is not None else None,
        )
    except (KeyError, ValueError) as error:
        raise InvalidInput(
            f"Expected a notification with the fields symbol and event_us; found {dict(fields)!r}."
        ) from error


class RowFeed:
    """Reads a view's notifications, of the partitions whose leases this worker holds."""

    def __init__(self, redis: AsyncRedis, view: str, worker: str) -> None:
        self.view = view
        self.streams = rows_streams(view)
        self._redis = redis
        self._worker = worker
        self._seen: set[str] = set()

    async def pending(self, partitions: Collection[int]) -> list[Entry]:
        """Return the oldest entries that some worker was given and did not finish, in order.

        They are served before anything new, whoever had them: a later row of the same symbol would
        make them late. To be called only under the leases, as it takes entries from other workers.
        """
        at = sorted(partitions)
        count = _share_of_batch(at)
        with reaching(self._redis):
            async with self._redis.pipeline(transaction=False) as pipeline:
                for number in at:
                    pipeline.xautoclaim(
                        self.streams[number], GROUP, self._worker, 0, count=count, justid=True
                    )
                claimed: Any = await pipeline.execute(raise_on_error=False)
            ids: list[tuple[int, bytes]] = []
            for number, reply in zip(at, claimed, strict=True):
                if isinstance(reply, ResponseError):
                    await self._create(self.streams[number], reply)
                elif isinstance(reply, Exception):
                    raise reply
                else:
                    self._seen.add(self.streams[number])
                    ids += ((number, id) for id in reply)
            # An entry that was trimmed comes back without fields, and only its id can end it.
            async with self._redis.pipeline(transaction=False) as pipeline:
                for number, id in ids:
                    pipeline.xrange(self.streams[number], min=id, max=id)
                found: Any = await pipeline.execute() if ids else []
        return [
            Entry(number, id, entries[0][1] if entries else None)
            for (number, id), entries in zip(ids, found, strict=True)
        ]

    async def fresh(self, partitions: Collection[int]) -> list[Entry]:
        """Wait a quarter of a second at most for new entries; return them in order."""
        at = {self.streams[number]: number for number in sorted(partitions)}
        with reaching(self._redis):
            try:
                reply: Any = await self._redis.xreadgroup(
                    GROUP,
                    self._worker,
                    dict.fromkeys(at, ">"),
                    count=_share_of_batch(at),
                    block=_BLOCK_MS,
                )
            except ResponseError as error:
                for stream in at:
                    await self._create(stream, error)
                return []
        self._seen.update(at)
        return [
            Entry(at[stream.decode()], id, fields)
            for stream, entries in reply or ()
            for id, fields in entries
        ]

    async def leave(self) -> None:
        """Say that this worker reads no more: who waits for all readers need not wait for it."""
        await _LEAVE.run_async(self._redis, self.streams, (GROUP, self._worker))

    async def _create(self, stream: str, error: ResponseError) -> None:
        """Create the group that Redis lacks."""
        if not str(error).startswith("NOGROUP"):
            raise error
        # A first reader begins with what comes next. But a group that was there is gone with all
        # that Redis held: whatever is in the stream came since, and nobody has read it.
        start = "0" if stream in self._seen else "$"
        try:
            await self._redis.xgroup_create(stream, GROUP, id=start, mkstream=True)
        except ResponseError as refused:
            if not str(refused).startswith("BUSYGROUP"):
                raise
        self._seen.add(stream)


def _share_of_batch(streams: Collection[Any]) -> int:
    # Redis counts for each stream.
    return max(1, _BATCH // max(1, len(streams)))
