"""How to tell whether a component is healthy: over TCP, HTTP, Redis, or by what it reached.

Probes use the standard library alone, so that the supervisor and `atlas status` start at once.
Each returns why the component is not healthy, or None.
"""

from __future__ import annotations

import http.client
import json
import socket
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import psutil

__all__ = [
    "ConnectedProbe",
    "HttpProbe",
    "PrefectWorkerProbe",
    "RedisProbe",
    "SignatureProbe",
    "TcpProbe",
]

_TIMEOUT_S = 2.0


@dataclass(frozen=True, slots=True)
class TcpProbe:
    """Healthy when somebody accepts a connection."""

    host: str
    port: int

    def __call__(self, pid: int | None) -> str | None:
        """Return why nobody can be reached there, or None."""
        try:
            socket.create_connection((self.host, self.port), timeout=_TIMEOUT_S).close()
        except OSError as error:
            return f"{self.host}:{self.port} does not answer: {_reason(error)}"
        return None


@dataclass(frozen=True, slots=True)
class HttpProbe:
    """Healthy when a page answers 200, with a given text in it."""

    host: str
    port: int
    path: str
    expected: str = ""

    def __call__(self, pid: int | None) -> str | None:
        """Return what the page answered instead, or None."""
        where = f"http://{self.host}:{self.port}{self.path}"
        try:
            status, body = _request(self.host, self.port, "GET", self.path)
        except (OSError, http.client.HTTPException) as error:
            return f"{where} does not answer: {_reason(error)}"
        if status != 200:
            return f"{where} answers {status}: {_first_line(body)}"
        if self.expected not in body:
            return f"{where} should say {self.expected!r} and says {_first_line(body)!r}"
        return None


@dataclass(frozen=True, slots=True)
class RedisProbe:
    """Healthy when Redis answers PING, which it does not while it loads its data."""

    host: str
    port: int

    def __call__(self, pid: int | None) -> str | None:
        """Return what Redis answered instead, or None."""
        where = f"Redis at {self.host}:{self.port}"
        try:
            answer, *_ = _ask_redis(self.host, self.port, "PING")
        except OSError as error:
            return f"{where} does not answer: {_reason(error)}"
        return None if answer == "+PONG" else f"{where} answers {answer or 'nothing'!r} to PING"


@dataclass(frozen=True, slots=True)
class SignatureProbe:
    """Healthy while a key of Redis, which expires, holds the component's own process number.

    The number keeps what a killed process left behind from vouching for its successor.
    """

    host: str
    port: int
    key: str

    def __call__(self, pid: int | None) -> str | None:
        """Return what the key holds instead, or None."""
        try:
            length, value = _ask_redis(self.host, self.port, f"GET {self.key}", lines=2)
        except OSError as error:
            return f"Redis at {self.host}:{self.port} does not answer: {_reason(error)}"
        if length == "$-1":
            return f"it has not signed {self.key} in Redis"
        if pid is not None and value != str(pid):
            return f"{self.key} in Redis is signed by {value}, not by its process {pid}"
        return None


@dataclass(frozen=True, slots=True)
class ConnectedProbe:
    """Healthy while the component's process holds a connection to a port.

    For components that listen nowhere: it proves that they came up and reached their store.
    """

    port: int

    def __call__(self, pid: int | None) -> str | None:
        """Return that there is no such connection, or None."""
        if pid is None:
            return "no process of it is known"
        try:
            connections = psutil.Process(pid).net_connections(kind="tcp")
        except psutil.Error:
            return f"its process {pid} is gone"
        for each in connections:
            if each.raddr and each.raddr.port == self.port:
                return None
        return f"its process {pid} is not connected to port {self.port}"


@dataclass(frozen=True, slots=True)
class PrefectWorkerProbe:
    """Healthy when a worker of the pool has reported to Prefect since the process began."""

    host: str
    port: int
    pool: str
    max_age: timedelta

    def __call__(self, pid: int | None) -> str | None:
        """Return why no such worker is known, or None."""
        path = f"/api/work_pools/{self.pool}/workers/filter"
        try:
            status, body = _request(self.host, self.port, "POST", path, "{}")
            began = _began(pid)
        except (OSError, http.client.HTTPException) as error:
            return f"Prefect at {self.host}:{self.port} does not answer: {_reason(error)}"
        except psutil.Error:
            return f"its process {pid} is gone"
        if status != 200:
            return f"Prefect answers {status} about the workers of {self.pool}"
        try:
            workers = json.loads(body)
            heard = [datetime.fromisoformat(each["last_heartbeat_time"]) for each in workers]
        except (ValueError, KeyError, TypeError):
            return f"Prefect says about the workers of {self.pool}: {_first_line(body)}"
        newest = max(heard, default=None)
        if newest is None or newest < began:
            return f"no worker of pool {self.pool} has reported to Prefect since it was started"
        age = datetime.now(UTC) - newest
        if age > self.max_age:
            return f"the worker last reported to Prefect {age.total_seconds():.0f} s ago"
        return None


def _ask_redis(host: str, port: int, command: str, *, lines: int = 1) -> list[str]:
    """Return the first lines of the answer; fewer only where Redis hung up or said no."""
    with (
        socket.create_connection((host, port), _TIMEOUT_S) as connection,
        connection.makefile("rb") as replies,
    ):
        connection.sendall(f"{command}\r\n".encode())
        answer = [replies.readline().decode(errors="replace").strip()]
        if answer[0].startswith("$") and answer[0] != "$-1":
            answer += [
                replies.readline().decode(errors="replace").strip() for _ in range(lines - 1)
            ]
        return answer + [""] * (lines - len(answer))


def _began(pid: int | None) -> datetime:
    if pid is None:
        return datetime.fromtimestamp(0, UTC)
    # The kernel counts process starts in hundredths of a second from a rounded boot time.
    return datetime.fromtimestamp(psutil.Process(pid).create_time() - 1, UTC)


def _request(
    host: str, port: int, method: str, path: str, body: str | None = None
) -> tuple[int, str]:
    connection = http.client.HTTPConnection(host, port, timeout=_TIMEOUT_S)
    try:
        headers = {"Content-Type": "application/json"} if body is not None else {}
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        return answer.status, answer.read(1 << 20).decode(errors="replace")
    finally:
        connection.close()


def _first_line(body: str) -> str:
    return body.strip().splitlines()[0][:200] if body.strip() else "nothing"


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return str(error) or type(error).__name__
