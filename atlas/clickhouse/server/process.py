"""The process that owns a ClickHouse folder: its port, its signals, its orderly end."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import uvicorn
import uvloop

from atlas.clickhouse.server.engine import Engine
from atlas.clickhouse.server.interface import HttpInterface
from atlas.clickhouse.server.limits import Limits
from atlas.errors import InvalidInput, PortTaken
from atlas.telemetry import get_logger

__all__ = ["serve"]

log = get_logger(__name__)

# Clients keep connections for later and do not retry an INSERT on one that the server has closed.
_KEEP_ALIVE_SECONDS = 3600
# What still runs after a request to stop is cancelled then.
_GRACE_SECONDS = 3
_BACKLOG = 1024


def serve(
    path: str | Path, port: int, *, host: str = "127.0.0.1", limits: Limits | None = None
) -> None:
    """Own the ClickHouse folder `path` and answer on `port` until SIGTERM or SIGINT.

    Blocks. The process's time zone becomes UTC, as it is the engine's.

    Parameters
    ----------
    path : str or Path
        Made if absent. One process at a time can own it.
    port : int
        0 takes a free one, which the log line `clickhouse_ready` names.
    host : str
        A loopback address: whoever reaches the server may read and write files as its owner.
    limits : Limits, optional
        Memory and simultaneous statements; fitted to the machine by default.

    Raises
    ------
    PortTaken
        If another program listens there.
    StackBusy
        If another process owns the folder.
    InvalidInput
        If `host` is no loopback address, or the path cannot be used.
    StoreUnavailable
        If the engine cannot start on the folder.
    """
    started = time.monotonic()
    limits = limits or Limits()
    with closing(_bind(host, port)) as listener, Engine(Path(path), limits) as engine:
        interface = HttpInterface(engine, limits, host)

        def announce() -> None:
            log.info(
                "clickhouse_ready",
                host=host,
                port=listener.getsockname()[1],
                path=str(path),
                version=engine.version,
                took_ms=round((time.monotonic() - started) * 1e3),
            )

        server = _Server(_configuration(interface), announce)
        try:
            with _signals_survived(), asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(server.serve(sockets=[listener]))
        finally:
            interface.close()
    log.info("clickhouse_stopped", path=str(path))


class _Server(uvicorn.Server):
    """Uvicorn that says when it listens."""

    def __init__(self, configuration: uvicorn.Config, announce: Callable[[], None]) -> None:
        super().__init__(configuration)
        self._announce = announce

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._announce()


def _configuration(interface: HttpInterface) -> uvicorn.Config:
    # A response is left without an end on purpose when a statement fails halfway; uvicorn would
    # report each. Failures of our own are logged where they happen.
    logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
    return uvicorn.Config(
        interface,
        http="httptools",
        ws="none",
        lifespan="off",
        interface="asgi3",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        backlog=_BACKLOG,
        timeout_keep_alive=_KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=_GRACE_SECONDS,
    )


def _bind(host: str, port: int) -> socket.socket:
    try:
        address = ipaddress.ip_address("127.0.0.1" if host == "localhost" else host)
    except ValueError:
        address = None
    if address is None or not address.is_loopback:
        raise InvalidInput(
            f"Expected a loopback address such as 127.0.0.1, found {host!r}: the embedded server "
            "asks for no password. Use a ClickHouse server to reach it from other machines."
        )
    family = socket.AF_INET6 if address.version == 6 else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((str(address), port))
    except OSError as error:
        listener.close()
        raise PortTaken(
            f"Expected port {port} on {host} for ClickHouse to be free; found: {error.strerror}. "
            "Stop the program that listens there, or set ATLAS_CLICKHOUSE_PORT."
        ) from error
    return listener


@contextmanager
def _signals_survived() -> Iterator[None]:
    """Let uvicorn raise again the signal that stopped it, without the process dying of it."""
    stops = (signal.SIGTERM, signal.SIGINT)
    before = [signal.signal(number, signal.SIG_IGN) for number in stops]
    try:
        yield
    finally:
        for number, handler in zip(stops, before, strict=True):
            signal.signal(number, handler)
