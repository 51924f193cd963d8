"""The regime service's entry point: settings, stores, logs, signals."""

from __future__ import annotations

import asyncio
import signal
import sys
from functools import partial

from clickhouse_connect.driver.client import Client

from atlas.bus import connect as connect_redis
from atlas.bus import connect_async
from atlas.clickhouse import connect
from atlas.config import Settings, load_settings
from atlas.errors import AtlasError
from atlas.features import RegimeSet, stored_views
from atlas.inference.metrics import Metrics
from atlas.inference.parts import Parts
from atlas.inference.regimes.history import RegimeHistory
from atlas.inference.regimes.service import RegimeService
from atlas.regimes import SteadyRules
from atlas.registry import open_blobs
from atlas.telemetry import configure_logging

__all__ = ["main", "serve"]


def main() -> None:
    """Serve until SIGTERM or SIGINT; exit with 2 and one sentence if that cannot begin."""
    configure_logging()
    try:
        asyncio.run(serve(load_settings()))
    except AtlasError as error:
        print(error, file=sys.stderr)
        sys.exit(2)


async def serve(settings: Settings) -> None:
    """Keep the regimes of every regime view until SIGTERM or SIGINT.

    Raises
    ------
    InvalidInput
        If the settings bound nothing.
    """
    parts = Parts(Metrics())
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, parts.stopping.set)
    rules = SteadyRules(
        min_confidence=settings.regime_min_confidence,
        margin=settings.regime_margin,
        min_dwell=settings.regime_min_dwell,
        max_changes=settings.regime_max_changes,
    )
    redis = connect_redis(settings.host, settings.redis_port, asks=False)
    redis_async = connect_async(settings.host, settings.redis_port)

    def clickhouse() -> Client:
        return connect(
            host=settings.host,
            port=settings.clickhouse_port,
            database=settings.clickhouse_database,
        )

    services = [
        RegimeService(
            regimes,
            redis=redis,
            redis_async=redis_async,
            history=RegimeHistory(regimes, clickhouse),
            blobs=open_blobs(settings),
            parts=parts,
            rules=rules,
            max_empty=settings.regime_max_empty,
        )
        for regimes in stored_views()
        if isinstance(regimes, RegimeSet)
    ]
    period = settings.regime_period
    async with asyncio.TaskGroup() as group:
        for service in services:
            group.create_task(parts.keep("regimes", partial(service.run, period)))
    for service in services:
        service.close()
    await redis_async.aclose()
    redis.close()
