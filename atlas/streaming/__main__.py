"""The component `live`: plays what the plan in Redis says, and waits while there is none."""

from __future__ import annotations

import os
import signal
import threading
import time

from clickhouse_connect.driver.exceptions import ClickHouseError
from redis import Redis
from redis.exceptions import RedisError
from urllib3.exceptions import HTTPError

from atlas.bus import connect as connect_redis
from atlas.clickhouse import connect
from atlas.config import load_settings
from atlas.errors import StoreUnavailable
from atlas.streaming.replay import play
from atlas.telemetry import configure_logging, get_logger

__all__ = ["HEARTBEAT_KEY", "Heartbeat", "main"]

HEARTBEAT_KEY = "atlas:heartbeat:live"
# Longer than the longest step: a store of 200 bars of many symbols.
_HEARTBEAT_SECONDS = 15

# A store that went away, or a new plan, is looked for so often.
_PAUSE_SECONDS = 0.5


class Heartbeat:
    """Says in Redis that this process goes on; the key expires when it does not."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._next = 0.0

    def beat(self) -> None:
        """Renew the key, at most once a second."""
        if time.monotonic() >= self._next:
            self._redis.set(HEARTBEAT_KEY, os.getpid(), ex=_HEARTBEAT_SECONDS)
            self._next = time.monotonic() + 1.0


def main() -> None:
    """Run until a signal ends it."""
    configure_logging()
    log = get_logger(__name__)
    settings = load_settings()
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    while not stop.is_set():
        try:
            redis = connect_redis(settings.host, settings.redis_port)
            client = connect(
                host=settings.host,
                port=settings.clickhouse_port,
                database=settings.clickhouse_database,
            )
            heartbeat = Heartbeat(redis)

            def ended(heartbeat: Heartbeat = heartbeat) -> bool:
                heartbeat.beat()
                return stop.is_set()

            while not ended():
                play(redis, client, until=ended)
                stop.wait(_PAUSE_SECONDS)
        # clickhouse-connect raises its own errors and those of the HTTP client below it.
        except (StoreUnavailable, RedisError, ClickHouseError, HTTPError, OSError) as error:
            log.error("store_unavailable", reason=str(error)[:300])
            stop.wait(_PAUSE_SECONDS)


if __name__ == "__main__":
    main()
