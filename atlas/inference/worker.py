"""The worker: its parts put together, started, kept running and stopped in order."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial

from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from atlas.bus import connect_async
from atlas.config import Settings
from atlas.engines import import_xgboost_alone
from atlas.errors import AtlasError
from atlas.inference.api import build_app
from atlas.inference.enquiry import Enquiries
from atlas.inference.http_server import HttpServer
from atlas.inference.lease import Lease
from atlas.inference.lineup import Lineups
from atlas.inference.metrics import Metrics
from atlas.inference.opinion_batches import OpinionBatches
from atlas.inference.outbox import Outbox
from atlas.inference.parts import Parts
from atlas.inference.prediction_log import PredictionLog
from atlas.inference.pulse import watch_loop, watch_permit
from atlas.inference.readiness import Readiness
from atlas.inference.rounds import Rounds
from atlas.inference.route_follower import RouteFollower
from atlas.inference.vector_reader import VectorReader
from atlas.inference.view_consumer import Desk, ViewConsumer
from atlas.registry.blobs import open_blobs
from atlas.telemetry import get_logger

__all__ = ["Worker"]

log = get_logger(__name__)

# What a stop may wait for ClickHouse; what is left waits in Redis for the next worker.
_LAST_BLOCKS_S = 3.0
_GOODBYE_S = 1.0
_CANCEL_AGAIN_S = 0.5


class Worker:
    """Turns the feature rows of every routed model into signals until it is told to stop."""

    def __init__(
        self,
        settings: Settings,
        listener: socket.socket,
        *,
        on_imported: Callable[[], object] = lambda: None,
    ) -> None:
        self._on_imported = on_imported
        port = listener.getsockname()[1]
        # A worker that is started again in the same place finds its own leases and rows.
        self.name = f"{socket.gethostname()}-{port}"
        self._redis = connect_async(settings.host, settings.redis_port)
        # A retry that nobody sees would make our own signal look like a repeat of another's: its
        # first sending may have been heard, and only the reply lost.
        self._redis.set_retry(Retry(NoBackoff(), 0))
        self._metrics = Metrics()
        self._parts = Parts(self._metrics)
        self._lineups = Lineups()
        self._loader = ThreadPoolExecutor(1, thread_name_prefix="loader")
        self._outbox = Outbox(self._redis)
        reader = VectorReader(self._redis, self._parts)
        self._desk = Desk(
            self._redis,
            self._lineups,
            reader,
            self._outbox,
            self._parts,
            self._metrics,
        )
        self._rounds = Rounds(self._redis, self._lineups, reader, self._parts)
        self._every = settings.worker_interval
        self._consumers: dict[str, ViewConsumer] = {}
        self._serving: list[asyncio.Task[None]] = []
        self._follower = RouteFollower(
            self._redis,
            self._lineups,
            blobs=open_blobs(settings),
            loader=self._loader,
            worker=self.name,
            trusted=settings.own_engines,
            parts=self._parts,
            metrics=self._metrics,
            on_swap=self._attend,
        )
        self._log = PredictionLog(
            self._outbox,
            Lease(self._redis, "outbox", self.name),
            host=settings.host,
            port=settings.clickhouse_port,
            database=settings.clickhouse_database,
            parts=self._parts,
            metrics=self._metrics,
        )
        readiness = Readiness(
            self._redis,
            worker=self.name,
            lineups=self._lineups,
            follower=self._follower,
            consumers=self._consumers,
            outbox=self._outbox,
            parts=self._parts,
        )
        enquiries = Enquiries(self._lineups, OpinionBatches(self._redis, reader))
        self._http = HttpServer(build_app(enquiries, readiness, self._metrics), listener)

    def stop(self) -> None:
        """Ask the worker to finish what it has begun, and to end."""
        self._parts.stopping.set()

    async def run(self) -> None:
        """Serve until `stop`; then finish rows in hand, send the outbox, and close."""
        keep = self._parts.keep
        async with asyncio.TaskGroup() as group:
            http = group.create_task(self._http.serve())
            follow = group.create_task(keep("routes", self._follow_routes))
            aside = [
                group.create_task(keep("routes_listener", self._follower.listen)),
                group.create_task(watch_loop(self._parts, self._metrics)),
                group.create_task(keep("redis", self._watch_permit)),
            ]
            if self._every is not None:
                rounds = keep("rounds", partial(self._rounds.run, self._every))
                aside.append(group.create_task(rounds))
            send = group.create_task(keep("prediction_log", self._log.run))
            log.info("worker_started", worker=self.name)
            await self._parts.stopping.wait()
            await follow  # no consumer is started after it
            await asyncio.gather(*self._serving)
            await send
            await _end(aside)
            await self._leave()
            self._http.stop()
            await http
        self._loader.shutdown()
        await self._redis.aclose()
        log.info("worker_stopped", worker=self.name)

    async def _follow_routes(self) -> None:
        # Before any model is loaded, and after the HTTP server listens: it takes most of a second.
        await asyncio.get_running_loop().run_in_executor(self._loader, import_xgboost_alone)
        self._on_imported()
        await self._follower.run()

    async def _watch_permit(self) -> None:
        await watch_permit(self._redis, self._parts, self._metrics)

    def _attend(self) -> None:
        """See that the rows of every view that a model reads are served.

        A view that no model reads any longer is read on, to no effect: its rows are finished, so
        the next model does not begin with a backlog.
        """
        for view in self._lineups.views - self._consumers.keys():
            consumer = ViewConsumer(view, self._desk, worker=self.name)
            self._consumers[view] = consumer
            self._serving.append(asyncio.create_task(self._parts.keep(consumer.part, consumer.run)))

    async def _leave(self) -> None:
        """Send what can be sent and say goodbye; whoever does not answer learns it by waiting."""
        with suppress(AtlasError, TimeoutError):
            async with asyncio.timeout(_LAST_BLOCKS_S):
                await self._log.send()
        with suppress(AtlasError, TimeoutError):
            async with asyncio.timeout(_GOODBYE_S):
                await self._log.close()
                await self._follower.withdraw()


async def _end(tasks: Collection[asyncio.Task[None]]) -> None:
    pending = set(tasks)
    while pending:
        # Again and again: a read of the Redis client that has just timed out may swallow one.
        for task in pending:
            task.cancel()
        _, pending = await asyncio.wait(pending, timeout=_CANCEL_AGAIN_S)
