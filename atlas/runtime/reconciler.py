"""Makes Redis agree with SQL whenever Redis has started: the stack's component `reconciler`.

A Redis that was killed may come back with an older permit or route, or with none. This process,
`python -m atlas.runtime.reconciler`, notices each start of Redis and lets the logs in SQL decide
again. It does so only then: a permit that somebody deletes by hand stays deleted.

Beside that, in a thread of its own that may wait for MLflow as long as it likes, aliases follow.
"""

from __future__ import annotations

import os
import signal
import threading
from typing import Any

from redis import Redis

from atlas.bus import connect, reaching
from atlas.config import load_settings
from atlas.deployment import reconcile
from atlas.deployment.aliases import AliasFollower
from atlas.errors import AtlasError
from atlas.registry.mlflow_registry import MlflowRegistry
from atlas.runtime.installation import Installation
from atlas.telemetry import configure_logging, get_logger

__all__ = ["SIGNATURE_KEY", "Reconciler", "main"]

log = get_logger(__name__)

SIGNATURE_KEY = "atlas:reconciled"
_PERIOD_S = 0.5
_EXPIRES_S = 10
_ALIAS_PERIOD_S = 5.0


class Reconciler:
    """Remembers which start of Redis it has reconciled."""

    def __init__(self, installation: Installation) -> None:
        self._installation = installation
        self._reconciled = ""

    def look(self) -> bool:
        """Reconcile if Redis has started since the last look; say whether that was so.

        Raises
        ------
        AtlasError
            If SQL or Redis does not answer, or Redis is ahead of the log.
        """
        redis = self._installation.redis
        run = _run_of(redis)
        fresh = run != self._reconciled
        if fresh:
            done = reconcile(self._installation.deployments, self._installation.latch, redis)
            log.info("reconciled", routes=list(done.routes), permitted=done.permitted)
            self._reconciled = run
        with reaching(redis):
            redis.set(SIGNATURE_KEY, os.getpid(), ex=_EXPIRES_S)
        return fresh


def main() -> None:
    """Look twice a second until a signal ends it."""
    configure_logging()
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    settings = load_settings()
    installation = Installation(settings)
    reconciler = Reconciler(installation)
    follower = AliasFollower(
        installation.deployments,
        MlflowRegistry(settings.mlflow_url),
        connect(settings.host, settings.redis_port, asks=False),
    )
    # A daemon: the end of this process does not wait for MLflow.
    threading.Thread(target=_follow_aliases, args=(follower, stop), daemon=True).start()
    while not stop.is_set():
        try:
            reconciler.look()
        except AtlasError as error:
            log.error("not_reconciled", reason=str(error))
        stop.wait(_PERIOD_S)


def _follow_aliases(follower: AliasFollower, stop: threading.Event) -> None:
    while not stop.is_set():
        follower.look_patiently()
        stop.wait(_ALIAS_PERIOD_S)


def _run_of(redis: Redis) -> str:
    with reaching(redis):
        server: Any = redis.info("server")
    return str(server["run_id"])


if __name__ == "__main__":
    main()
