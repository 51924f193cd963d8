"""Requests over a fixed number of connections, sent as quickly as they are answered."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import dataclass
from urllib.parse import urlsplit

import numpy as np

__all__ = ["Load", "load"]


@dataclass(frozen=True)
class Load:
    """What came of it."""

    requests: int
    seconds: float
    p50_s: float
    p99_s: float
    failed: int
    """Answers with another status than 200."""

    @property
    def per_second(self) -> float:
        """Requests answered a second."""
        return self.requests / self.seconds


def load(url: str, bodies: list[object], *, connections: int, seconds: float) -> Load:
    """Post the bodies in turn over so many connections for a time."""
    return asyncio.run(_load(url, bodies, connections, seconds))


async def _load(url: str, bodies: list[object], connections: int, seconds: float) -> Load:
    parts = urlsplit(url)
    host, port = parts.hostname or "127.0.0.1", parts.port or 80
    requests = []
    for body in bodies:
        text = json.dumps(body).encode()
        head = (
            f"POST {parts.path} HTTP/1.1\r\nHost: {host}:{port}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(text)}\r\n\r\n"
        )
        requests.append(head.encode() + text)
    took: list[float] = []
    failed = 0
    until = time.perf_counter() + seconds

    async def client(first: int) -> None:
        nonlocal failed
        reader, writer = await asyncio.open_connection(host, port)
        number = first
        while (began := time.perf_counter()) < until:
            writer.write(requests[number % len(requests)])
            head = await reader.readuntil(b"\r\n\r\n")
            length = next(
                int(line.split(b":")[1])
                for line in head.lower().split(b"\r\n")
                if line.startswith(b"content-length")
            )
            await reader.readexactly(length)
            took.append(time.perf_counter() - began)
            failed += not head.startswith(b"HTTP/1.1 200")
            number += 1
        writer.close()
        await writer.wait_closed()

    began = time.perf_counter()
    await asyncio.gather(*(client(first) for first in range(connections)))
    p50, p99 = np.percentile(took, (50, 99))
    return Load(len(took), time.perf_counter() - began, float(p50), float(p99), failed)
