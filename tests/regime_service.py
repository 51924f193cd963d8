"""The regime service over test stores; as a program, `PORTS… DATABASE BLOBS`, it may be killed."""

import asyncio
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import numpy as np
import polars as pl
from redis import Redis
from regime_market import VIEW

from atlas.bus import connect_async
from atlas.bus.regimes import RegimeChange, ToldRegime, read_regime_changes, read_regimes
from atlas.clickhouse import connect
from atlas.inference.metrics import Metrics
from atlas.inference.parts import Parts
from atlas.inference.regimes import RegimeService
from atlas.inference.regimes.history import RegimeHistory
from atlas.online import OnlineReader, SequenceWriter, Vectors
from atlas.online.wire import entity_key, history_key, key_prefix
from atlas.regimes import SteadyRules
from atlas.registry import BlobStore
from atlas.serving import rows_streams

SOURCE = VIEW.source.plan


class Stores:
    """Where the service reads and tells, and what a test does around it."""

    def __init__(self, redis_port: int, clickhouse_port: int, database: str, blobs: Path) -> None:
        self.redis_port = redis_port
        self.redis = Redis(port=redis_port)
        self.clickhouse_port = clickhouse_port
        self.database = database
        self.blob_folder = blobs
        self.blobs = BlobStore(blobs)
        self.parts: Parts | None = None

    def keep(self, frame: pl.DataFrame) -> None:
        """Keep rows of `ohlcv_1h` in Redis, as the live path does."""
        values = np.full((frame.height, len(SOURCE.features)), np.nan)
        for name in VIEW.recipe.names:
            values[:, SOURCE.features.index(name)] = frame[name].fill_null(np.nan).to_numpy()
        SequenceWriter(self.redis, SOURCE).write(
            frame["symbol"].to_list(),
            frame["event_timestamp"].dt.timestamp("us").to_numpy(),
            frame["known_at"].dt.timestamp("us").to_numpy(),
            values,
        )

    def history_key(self, symbol: str) -> bytes:
        """Return where the last rows of a symbol are."""
        entity = entity_key(key_prefix(SOURCE.join_keys), symbol, SOURCE.project)
        return history_key(SOURCE.view, entity)

    def forget_rows(self, *symbols: str) -> None:
        """Take the last rows of symbols out of Redis."""
        assert self.redis.delete(*map(self.history_key, symbols)) == len(symbols)

    @asynccontextmanager
    async def service(self) -> AsyncIterator[RegimeService]:
        """A service of the running loop that has just started."""
        self.parts = Parts(Metrics())
        async with connect_async(port=self.redis_port) as redis:
            service = RegimeService(
                VIEW,
                redis=self.redis,
                redis_async=redis,
                history=RegimeHistory(
                    VIEW, lambda: connect(port=self.clickhouse_port, database=self.database)
                ),
                blobs=self.blobs,
                parts=self.parts,
                rules=SteadyRules(),
            )
            try:
                yield service
            finally:
                service.close()

    def look(self, *frames: pl.DataFrame) -> list[int]:
        """Start a service, and have it look after each batch of rows was kept."""

        async def looks() -> list[int]:
            async with self.service() as service:
                moved = []
                for frame in frames:
                    self.keep(frame)
                    moved.append(await service.look())
                return moved

        return asyncio.run(looks())

    def failing(self) -> dict[str, str]:
        """Return what the last service could not do, by part."""
        assert self.parts is not None
        return self.parts.failing

    def told(self, *symbols: str) -> list[ToldRegime | None]:
        """Return what is told of symbols."""
        return read_regimes(self.redis, VIEW.view, symbols)

    def changes(self) -> list[RegimeChange]:
        """Return all changes that were told, oldest first."""
        return [change for _, change in read_regime_changes(self.redis, VIEW.view)]

    def notifications(self) -> list[dict[bytes, bytes]]:
        """Return what the streams of the view's rows hold, oldest first of each."""
        streams = rows_streams(VIEW.view)
        return [entry for stream in streams for _, entry in self.redis.xrange(stream)]

    def states(self) -> dict[bytes, bytes | None]:
        """Return what services left to go on from, by key."""
        keys = sorted(self.redis.keys(f"atlas:regime:state:{VIEW.view}:*"))
        return {key: self.redis.hget(key, "state") for key in keys}

    def online(self, symbols: Sequence[str], now: object) -> Vectors:
        """Return the newest regime rows as a model is served them."""

        async def read() -> Vectors:
            async with connect_async(port=self.redis_port) as client:
                return await OnlineReader(client, VIEW.plan).read(symbols, now=now)  # type: ignore[arg-type]

        return asyncio.run(read())


async def _serve(stores: Stores) -> None:
    async with stores.service() as service:
        assert stores.parts is not None
        await stores.parts.keep("regimes", lambda: service.run(timedelta(milliseconds=5)))


if __name__ == "__main__":
    redis_port, clickhouse_port, database, blobs = sys.argv[1:]
    asyncio.run(_serve(Stores(int(redis_port), int(clickhouse_port), database, Path(blobs))))
