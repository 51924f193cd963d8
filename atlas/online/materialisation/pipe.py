"""Rows on their way to Redis: script calls sent ahead of their replies, within bounds.

A call's bytes are cut from columns that hold each key and each row as Redis reads it off the wire,
so that nothing is done per row here. Every reply is checked; the first that is an error ends the
run.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from redis import Redis
from redis.cluster import RedisCluster
from redis.exceptions import (
    AskError,
    ClusterDownError,
    MovedError,
    RedisError,
    ResponseError,
    TryAgainError,
)

from atlas.bus import reaching
from atlas.errors import StoreUnavailable
from atlas.online.landing import LANDING, Landing
from atlas.online.materialisation.slots import by_slot

__all__ = ["LandingPipe"]

# While Redis works on one call everybody else waits: some two milliseconds.
_ROWS_PER_CALL = 128
_MAX_CALLS = 64
_MAX_BYTES = 4 << 20
# How a node of a cluster says that it does not serve this slot, or not just now.
_ELSEWHERE = (MovedError, AskError, TryAgainError, ClusterDownError)


class LandingPipe:
    """Lands rows of one view on one server, or on the nodes of a cluster by slot.

    Parameters
    ----------
    redis : Redis or RedisCluster
        The connections used are the pipe's own while it is open.
    """

    def __init__(self, redis: Redis | RedisCluster, landing: Landing) -> None:
        self._redis = redis
        self._head = landing.head
        self._lanes: dict[str, _Lane] = {}
        self.landed = 0
        """Rows whose reply said so."""

    def send(self, keys: pa.BinaryArray, rows: pa.BinaryArray) -> None:
        """Send rows; returns before all have landed.

        Raises
        ------
        StoreUnavailable
            If Redis does not answer, or refuses.
        """
        if not isinstance(self._redis, RedisCluster):
            lane = self._lane("", self._redis)
            framed = _framed(keys), _framed(rows)
            for start in range(0, len(keys), _ROWS_PER_CALL):
                end = min(start + _ROWS_PER_CALL, len(keys))
                self.landed += lane.send(*framed, slice(start, end))
            return
        nodes = self._redis.nodes_manager
        for slot, places in by_slot(keys.to_pylist()):
            node = nodes.get_node_from_slot(slot)
            lane = self._lane(node.name, self._redis.get_redis_connection(node))
            chosen = keys.take(pa.array(places)), rows.take(pa.array(places))
            framed = _framed(chosen[0]), _framed(chosen[1])
            for start in range(0, len(places), _ROWS_PER_CALL):
                end = min(start + _ROWS_PER_CALL, len(places))
                self.landed += lane.send(*framed, slice(start, end), unframed=chosen)

    def finish(self) -> int:
        """Await every reply and return how many rows have landed in all."""
        for lane in self._lanes.values():
            self.landed += lane.drain()
        return self.landed

    def close(self) -> None:
        """Give the connections back; one with replies still to come is cut instead."""
        for lane in self._lanes.values():
            lane.close()
        self._lanes.clear()

    def _lane(self, name: str, node: Redis) -> _Lane:
        if name not in self._lanes:
            self._lanes[name] = _Lane(node, self._redis, self._head)
        return self._lanes[name]


@dataclass(frozen=True, slots=True)
class _Sent:
    """A call without a reply yet: its size, and what it takes to send it again."""

    size: int
    keys: pa.BinaryArray | None
    rows: pa.BinaryArray | None


class _Lane:
    """One connection, and the calls on it that await their replies."""

    def __init__(self, node: Redis, redis: Redis | RedisCluster, head: Sequence[Any]) -> None:
        self._node = node
        self._redis = redis
        self._head = head
        sha = hashlib.sha1(LANDING.text.encode(), usedforsecurity=False).hexdigest()
        self._start = b"$7\r\nEVALSHA\r\n" + _bulk(sha)
        self._middle = b"".join(map(_bulk, head))
        self._sent: deque[_Sent] = deque()
        self._bytes = 0
        with reaching(node):
            node.script_load(LANDING.text)
            self._connection: Any = node.connection_pool.get_connection()

    def send(
        self,
        keys: _Framed,
        rows: _Framed,
        part: slice,
        *,
        unframed: tuple[pa.BinaryArray, pa.BinaryArray] | None = None,
    ) -> int:
        """Send one call; return how many rows landed of calls whose replies came meanwhile."""
        n = part.stop - part.start
        command = b"".join(
            (
                b"*%d\r\n" % (3 + 2 * n + len(self._head)),
                self._start,
                _bulk(n),
                keys.cut(part),
                self._middle,
                rows.cut(part),
            )
        )
        landed = 0
        while self._sent and (
            len(self._sent) >= _MAX_CALLS or self._bytes + len(command) > _MAX_BYTES
        ):
            landed += self._receive()
        with reaching(self._node):
            self._connection.send_packed_command([command])
        self._bytes += len(command)
        again = (
            (unframed[0][part.start : part.stop], unframed[1][part.start : part.stop])
            if unframed
            else (None, None)
        )
        self._sent.append(_Sent(len(command), *again))
        return landed

    def drain(self) -> int:
        """Await every reply."""
        landed = 0
        while self._sent:
            landed += self._receive()
        return landed

    def close(self) -> None:
        """Give the connection back, or cut it if replies are still to come."""
        if self._sent:
            with suppress(RedisError, OSError):
                self._connection.disconnect()
        self._node.connection_pool.release(self._connection)

    def _receive(self) -> int:
        sent = self._sent[0]
        with reaching(self._node):
            try:
                reply = self._connection.read_response()
            except ResponseError as error:
                self._sent.popleft()
                if sent.keys is None or not isinstance(error, _ELSEWHERE):
                    raise
                reply = self._send_again(sent)
            else:
                self._sent.popleft()
        self._bytes -= sent.size
        if not isinstance(reply, int):
            raise StoreUnavailable(
                f"Expected Redis to say how many rows landed; found {reply!r:.200}. Look at what "
                "answers at its address."
            )
        return reply

    def _send_again(self, sent: _Sent) -> Any:
        """Let the cluster's client find out where the slot has gone."""
        assert sent.keys is not None
        assert sent.rows is not None
        keys = cast("Sequence[str]", sent.keys.to_pylist())
        return LANDING.run(cast("Redis", self._redis), keys, [*self._head, *sent.rows.to_pylist()])


class _Framed:
    """Texts as Redis reads them, one behind the other."""

    def __init__(self, texts: pa.BinaryArray) -> None:
        _, offsets, data = texts.buffers()
        self._ends: npt.NDArray[np.int32] = np.frombuffer(offsets, np.int32)[
            texts.offset : texts.offset + len(texts) + 1
        ]
        self._data = memoryview(data)

    def cut(self, part: slice) -> memoryview:
        """Return the bytes of some of them."""
        return self._data[int(self._ends[part.start]) : int(self._ends[part.stop])]


def _framed(texts: pa.BinaryArray) -> _Framed:
    sizes = pc.binary_length(texts).cast(pa.string()).cast(pa.binary())
    end = pa.scalar(b"\r\n", pa.binary())
    start = pa.scalar(b"$", pa.binary())
    nothing = pa.scalar(b"", pa.binary())
    return _Framed(pc.binary_join_element_wise(start, sizes, end, texts, end, nothing))


def _bulk(value: Any) -> bytes:
    data = value if isinstance(value, bytes) else str(value).encode()
    return b"$%d\r\n%b\r\n" % (len(data), data)
