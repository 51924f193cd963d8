"""How a result goes from the engine's pipe to the client: at once, held back, or as a stream."""

from __future__ import annotations

import asyncio
import json
import secrets
import tempfile
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import IO

from atlas.clickhouse.server.encoding import Encoder, encoder
from atlas.clickhouse.server.engine import Counts
from atlas.clickhouse.server.exchange import Exchange
from atlas.clickhouse.server.failure import QueryFailure
from atlas.clickhouse.server.pipe import ResultPipe

__all__ = ["deliver", "summary"]

# A result that ends within this is sent whole, so that an error can still have its own status.
_HEAD_BYTES = 256 << 10
# A result that the client wants complete before it starts goes to disk beyond this.
_MEMORY_BYTES = 32 << 20
_COPY_BYTES = 1 << 20
# Below this, encoding costs more than it saves.
_WORTH_ENCODING_BYTES = 1 << 10
_INLINE_BYTES = 64 << 10


async def deliver(
    exchange: Exchange,
    pipe: ResultPipe,
    outcome: Callable[[], Awaitable[Counts]],
    *,
    headers: Mapping[str, str],
    encoding: str | None,
    hold: bool,
    spool_folder: Path,
) -> None:
    """Send what comes through the pipe, and say so if the statement fails on the way.

    Parameters
    ----------
    outcome : async callable
        Waits for the statement's end; raises QueryFailure.
    hold : bool
        Whether to keep the result until the statement has ended.

    Raises
    ------
    QueryFailure
        If the statement fails before any of its result was sent.
    """
    head, ended = await _read_head(pipe)
    if ended:
        counts = await outcome()
        fields = {**headers, "X-ClickHouse-Summary": summary(counts)}
        if encoding and len(head) >= _WORTH_ENCODING_BYTES:
            fields["Content-Encoding"] = encoding
            head = await _Encoding(encoding).all(head)
        await exchange.respond(200, fields, head)
        return
    coding = _Encoding(encoding)
    fields = {**headers, **({"Content-Encoding": encoding} if encoding else {})}
    first = await coding.piece(head)
    if hold:
        with tempfile.SpooledTemporaryFile(_MEMORY_BYTES, dir=str(spool_folder)) as spool:
            size = await _collect(spool, first, pipe, coding)
            counts = await outcome()
            fields["X-ClickHouse-Summary"] = summary(counts)
            await exchange.begin(200, {**fields, "Content-Length": str(size)})
            await _replay(spool, exchange)
    else:
        await _stream(exchange, first, pipe, coding, outcome, fields)


def summary(counts: Counts) -> str:
    """Write the X-ClickHouse-Summary header, whose numbers are strings."""
    return json.dumps({name: str(value) for name, value in asdict(counts).items()})


class _Encoding:
    """An encoder that leaves the event loop for large pieces; or none."""

    def __init__(self, name: str | None) -> None:
        self._encoder: Encoder | None = encoder(name) if name else None

    async def piece(self, piece: bytes) -> bytes:
        if self._encoder is None:
            return piece
        if len(piece) <= _INLINE_BYTES:
            return self._encoder.encode(piece)
        return await asyncio.to_thread(self._encoder.encode, piece)

    def end(self) -> bytes:
        return self._encoder.finish() if self._encoder else b""

    async def all(self, body: bytes) -> bytes:
        return await self.piece(body) + self.end()


async def _read_head(pipe: ResultPipe) -> tuple[bytes, bool]:
    pieces: list[bytes] = []
    size = 0
    while size < _HEAD_BYTES:
        piece = await pipe.read()
        if not piece:
            return b"".join(pieces), True
        pieces.append(piece)
        size += len(piece)
    return b"".join(pieces), False


async def _stream(
    exchange: Exchange,
    first: bytes,
    pipe: ResultPipe,
    coding: _Encoding,
    outcome: Callable[[], Awaitable[Counts]],
    headers: Mapping[str, str],
) -> None:
    tag = secrets.token_hex(8)
    await exchange.begin(200, {**headers, "X-ClickHouse-Exception-Tag": tag})
    await exchange.write(first)
    while piece := await pipe.read():
        encoded = await coding.piece(piece)
        if encoded:
            await exchange.write(encoded)
    try:
        await outcome()
    except QueryFailure as failure:
        # Left without an end, the response is also broken for a client that knows no tags.
        await exchange.write(await coding.all(_tagged(failure, tag)))
        return
    await exchange.write(coding.end(), last=True)


def _tagged(failure: QueryFailure, tag: str) -> bytes:
    """Write an error behind half a result, in the way that clients look for it."""
    text = failure.text.encode() + b"\n"
    ending = f"{len(text)} {tag}\r\n__exception__\r\n".encode()
    return b"\r\n__exception__\r\n" + tag.encode() + b"\r\n" + text + ending


async def _collect(spool: IO[bytes], first: bytes, pipe: ResultPipe, coding: _Encoding) -> int:
    size = spool.write(first)
    while piece := await pipe.read():
        size += await asyncio.to_thread(spool.write, await coding.piece(piece))
    return size + spool.write(coding.end())


async def _replay(spool: IO[bytes], exchange: Exchange) -> None:
    spool.seek(0)
    while piece := await asyncio.to_thread(spool.read, _COPY_BYTES):
        await exchange.write(piece)
    await exchange.write(b"", last=True)
