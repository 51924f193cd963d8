"""How the worker follows the routes: it makes candidates ready, swaps, and says what it serves."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from concurrent.futures import Executor
from dataclasses import dataclass, field

from redis.asyncio import Redis as AsyncRedis

from atlas.bus import Ack, acknowledge, read_routes_async, watch_routes, withdraw_ack
from atlas.errors import AtlasError
from atlas.inference.candidate import Blobs, ServedModel, check_role, make_ready
from atlas.inference.lineup import Lineup, Lineups
from atlas.inference.metrics import Metrics
from atlas.inference.parts import Parts
from atlas.serving import Manifest, Route, Stage
from atlas.telemetry import get_logger

__all__ = ["RouteFollower"]

log = get_logger(__name__)

_LOOK_S = 2.0
# A refused candidate may have met a blob that was still on its way.
_TRY_AGAIN_S = 10.0


@dataclass(frozen=True, slots=True)
class _Followed:
    """What came of a route."""

    route: Route
    refused: dict[Stage, str] = field(default_factory=dict)
    try_again_at: float = float("inf")


class RouteFollower:
    """Brings what is served in line with the routes in Redis.

    A candidate that fails any check is refused and the former version at its stage serves on. A
    route that vanishes changes nothing: Redis may have come up empty, and the deployment log will
    write it again.
    """

    def __init__(
        self,
        redis: AsyncRedis,
        lineups: Lineups,
        *,
        blobs: Blobs,
        loader: Executor,
        worker: str,
        trusted: Collection[str],
        parts: Parts,
        metrics: Metrics,
        on_swap: Callable[[], None],
    ) -> None:
        self.caught_up = False
        """Whether every route that was there at some moment has been acted upon."""
        self._redis = redis
        self._lineups = lineups
        self._blobs = blobs
        self._loader = loader
        self._worker = worker
        self._trusted = trusted
        self._parts = parts
        self._metrics = metrics
        self._on_swap = on_swap
        self._followed: dict[str, _Followed] = {}
        self._changed = asyncio.Event()

    @property
    def refused(self) -> dict[str, dict[Stage, str]]:
        """Model to stage to the reason why its candidate does not serve."""
        return {model: dict(done.refused) for model, done in self._followed.items() if done.refused}

    async def run(self) -> None:
        """Look at the routes every two seconds, and at once when one changes."""
        while not self._parts.stopping.is_set():
            self._changed.clear()
            for model, route in (await read_routes_async(self._redis)).items():
                await self._follow(model, route)
            for model in self._followed:
                await self._acknowledge(model)
            self.caught_up = True
            self._parts.works("routes")
            await self._changed_within(_LOOK_S)

    async def listen(self) -> None:
        """Cut the wait short when a route changes; without it changes are seen by looking."""
        async for _ in watch_routes(self._redis, poll_s=_LOOK_S):
            self._changed.set()

    async def withdraw(self) -> None:
        """Say that this worker serves nothing any longer."""
        for model in self._followed:
            await withdraw_ack(self._redis, model, self._worker)

    async def _changed_within(self, seconds: float) -> None:
        stopping = asyncio.create_task(self._parts.stopping.wait())
        changed = asyncio.create_task(self._changed.wait())
        try:
            await asyncio.wait(
                (stopping, changed), timeout=seconds, return_when=asyncio.FIRST_COMPLETED
            )
        finally:
            stopping.cancel()
            changed.cancel()

    async def _follow(self, model: str, route: Route) -> None:
        now = asyncio.get_running_loop().time()
        done = self._followed.get(model)
        if done is not None and done.route == route and now < done.try_again_at:
            return
        known = done.refused if done is not None and done.route == route else {}
        served: list[ServedModel] = []
        refused: dict[Stage, str] = {}
        for stage, manifest in (
            (Stage.LIVE, route.live),
            (Stage.CANARY, route.canary),
            (Stage.SHADOW, route.shadow),
            (Stage.REJECTED, route.observed),
        ):
            if manifest is None:
                continue
            try:
                served.append(await self._ready(model, stage, manifest))
            except Exception as error:
                refused[stage] = _sentence(error)
                if known.get(stage) != refused[stage]:
                    self._refuse(manifest, stage, error)
                former = self._lineups.of_model(model)
                kept = former.at(stage) if former else None
                if kept is not None:
                    served.append(kept)
        self._swap(model, Lineup(route.generation, tuple(served)))
        try_again_at = now + _TRY_AGAIN_S if refused else float("inf")
        self._followed[model] = _Followed(route, refused, try_again_at)

    async def _ready(self, model: str, stage: Stage, manifest: Manifest) -> ServedModel:
        check_role(manifest, stage, model)
        lineup = self._lineups.of_model(model)
        serving = lineup.at(stage) if lineup else None
        if serving is not None and serving.manifest == manifest:
            return serving
        return await asyncio.get_running_loop().run_in_executor(
            self._loader,
            lambda: make_ready(
                manifest,
                self._blobs,
                loaded=self._lineups.loaded(model, manifest.blob),
                trusted=self._trusted,
            ),
        )

    def _refuse(self, manifest: Manifest, stage: Stage, error: Exception) -> None:
        self._metrics.refusals.labels(manifest.model, stage).inc()
        log.warning(
            "candidate_refused",
            model=manifest.model,
            version=manifest.version,
            stage=stage,
            generation=manifest.generation,
            reason=_sentence(error),
            exc_info=not isinstance(error, AtlasError),
        )

    def _swap(self, model: str, lineup: Lineup) -> None:
        if self._lineups.of_model(model) == lineup:
            return
        self._lineups.swap(model, lineup)
        self._metrics.swaps.labels(model).inc()
        log.info(
            "lineup_swapped",
            model=model,
            generation=lineup.generation,
            versions={m.manifest.stage.value: m.manifest.version for m in lineup.models},
        )
        self._on_swap()

    async def _acknowledge(self, model: str) -> None:
        lineup = self._lineups.of_model(model)
        done = self._followed[model]
        models = lineup.models if lineup else ()
        ack = Ack(
            worker=self._worker,
            generation=done.route.generation,
            versions={m.manifest.stage.value: m.manifest.version for m in models},
            error=" ".join(done.refused.values()) or None,
            served={m.manifest.version: m.tally.snapshot() for m in models},
        )
        await acknowledge(self._redis, model, ack)


def _sentence(error: Exception) -> str:
    return str(error) if isinstance(error, AtlasError) else f"{type(error).__name__}: {error}"
