"""One worker at a time does a piece of work."""

import asyncio
import time

from atlas.bus import connect_async
from atlas.inference.lease import Lease


def with_leases(redis_port, scenario, **options):
    async def run():
        client = connect_async(port=redis_port)
        try:
            return await scenario(
                *(Lease(client, "view:x", name, **options) for name in ("one", "two"))
            )
        finally:
            await client.aclose()

    return asyncio.run(run())


def test_the_first_to_ask_holds_the_lease_until_it_releases(redis, redis_port):
    async def scenario(one, two):
        asked = [await one.hold(), await two.hold(), one.held, two.held]
        await one.release()
        return [*asked, one.held, await two.hold()]

    assert with_leases(redis_port, scenario) == [True, False, True, False, False, True]


def test_a_dead_workers_lease_ends_by_itself(redis, redis_port):
    async def scenario(one, two):
        await one.hold()
        began = time.monotonic()
        while not await two.hold():
            await asyncio.sleep(0.02)
        return time.monotonic() - began, one.held

    waited, still_held = with_leases(redis_port, scenario, ttl_s=0.3)
    assert waited >= 0.25
    assert not still_held


def test_a_holder_stops_believing_before_redis_lets_another_in(redis, redis_port):
    async def scenario(one, two):
        await one.hold()
        while one.held:
            await asyncio.sleep(0.01)
        return await two.hold()

    assert with_leases(redis_port, scenario, ttl_s=0.6) is False


def test_a_worker_that_comes_back_finds_its_own_lease(redis, redis_port):
    async def scenario(one, two):
        again = Lease(one._redis, "view:x", "one")
        return [await one.hold(), await again.hold(), await two.hold()]

    assert with_leases(redis_port, scenario) == [True, True, False]


def test_releasing_a_lease_that_another_took_leaves_it_alone(redis, redis_port):
    async def scenario(one, two):
        await one.hold()
        redis.delete("atlas:lease:view:x")
        await two.hold()
        await one.release()
        return await one.hold()

    assert with_leases(redis_port, scenario) is False
