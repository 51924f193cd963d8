"""Whether the workers have acted on a route, and how long they took."""

from __future__ import annotations

import time
from dataclasses import dataclass

from redis import Redis

from atlas.bus import read_acks
from atlas.serving import Route

__all__ = ["Followed", "await_workers"]

_LOOK_S = 0.02


@dataclass(frozen=True, slots=True)
class Followed:
    """What came of a route."""

    workers: tuple[str, ...]
    """Those that serve it."""
    behind: tuple[str, ...]
    """Those that are alive and do not."""
    took_s: float


def await_workers(redis: Redis, route: Route, *, patience_s: float) -> Followed:
    """Wait until every worker that is alive serves what the route says, or patience ends."""
    wanted = {str(manifest.stage): manifest.version for manifest in route.manifests()}
    began = time.monotonic()
    while True:
        acks = read_acks(redis, route.model)
        took_s = time.monotonic() - began
        serving = tuple(
            name
            for name, ack in sorted(acks.items())
            if ack.generation >= route.generation and dict(ack.versions) == wanted
        )
        # A later route is somebody else's, and they wait for it.
        behind = tuple(
            name
            for name, ack in sorted(acks.items())
            if name not in serving and ack.generation <= route.generation
        )
        if not behind or took_s >= patience_s:
            return Followed(serving, behind, took_s)
        time.sleep(_LOOK_S)
