"""Workers share the partitions of a view: each is somebody's, and nobody's twice."""

import asyncio

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from atlas.bus import connect_async
from atlas.inference.partitions import Partitions
from atlas.serving import N_PARTITIONS

ALL = frozenset(range(N_PARTITIONS))


def with_workers(redis_port, n, scenario, **options):
    async def run():
        client = connect_async(port=redis_port)
        try:
            workers = [Partitions(client, "v", f"worker-{i}", **options) for i in range(n)]
            return await scenario(*workers)
        finally:
            await client.aclose()

    return asyncio.run(run())


def hurried(worker):
    """Let the worker renew at its next call, as it does when half of the lease is over."""
    worker._until = 0.0
    return worker.share()


def test_one_worker_has_all(redis, redis_port):
    async def scenario(one):
        return await one.share()

    assert with_workers(redis_port, 1, scenario) == ALL


@pytest.mark.parametrize("n", [2, 3, 5, 16, 20])
def test_workers_that_come_one_after_another_share_evenly(redis, redis_port, n):
    async def scenario(*workers):
        for _ in range(3):
            for worker in workers:
                await hurried(worker)
        return [worker._held for worker in workers]

    shares = with_workers(redis_port, n, scenario)
    assert frozenset().union(*shares) == ALL
    assert sum(map(len, shares)) == N_PARTITIONS
    assert max(map(len, shares)) <= -(-N_PARTITIONS // n)


@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(steps=st.lists(st.tuples(st.integers(0, 3), st.sampled_from(["share", "release"]))))
def test_whatever_the_order_no_partition_has_two_holders(redis, redis_port, steps):
    async def scenario(*workers):
        await workers[0]._redis.flushdb()
        for number, step in steps:
            await (hurried(workers[number]) if step == "share" else workers[number].release())
            held = [await kept(worker) for worker in workers]
            assert sum(map(len, held)) == len(frozenset().union(*held))

    async def kept(worker):
        """Those of its partitions that Redis says are its own."""
        keys = [worker._keys[1 + number] for number in sorted(worker._held)]
        holders = await worker._redis.mget(keys) if keys else []
        own = worker._worker.encode()
        return {
            number for number, who in zip(sorted(worker._held), holders, strict=True) if who == own
        }

    with_workers(redis_port, 4, scenario)


def test_a_dead_workers_partitions_are_taken_within_the_lease(redis, redis_port):
    async def scenario(one, two):
        await one.share()
        await asyncio.sleep(0.05)
        while await two.share() != ALL:
            await asyncio.sleep(0.05)
        return await one.keep(ALL), one.held

    assert with_workers(redis_port, 2, scenario, ttl_s=0.4) == (False, frozenset())


def test_a_batch_that_outlasted_its_leases_goes_on_if_nobody_took_over(redis, redis_port):
    async def scenario(one, two):
        mine = await one.share()
        await asyncio.sleep(0.3)
        alone = await one.keep(mine)
        await asyncio.sleep(0.3)
        await two.share()
        return alone, await one.keep(mine)

    assert with_workers(redis_port, 2, scenario, ttl_s=0.2) == (True, False)
