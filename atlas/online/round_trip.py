"""Many commands to Redis in one round trip on an asyncio loop, and the bytes that come back.

redis-py takes longer to wrap a command and to parse a reply than Redis takes to answer. Here the
commands are bytes already and the reply stays bytes: no command holds Redis for long, as a script
over all keys would.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from redis.asyncio import Redis, RedisCluster
from redis.exceptions import ConnectionError, RedisError, TimeoutError

from atlas.bus import reaching

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
        self._redis = redis
        # Connections of redis-py's own making, so that TLS, passwords and databases are its matter;
        # they stay on loan and are closed with the client.
        self._free: list[Any] = []

    async def ask(self, commands: Sequence[Command]) -> bytes:
        """Return the replies to the commands, in their order, as Redis wrote them.

        Raises
        ------
        StoreUnavailable
            If Redis does not answer in time.
        """
        if isinstance(self._redis, RedisCluster):
            return await self._ask_cluster(self._redis, commands)
        with reaching(self._redis):
            kept = bool(self._free)
            connection = self._free.pop() if kept else await self._borrowed(self._redis)
            try:
                try:
                    return await _ask(connection, commands)
                except ConnectionError:
                    if not kept:
                        raise
                    # Redis was restarted since; reading twice does no harm.
                    return await _ask(connection, commands)
            finally:
                self._free.append(connection)

    async def _borrowed(self, redis: Redis) -> Any:
        pool: Any = redis.connection_pool
        return await pool.get_connection()

    async def _ask_cluster(self, redis: RedisCluster, commands: Sequence[Command]) -> bytes:
        # redis-py knows where each slot is, follows it when it moves, and asks all nodes at once.
        with reaching(redis):
            pipeline = redis.pipeline()
            for command in commands:
                name, *arguments = command.arguments
                pipeline.execute_command(name.decode(), *arguments)
            replies = await pipeline.execute()
        return b"".join(map(_as_written, replies))


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
    """Raise if Redis refused all commands: then the last one does not name the question."""
    if reply.startswith(b"-") and reply.endswith(b"\r\n"):
        lines = reply[:-2].split(b"\r\n")
        if len(lines) == n_replies and all(line.startswith(b"-") for line in lines):
            raise RedisError(lines[0][1:].decode(errors="replace"))


def _packed(arguments: Sequence[bytes]) -> bytes:
    return b"*%d\r\n" % len(arguments) + b"".join(
        b"$%d\r\n%s\r\n" % (len(argument), argument) for argument in arguments
    )


def _as_written(reply: bytes | list[bytes | None] | None) -> bytes:
    if isinstance(reply, list):
        return b"*%d\r\n" % len(reply) + b"".join(map(_as_written, reply))
    return b"$-1\r\n" if reply is None else b"$%d\r\n%s\r\n" % (len(reply), reply)
