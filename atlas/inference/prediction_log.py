"""How the outbox is emptied into ClickHouse's table `predictions`, a block at a time."""

from __future__ import annotations

import asyncio
from concurrent.futures import Executor
from typing import TYPE_CHECKING

from atlas.errors import StoreUnavailable
from atlas.inference.lease import Lease
from atlas.inference.metrics import Metrics
from atlas.inference.outbox import Block, Outbox
from atlas.inference.parts import Parts

if TYPE_CHECKING:
    import httpx

__all__ = ["PredictionLog"]

_PART = "prediction_log"
_INSERT = (
    "INSERT INTO predictions (model, version, stage, generation, symbol, event_timestamp, score, "
    "side, decides, feature_hash, published, latency_us) FORMAT JSONEachRow"
)
# A block for what half a second brought: ClickHouse prefers few large inserts.
_GATHER_S = 0.5
_TIMEOUT_S = 10.0


class PredictionLog:
    """Sends sealed blocks to ClickHouse while this worker holds the lease of the outbox."""

    def __init__(
        self,
        outbox: Outbox,
        lease: Lease,
        *,
        host: str,
        port: int,
        database: str,
        loader: Executor,
        parts: Parts,
        metrics: Metrics,
    ) -> None:
        self._outbox = outbox
        self._lease = lease
        self._where = f"{host}:{port}"
        self._database = database
        self._loader = loader
        self._parts = parts
        self._metrics = metrics
        self._client: httpx.AsyncClient | None = None

    async def run(self) -> None:
        """Send what there is, twice a second."""
        while not self._parts.stopping.is_set():
            await self.send()
            self._parts.works(_PART)
            self._metrics.outbox_depth.set(self._outbox.depth)
            await self._parts.stopped_within(_GATHER_S)

    async def send(self) -> None:
        """Send block after block until the outbox is empty, unless another worker does.

        Raises
        ------
        StoreUnavailable
            If ClickHouse or Redis does not answer or refuses; the block stays sealed.
        """
        while await self._lease.hold():
            block = await self._outbox.seal()
            if block is None:
                break
            await self._insert(block)
            await self._outbox.delivered(block)
            self._metrics.outbox_depth.set(self._outbox.depth)
        await self._outbox.measure()

    async def close(self) -> None:
        """Close the connection to ClickHouse and give up the lease."""
        if self._client is not None:
            await self._client.aclose()
        await self._lease.release()

    async def _insert(self, block: Block) -> None:
        if self._client is None:
            loop = asyncio.get_running_loop()
            self._client = await loop.run_in_executor(self._loader, _new_client, self._where)
        import httpx

        parameters = {
            "database": self._database,
            "query": _INSERT,
            "insert_deduplication_token": block.token,
        }
        try:
            reply = await self._client.post("/", params=parameters, content=b"\n".join(block.rows))
        except httpx.HTTPError as error:
            raise self._unavailable(str(error) or type(error).__name__) from error
        if reply.status_code != 200:
            raise self._unavailable(reply.text.strip()[:300])

    def _unavailable(self, found: str) -> StoreUnavailable:
        return StoreUnavailable(
            f"Expected ClickHouse at {self._where} to take predictions into database "
            f"{self._database!r}; found: {found}. They wait in Redis until it does."
        )


def _new_client(where: str) -> httpx.AsyncClient:
    # Here, because importing httpx takes a quarter of a second that start-up can do without.
    import httpx

    return httpx.AsyncClient(base_url=f"http://{where}", timeout=_TIMEOUT_S, trust_env=False)
