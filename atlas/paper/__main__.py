"""The component `paper`: trades what models say on paper until a signal ends it."""

from __future__ import annotations

import os
import signal
import threading

from clickhouse_connect.driver.exceptions import ClickHouseError
from redis import Redis
from redis.exceptions import RedisError
from urllib3.exceptions import HTTPError

from atlas.bus import connect as connect_redis
from atlas.bus import reaching
from atlas.clickhouse import connect
from atlas.config import Settings, load_settings
from atlas.errors import StoreUnavailable
from atlas.fills import Costs
from atlas.paper.broker import Broker
from atlas.paper.ledger import PaperLedger
from atlas.registry import DeploymentLog
from atlas.telemetry import configure_logging, get_logger

__all__ = ["SIGNATURE_KEY", "main"]

SIGNATURE_KEY = "atlas:paper"
"""Key of Redis that holds the process of the broker which last got through a step."""

_PERIOD_S = 0.25
_EXPIRES_S = 10


def main() -> None:
    """Run until a signal ends it; a store that is away is looked for again."""
    configure_logging()
    log = get_logger(__name__)
    settings = load_settings()
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    while not stop.is_set():
        try:
            _trade(settings, stop)
        # clickhouse-connect raises its own errors and those of the HTTP client below it.
        except (StoreUnavailable, RedisError, ClickHouseError, HTTPError, OSError) as error:
            log.error("store_unavailable", reason=str(error)[:300])
            stop.wait(_PERIOD_S)


def _trade(settings: Settings, stop: threading.Event) -> None:
    redis = connect_redis(settings.host, settings.redis_port)
    broker = Broker(
        PaperLedger(settings.deployments_url),
        redis,
        connect(
            host=settings.host,
            port=settings.clickhouse_port,
            database=settings.clickhouse_database,
        ),
        DeploymentLog(settings.deployments_url),
        costs=Costs(settings.fee_bps, settings.half_spread_bps, settings.slippage_bps),
        patience=settings.paper_patience,
    )
    while not stop.is_set():
        done = broker.step()
        _sign(redis)
        if not done:
            stop.wait(_PERIOD_S)


def _sign(redis: Redis) -> None:
    with reaching(redis):
        redis.set(SIGNATURE_KEY, os.getpid(), ex=_EXPIRES_S)


if __name__ == "__main__":
    main()
