"""Which versions of each model are served: written by the deployment side, watched by workers.

Every route can be rebuilt from the deployment log. A route never goes back: its generation is
compared inside Redis. Subscribers are told of a change, and look again every two seconds anyway,
since a message of Redis may be lost.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from typing import Any

from redis import Redis
from redis.asyncio import Redis as AsyncRedis
from redis.asyncio.client import PubSub

from atlas.bus.connection import reaching
from atlas.bus.script import Script
from atlas.errors import StaleGeneration, StoreUnavailable
from atlas.serving import Route, route_key

__all__ = ["read_route", "read_routes", "read_routes_async", "watch_routes", "write_route"]

_MODELS_KEY = "atlas:routes"
"""The set of the models that have a route, so that nobody has to scan all keys."""
_CHANNEL = "atlas:routes:changed"

# A route that cannot be parsed counts as older than any: the log will mend it.
_WRITE = Script("""
local text, generation, mends = ARGV[1], tonumber(ARGV[2]), ARGV[3] == '1'
local present = redis.call('GET', KEYS[1])
if present then
    local parsed, route = pcall(cjson.decode, present)
    local known = parsed and type(route) == 'table' and tonumber(route.generation) or -1
    if known > generation then return known end
    if known == generation and present ~= text and not mends then return known end
end
redis.call('SADD', KEYS[2], ARGV[4])
if present ~= text then
    redis.call('SET', KEYS[1], text)
    redis.call('PUBLISH', ARGV[5], ARGV[4])
end
return -1
""")


def write_route(redis: Redis, route: Route, *, mends: bool = False) -> None:
    """Write a model's route and tell the workers; writing the same route again changes nothing.

    Parameters
    ----------
    mends : bool
        Whether a different route of the same generation is overwritten, as the log is the truth.

    Raises
    ------
    StaleGeneration
        If Redis holds a later generation, or another route of the same one.
    StoreUnavailable
        If Redis does not answer.
    """
    arguments = (route.to_json(), route.generation, int(mends), route.model, _CHANNEL)
    found = _WRITE.run(redis, (route_key(route.model), _MODELS_KEY), arguments)
    if found >= 0:
        raise StaleGeneration(
            f"Expected the route of {route.model} in Redis to be older than generation "
            f"{route.generation}; found generation {found}. Read the deployment log again."
        )


def read_route(redis: Redis, model: str) -> Route | None:
    """Return a model's route, or None if it has none that can be read."""
    with reaching(redis):
        text: Any = redis.get(route_key(model))
    return _parse(text)


def read_routes(redis: Redis) -> dict[str, Route]:
    """Return every model's route, by model."""
    with reaching(redis):
        models: Any = redis.smembers(_MODELS_KEY)
        names = sorted(name.decode() for name in models)
        texts: Any = redis.mget([route_key(name) for name in names]) if names else []
    return _routes(names, texts)


async def read_routes_async(redis: AsyncRedis) -> dict[str, Route]:
    """Return every model's route, by model."""
    with reaching(redis):
        models: Any = redis.smembers(_MODELS_KEY)
        names = sorted(name.decode() for name in await models)
        texts: Any = await redis.mget([route_key(name) for name in names]) if names else []
    return _routes(names, texts)


async def watch_routes(redis: AsyncRedis, *, poll_s: float = 2.0) -> AsyncIterator[Route]:
    """Yield every model's route, and then each route that changes, for ever.

    While Redis is away nothing is yielded and what was yielded last holds; whoever reads features
    from the same Redis records the outage.
    """
    seen: dict[str, Route] = {}
    while True:
        listener = redis.pubsub(ignore_subscribe_messages=True)
        try:
            with reaching(redis):
                await listener.subscribe(_CHANNEL)
            while True:
                routes = await read_routes_async(redis)
                for model, route in routes.items():
                    if seen.get(model) != route:
                        seen[model] = route
                        yield route
                await _change(redis, listener, poll_s)
        except StoreUnavailable:
            await asyncio.sleep(poll_s)
        finally:
            with suppress(Exception):  # it is closed whatever state its connection is in
                await listener.aclose()  # type: ignore[no-untyped-call]


async def _change(redis: AsyncRedis, listener: PubSub, poll_s: float) -> None:
    """Wait for a message or for the poll; then take what else is there, as one look is enough."""
    with reaching(redis):
        message = await listener.get_message(timeout=poll_s)
        while message is not None:
            message = await listener.get_message(timeout=0)
    # A cancellation that meets the time-out of a read is taken for it by the client and lost.
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


def _routes(names: Sequence[str], texts: Sequence[bytes | None]) -> dict[str, Route]:
    routes = {name: _parse(text) for name, text in zip(names, texts, strict=True)}
    return {name: route for name, route in routes.items() if route is not None}


def _parse(text: bytes | None) -> Route | None:
    # One damaged route must not hide the others; reconciling with the log writes it anew.
    try:
        return Route.from_json(text) if text is not None else None
    except (ValueError, KeyError, TypeError):
        return None
