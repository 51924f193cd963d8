"""How the outbox is emptied into ClickHouse's table `predictions`, a block at a time."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection, HTTPException
from urllib.parse import urlencode

from atlas.errors import StoreUnavailable
from atlas.inference.lease import Lease
from atlas.inference.metrics import Metrics
from atlas.inference.outbox import Block, Outbox
from atlas.inference.parts import Parts

__all__ = ["PredictionLog"]

_PART = "prediction_log"
_INSERT = (
    "INSERT INTO predictions (model, version, stage, generation, symbol, event_timestamp, score, "
    "side, decides, feature_hash, published, latency_us) FORMAT JSONEachRow"
)
# A block for what half a second brought: ClickHouse prefers few large inserts.
_GATHER_S = 0.5
_TIMEOUT_S = 5.0


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
        parts: Parts,
        metrics: Metrics,
    ) -> None:
        self._outbox = outbox
        self._lease = lease
        self._host = host
        self._port = port
        self._database = database
        self._parts = parts
        self._metrics = metrics
        # A plain blocking request in a thread of its own: an asynchronous client would take a
        # quarter of a second to import, and would write megabytes in the event loop.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="prediction-log")

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
        """Give up the lease."""
        self._thread.shutdown(wait=False)
        await self._lease.release()

    async def _insert(self, block: Block) -> None:
        await asyncio.get_running_loop().run_in_executor(self._thread, self._post, block)

    def _post(self, block: Block) -> None:
        parameters = {
            "database": self._database,
            "query": _INSERT,
            "insert_deduplication_token": block.token,
        }
        connection = HTTPConnection(self._host, self._port, timeout=_TIMEOUT_S)
        try:
            connection.request("POST", "/?" + urlencode(parameters), b"\n".join(block.rows))
            reply = connection.getresponse()
            status, text = reply.status, reply.read()
        except (OSError, HTTPException) as error:
            raise self._unavailable(str(error) or type(error).__name__) from error
        finally:
            connection.close()
        if status != 200:
            raise self._unavailable(text.decode(errors="replace").strip()[:300])

    def _unavailable(self, found: str) -> StoreUnavailable:
        return StoreUnavailable(
            f"Expected ClickHouse at {self._host}:{self._port} to take predictions into database "
            f"{self._database!r}; found: {found}. They wait in Redis until it does."
        )
