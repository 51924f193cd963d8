"""A desk of the test's own, and a small worker that serves whatever the routes say."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from redis import Redis
from registered_manifests import build_manifest

from atlas.bus import Ack, Served, acknowledge, connect_async, publish_async, watch_routes
from atlas.deployment import Desk
from atlas.registry import DeploymentLog, HaltLog, Latch
from atlas.serving import Manifest, Route, Signal, Stage


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'deployments.db'}"


@pytest.fixture
def desk(url: str, redis: Redis) -> Desk:
    """A desk with versions 1 to 3 that passed their gates, and 9 that did not."""
    desk = Desk(DeploymentLog(url), redis, who="ada")
    for version in (1, 2, 3):
        desk.register(build_manifest(version), passed=True, report=f"reports/{version}.html")
    desk.register(build_manifest(9), passed=False, report="reports/9.html")
    return desk


@pytest.fixture
def latch(url: str, redis: Redis) -> Latch:
    return Latch(HaltLog(url), redis)


@dataclass
class SmallWorker:
    """Watches the routes, says what it serves, and speaks for each version as told."""

    port: int
    name: str = "w1"
    refuses: Callable[[Manifest], str | None] = lambda manifest: None
    served: Callable[[Manifest, int], Served] = lambda manifest, rows: Served(rows, 0, 900.0)
    side: Callable[[Manifest, int], int] = lambda manifest, event_us: 1
    symbols: tuple[str, ...] = ("BTC_USDT",)
    step_us: int = 1
    routes: dict[str, Route] = field(default_factory=dict)
    _rows: dict[tuple[str, int], int] = field(default_factory=dict)

    def run(self, stop: threading.Event) -> None:
        asyncio.run(self._run(stop))

    async def _run(self, stop: threading.Event) -> None:
        redis = connect_async(port=self.port)

        async def watch() -> None:
            async for route in watch_routes(redis, poll_s=0.1):
                self.routes[route.model] = route

        watching = asyncio.create_task(watch())
        event_us = 0
        while not stop.is_set():
            event_us += self.step_us
            for route in list(self.routes.values()):
                loaded = [m for m in route.manifests() if self.refuses(m) is None]
                said = [
                    self._signal(m, symbol, event_us)
                    for symbol in self.symbols
                    for m in loaded
                    if self._speaks(m, loaded, symbol, event_us)
                ]
                await publish_async(redis, said)
                for manifest in loaded:
                    key = (manifest.model, manifest.version)
                    self._rows[key] = self._rows.get(key, 0) + 1
                await acknowledge(redis, route.model, self._ack(route, loaded))
            await asyncio.sleep(0.005)
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
        await redis.aclose()

    def _speaks(
        self, manifest: Manifest, loaded: list[Manifest], symbol: str, event_us: int
    ) -> bool:
        canary = next((m for m in loaded if m.stage is Stage.CANARY), None)
        if canary is None or manifest.stage not in (Stage.LIVE, Stage.CANARY):
            return True
        return canary.takes(symbol, event_us, self.name) == (manifest is canary)

    def _signal(self, manifest: Manifest, symbol: str, event_us: int) -> Signal:
        return Signal(
            model=manifest.model,
            version=manifest.version,
            stage=manifest.stage,
            symbol=symbol,
            event_us=event_us,
            score=0.6,
            side=self.side(manifest, event_us),
            decides=True,
            feature_hash=manifest.feature_hash,
            generation=manifest.generation,
        )

    def _ack(self, route: Route, loaded: list[Manifest]) -> Ack:
        refusals = [self.refuses(m) for m in route.manifests()]
        return Ack(
            worker=self.name,
            generation=route.generation,
            versions={str(m.stage): m.version for m in loaded},
            error=next((r for r in refusals if r is not None), None),
            served={
                m.version: self.served(m, self._rows.get((m.model, m.version), 0)) for m in loaded
            },
        )


@pytest.fixture
def start_worker(redis_port: int, redis: Redis) -> Iterator[Callable[..., SmallWorker]]:
    """Start a small worker; it ends with the test."""
    stop = threading.Event()
    threads = []

    def start(**behaviour: object) -> SmallWorker:
        worker = SmallWorker(redis_port, **behaviour)  # type: ignore[arg-type]
        thread = threading.Thread(target=worker.run, args=(stop,))
        thread.start()
        threads.append(thread)
        return worker

    yield start
    stop.set()
    for thread in threads:
        thread.join()
