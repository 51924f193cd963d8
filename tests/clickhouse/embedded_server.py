"""A real embedded server: a process of its own on a free port and a folder that the test gives."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import clickhouse_connect
import httpx
import pytest
from clickhouse_connect.driver.client import Client

START_SECONDS = 60


class EmbeddedServer:
    """`python -m atlas.clickhouse` as a child process."""

    def __init__(self, path: Path, *options: str) -> None:
        self.path = path
        self._options = options
        self._log = path.parent / f"{path.name}.log"
        self.process: subprocess.Popen[bytes]
        self.start()

    def start(self, port: int = 0) -> None:
        """Start it and wait until it listens."""
        command = [sys.executable, "-m", "atlas.clickhouse", "--path", str(self.path)]
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [*command, "--port", str(port), *self._options], stdout=log, stderr=log
            )
        deadline = time.monotonic() + START_SECONDS
        while (ready := self._ready()) is None:
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.process.kill()
                self.process.wait()
                pytest.fail(f"The server did not start: {self.log()}")
            time.sleep(0.02)
        self.port = int(ready["port"])
        self.ready = ready

    def log(self) -> str:
        """All that it has printed since it started."""
        return self._log.read_text()

    def _ready(self) -> dict[str, Any] | None:
        for line in self.log().splitlines():
            if "clickhouse_ready" in line:
                return dict(json.loads(line))
        return None

    @property
    def url(self) -> str:
        """Where its HTTP interface is."""
        return f"http://127.0.0.1:{self.port}/"

    def client(self, **arguments: Any) -> Client:
        """Return an ordinary client that may run several statements at once."""
        arguments.setdefault("autogenerate_session_id", False)
        return clickhouse_connect.get_client(host="127.0.0.1", port=self.port, **arguments)

    def post(self, sql: str | bytes, **parameters: Any) -> httpx.Response:
        """Send one statement with nothing between it and the wire."""
        return httpx.post(self.url, content=sql, params=parameters, timeout=60)

    def scalar(self, sql: str) -> str:
        """Return a statement's only value as text."""
        response = self.post(sql)
        assert response.status_code == 200, response.text
        return response.text.rstrip("\n")

    def running(self, marker: str) -> int:
        """Count the statements in progress whose text holds `marker`."""
        return int(
            self.scalar(
                "SELECT count() FROM system.processes "
                f"WHERE query LIKE '%{marker}%' AND query NOT LIKE '%system.processes%'"
            )
        )

    def memory_bytes(self) -> int:
        """The process's resident memory."""
        for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
        raise AssertionError("no VmRSS")

    def cpu_seconds(self) -> float:
        """What it has computed so far; unlike the time on the wall, not what others do."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Send a signal; return the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(timeout=30)


StartServer = Callable[..., EmbeddedServer]


def eventually(condition: Callable[[], bool], seconds: float = 15.0) -> bool:
    """Wait until something holds; say whether it did."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True
