"""Whether rows become signals at this moment, and what keeps them from it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from redis.asyncio import Redis as AsyncRedis

from atlas.bus import is_permitted_async
from atlas.errors import StoreUnavailable
from atlas.inference.lineup import Lineups
from atlas.inference.outbox import Outbox
from atlas.inference.parts import Parts
from atlas.inference.route_follower import RouteFollower
from atlas.inference.view_consumer import Duty, ViewConsumer

__all__ = ["Readiness"]

_REDIS_ANSWERS_WITHIN_S = 1.0
_AT_WORK = (Duty.LEADING, Duty.STANDBY)


class Readiness:
    """Puts the worker's state together when somebody asks."""

    def __init__(
        self,
        redis: AsyncRedis,
        *,
        worker: str,
        lineups: Lineups,
        follower: RouteFollower,
        consumers: Mapping[str, ViewConsumer],
        outbox: Outbox,
        parts: Parts,
    ) -> None:
        self._redis = redis
        self._worker = worker
        self._lineups = lineups
        self._follower = follower
        self._consumers = consumers
        self._outbox = outbox
        self._parts = parts

    async def state(self) -> dict[str, Any]:
        """Return the state as JSON; `ready` is false while `waiting_for` names anything.

        A halt leaves the worker ready: it serves shadows and is there for the release. A worker
        without any route is ready too: it has nothing to do and does it.
        """
        waiting_for, halted = [], True
        try:
            async with asyncio.timeout(_REDIS_ANSWERS_WITHIN_S):
                halted = not await is_permitted_async(self._redis)
        except StoreUnavailable as error:
            waiting_for.append(str(error))
        except TimeoutError:
            waiting_for.append(f"Redis, which has not answered in {_REDIS_ANSWERS_WITHIN_S} s.")
        if self._parts.stopping.is_set():
            waiting_for.append("nothing: the worker is stopping.")
        if not self._follower.caught_up:
            waiting_for.append("the first look at the routes.")
        duties = {view: consumer.duty for view, consumer in self._consumers.items()}
        for view in sorted(self._lineups.views):
            duty = duties.get(view, Duty.STARTING)
            if duty not in _AT_WORK:
                waiting_for.append(f"the rows of {view}: {duty}.")
        return {
            "ready": not waiting_for,
            "waiting_for": waiting_for,
            "worker": self._worker,
            "halted": halted,
            "models": [
                {
                    "model": name,
                    "version": served.manifest.version,
                    "stage": served.manifest.stage,
                    "generation": served.manifest.generation,
                    "feature_hash": served.manifest.feature_hash,
                }
                for name, lineup in self._lineups
                for served in lineup.models
            ],
            "refused": {
                model: {stage.value: reason for stage, reason in refused.items()}
                for model, refused in self._follower.refused.items()
            },
            "views": duties,
            "partitions": {view: sorted(c.partitions) for view, c in self._consumers.items()},
            "outbox_depth": self._outbox.depth,
            "failing": self._parts.failing,
        }
