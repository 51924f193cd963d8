"""The worker's entry point: settings, logs, signals."""

from __future__ import annotations

import gc
import signal
import socket
import sys
from asyncio import get_running_loop

import uvloop

from atlas.config import Settings, load_settings
from atlas.errors import AtlasError
from atlas.inference.http_server import listen
from atlas.inference.worker import Worker
from atlas.telemetry import configure_logging

__all__ = ["main", "run"]


def main() -> None:
    """Serve until SIGTERM or SIGINT; exit with 2 and one sentence if that cannot begin."""
    configure_logging()
    try:
        run(load_settings())
    except AtlasError as error:
        print(error, file=sys.stderr)
        sys.exit(2)


def run(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT.

    Raises
    ------
    PortTaken
        If another program listens on the worker's port.
    """
    # Before anything else: who shares the port would also share our name, and our rows.
    listener = listen(settings.host, settings.worker_port)
    uvloop.run(_serve(settings, listener))


async def _serve(settings: Settings, listener: socket.socket) -> None:
    # What was imported stays; to look through it again and again would hold the event loop 30 ms.
    worker = Worker(settings, listener, on_imported=gc.freeze)
    for number in (signal.SIGTERM, signal.SIGINT):
        get_running_loop().add_signal_handler(number, worker.stop)
    await worker.run()
