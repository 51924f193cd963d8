"""The component `live`: plays what the plan in Redis says, and waits while there is none."""

from __future__ import annotations

import signal
import threading

from clickhouse_connect.driver.exceptions import ClickHouseError
from redis.exceptions import RedisError
from urllib3.exceptions import HTTPError

from atlas.bus import connect as connect_redis
from atlas.clickhouse import connect
from atlas.config import load_settings
from atlas.errors import StoreUnavailable
from atlas.streaming.replay import play
from atlas.telemetry import configure_logging, get_logger

__all__ = ["main"]

# A store that went away, or a new plan, is looked for so often.
_PAUSE_SECONDS = 0.5


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
            while not stop.is_set():
                play(redis, client, until=stop.is_set)
                stop.wait(_PAUSE_SECONDS)
        # clickhouse-connect raises its own errors and those of the HTTP client below it.
        except (StoreUnavailable, RedisError, ClickHouseError, HTTPError, OSError) as error:
            log.error("store_unavailable", reason=str(error)[:300])
            stop.wait(_PAUSE_SECONDS)


if __name__ == "__main__":
    main()
