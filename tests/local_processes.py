"""Processes and ports of the tests' own."""

import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

__all__ = ["end", "free_port", "wait_for"]

PATIENCE_SECONDS = 60.0


def free_port() -> int:
    """Return a port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def end(process: subprocess.Popen[bytes]) -> None:
    """End a process of ours, gently first."""
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def wait_for(
    ready: Callable[[], object],
    process: subprocess.Popen[bytes],
    log: Path,
    patience_s: float = PATIENCE_SECONDS,
) -> None:
    """Wait until `ready` stops raising."""
    deadline = time.monotonic() + patience_s
    while True:
        try:
            ready()
            return
        except Exception as error:
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"not ready: {error!r}\n{log.read_text()[-2000:]}") from error
            time.sleep(0.05)
