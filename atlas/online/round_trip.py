"""Many commands to Redis in one round trip on an asyncio loop, and the bytes that come back.

redis-py takes longer to wrap a command and to parse a reply than Redis takes to answer. Here the
commands are bytes already and the reply stays bytes: no command holds Redis for long, as a script
over all keys would.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from redis.asyncio import Redis, RedisCluster
from redis.exceptions import ConnectionError, TimeoutError

from atlas.bus import reaching
from atlas.errors import InvalidInput, StoreUnavailable

__all__ = ["Command", "RoundTrip"]

_CHUNK = 1 << 20
_NONCE_BYTES = 16


@dataclass(frozen=True, slots=True)
class Command:
    """One command, and how it goes over the wire."""

    arguments: tuple[bytes, ...]
    packed: bytes

    @staticmethod
    def of(*arguments: bytes) -> Command:
        """Pack a command."""
        return Command(arguments, _packed(arguments))


class RoundTrip:
    """Asks one Redis, or the nodes of a cluster; safe for concurrent tasks of one loop."""

    def __init__(self, redis: Redis | RedisCluster) -> None:
        if not isinstance(redis, Redis | RedisCluster):
            raise InvalidInput(
                f"Expected an asyncio client of Redis; found {type(redis).__module__}."
                f"{type(redis).__name__}. Make one with `atlas.bus.connect_async`."
            )
        self._redis = redis

    async def ask(self, commands: Sequence[Command]) -> bytes:
        """Return the replies to the commands, in their order, as Redis wrote them.

        Raises
        ------
        InvalidInput
            If the client is in use by another loop.
        StoreUnavailable
            If Redis does not answer in time, or refuses.
        """
        if isinstance(self._redis, RedisCluster):
            return await self._ask_cluster(self._redis, commands)
        with reaching(self._redis):
            # Connections are of redis-py's own making, so that TLS, passwords, databases and how
            # many there may be are its matter; one is on loan for a single question.
            pool: Any = self._redis.connection_pool
            connection = await _borrowed(pool)
            try:
                try:
                    return await _ask(connection, commands)
                except ConnectionError:
                    # Redis may have been restarted since; reading twice does no harm.
                    return await _ask(connection, commands)
            finally:
                await pool.release(connection)

    async def _ask_cluster(self, redis: RedisCluster, commands: Sequence[Command]) -> bytes:
        # redis-py knows where each slot is, follows it when it moves, and asks all nodes at once.
        with reaching(redis):
            pipeline = redis.pipeline()
            for command in commands:
                name, *arguments = command.arguments
                pipeline.execute_command(name.decode(), *arguments)
            replies = await pipeline.execute()
        return b"".join(map(_as_written, replies))


async def _borrowed(pool: Any) -> Any:
    """Take a connection of the running loop; one that an ended loop left is opened anew."""
    if pool.can_get_connection():
        # Without redis-py's own check, which takes longer than it tells: each answer is checked.
        connection = pool.get_available_connection()
    else:
        try:
            connection = await pool.get_connection()
        except RuntimeError as error:
            raise _foreign(error) from error
    try:
        if connection.is_connected:
            reader = connection._reader
            if reader._loop.is_closed() or reader._buffer:
                with suppress(RuntimeError):  # of a transport that can no longer tell its loop
                    await connection.disconnect(nowait=True)
            elif reader._loop is not asyncio.get_running_loop():
                raise _foreign("a connection of a loop that still runs")
    except BaseException:
        await pool.release(connection)
        raise
    return connection


def _foreign(found: object) -> InvalidInput:
    return InvalidInput(
        f"Expected a client of Redis of the running event loop; found: {found}. Make a client for "
        "each loop, and close it there."
    )


async def _ask(connection: Any, commands: Sequence[Command]) -> bytes:
    # The last reply names this very question, so a reply to another is never taken for it.
    nonce = os.urandom(_NONCE_BYTES // 2).hex().encode()
    end = b"$%d\r\n%s\r\n" % (_NONCE_BYTES, nonce)
    done = False
    try:
        if not connection.is_connected:
            await connection.connect()
        reader, writer = connection._reader, connection._writer
        async with asyncio.timeout(connection.socket_timeout):
            writer.write(b"".join([*(c.packed for c in commands), _packed((b"PING", nonce))]))
            reply = bytearray()
            while not reply.endswith(end):
                chunk = await reader.read(_CHUNK)
                if not chunk:
                    raise ConnectionError("the connection was closed")
                reply += chunk
                _require_service(reply, len(commands) + 1)
        done = True
        return bytes(reply[: -len(end)])
    except OSError as error:  # which a time-out is, too
        if isinstance(error, asyncio.TimeoutError):
            raise TimeoutError(f"no answer in {connection.socket_timeout} s") from error
        raise ConnectionError(str(error)) from error
    finally:
        if not done:
            # A reply may still be under way, also when this task was cancelled.
            await connection.disconnect(nowait=True)


def _require_service(reply: bytearray, n_replies: int) -> None:
    """Raise if Redis refused the last command: then no reply names the question."""
    # The last line nearly always shows at once that it is no refusal; a value may look like one.
    before = reply.rfind(b"\r\n", 0, -2)
    last = before + 2 if before >= 0 else 0
    if not (reply.endswith(b"\r\n") and reply.startswith(b"-", last)):
        return
    places = [0]
    while len(places) <= n_replies and 0 <= places[-1] < len(reply):
        places.append(_end_of(reply, places[-1]))
    if len(places) != n_replies + 1 or places[-1] != len(reply):
        return
    if reply.startswith(b"-", places[-2]):
        # The first says it of the read itself, where that was refused, too.
        first = places[0] if reply.startswith(b"-") else places[-2]
        found = reply[first + 1 :].partition(b"\r\n")[0].decode(errors="replace")
        raise StoreUnavailable(
            f"Expected Redis to answer a read and the PING behind it; found: {found[:300]}. "
            "Wait until it serves, or allow its user both."
        )


def _end_of(reply: bytearray, at: int) -> int:
    """Return where the reply that begins there ends; -1 if it is not all there."""
    line = reply.find(b"\r\n", at)
    if line < 0:
        return -1
    kind, end = reply[at : at + 1], line + 2
    if kind == b"$":
        size = int(reply[at + 1 : line])
        end += size + 2 if size >= 0 else 0
    elif kind == b"*":
        for _ in range(int(reply[at + 1 : line])):
            end = _end_of(reply, end) if 0 <= end < len(reply) else -1
    return end if end <= len(reply) else -1


def _packed(arguments: Sequence[bytes]) -> bytes:
    return b"*%d\r\n" % len(arguments) + b"".join(
        b"$%d\r\n%s\r\n" % (len(argument), argument) for argument in arguments
    )


def _as_written(reply: bytes | list[bytes | None] | None) -> bytes:
    if isinstance(reply, list):
        return b"*%d\r\n" % len(reply) + b"".join(map(_as_written, reply))
    return b"$-1\r\n" if reply is None else b"$%d\r\n%s\r\n" % (len(reply), reply)
