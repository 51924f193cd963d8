"""Routes and acknowledgements: never back, told at once, and found again after an outage."""

import asyncio
import dataclasses
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pytest
from redis import Redis

from atlas.bus import (
    Ack,
    Served,
    acknowledge,
    connect,
    connect_async,
    read_acks,
    read_route,
    read_routes,
    read_routes_async,
    watch_routes,
    withdraw_ack,
    write_route,
)
from atlas.errors import StaleGeneration
from atlas.serving import Manifest, ReadPlan, Route, Stage, feature_hash, route_key

PLAN = ReadPlan("atlas", "ohlcv_1m", ("symbol",), ("rsi_14", "return_24h"), 600_000_000)
MANIFEST = Manifest(
    model="m",
    version=1,
    stage=Stage.LIVE,
    generation=1,
    engine="xgboost",
    blob="ab" * 32,
    plan=PLAN,
    feature_hash=feature_hash(PLAN.view, PLAN.features),
    interval="1m",
    threshold=0.05,
    decision_bars=5,
    golden_rows=((0.1, None), (1 / 3, -2.0)),
    golden_scores=(0.1 + 0.2, 0.7),
)


def route(generation: int, model: str = "m") -> Route:
    live = dataclasses.replace(MANIFEST, model=model, generation=generation)
    return Route(model, generation, live=live)


def test_a_route_is_read_as_it_was_written(redis: Redis) -> None:
    write_route(redis, route(3))
    assert read_route(redis, "m") == route(3)
    assert read_route(redis, "other") is None


def test_writing_the_same_route_again_changes_nothing(redis: Redis) -> None:
    write_route(redis, route(3))
    write_route(redis, route(3))
    assert read_routes(redis) == {"m": route(3)}


@pytest.mark.parametrize("late", [route(2), Route("m", 3)])
def test_a_route_never_goes_back_nor_splits(redis: Redis, late: Route) -> None:
    write_route(redis, route(3))
    with pytest.raises(StaleGeneration, match="found generation 3"):
        write_route(redis, late)
    assert read_route(redis, "m") == route(3)


def test_the_log_mends_a_route_of_its_own_generation_but_not_a_later_one(redis: Redis) -> None:
    write_route(redis, Route("m", 3))
    write_route(redis, route(3), mends=True)
    assert read_route(redis, "m") == route(3)
    with pytest.raises(StaleGeneration):
        write_route(redis, route(2), mends=True)


@pytest.mark.parametrize("damage", [b"", b"not json", b"[]", b'{"generation": "x"}', b"{}"])
def test_a_damaged_route_hides_no_other_and_is_written_over(redis: Redis, damage: bytes) -> None:
    write_route(redis, route(3, "a"))
    write_route(redis, route(3))
    redis.set(route_key("m"), damage)
    assert read_routes(redis) == {"a": route(3, "a")}
    write_route(redis, route(1))
    assert read_routes(redis) == {"a": route(3, "a"), "m": route(1)}


def test_of_many_writers_of_one_generation_one_wins(redis: Redis, redis_port: int) -> None:
    outcomes: list[str] = []

    def write(number: int) -> None:
        manifest = dataclasses.replace(MANIFEST, version=number, generation=5)
        with connect(port=redis_port) as own:
            try:
                write_route(own, Route("m", 5, live=manifest))
                outcomes.append("won")
            except StaleGeneration:
                outcomes.append("stale")

    threads = [threading.Thread(target=write, args=(n,)) for n in range(1, 9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["stale"] * 7 + ["won"]


async def until(happened: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not happened():
            await asyncio.sleep(0.01)


def test_watchers_see_what_is_there_and_each_change_at_once(redis: Redis, redis_port: int) -> None:
    write_route(redis, route(1))
    write_route(redis, route(1, "other"))

    async def scenario() -> list[tuple[str, int]]:
        client = connect_async(port=redis_port)
        seen: list[tuple[str, int]] = []

        async def watch() -> None:
            # The poll is longer than the test: what comes has been told.
            async for each in watch_routes(client, poll_s=60):
                seen.append((each.model, each.generation))

        task = asyncio.create_task(watch())
        await until(lambda: len(seen) == 2)
        write_route(redis, route(2))
        await until(lambda: len(seen) == 3)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await client.aclose()
        return seen

    assert asyncio.run(scenario()) == [("m", 1), ("other", 1), ("m", 2)]


def test_a_change_that_nobody_told_of_is_found_by_the_next_look(
    redis: Redis, redis_port: int
) -> None:
    write_route(redis, route(1))

    async def scenario() -> list[int]:
        client = connect_async(port=redis_port)
        seen: list[int] = []

        async def watch() -> None:
            async for each in watch_routes(client, poll_s=0.05):
                seen.append(each.generation)

        task = asyncio.create_task(watch())
        await until(lambda: len(seen) == 1)
        redis.set(route_key("m"), route(2).to_json())
        await until(lambda: len(seen) == 2)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await client.aclose()
        return seen

    assert asyncio.run(scenario()) == [1, 2]


@contextmanager
def server(binary: str, port: int, folder: Path) -> Iterator[None]:
    """A Redis of the test's own, which can be killed and started again on its port."""
    process = subprocess.Popen(
        [
            *(binary, "--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder)),
            *("--save", "", "--appendonly", "yes"),
        ],
        stdout=subprocess.DEVNULL,
    )
    try:
        client = Redis(port=port)
        deadline = time.monotonic() + 20
        while True:
            try:
                client.ping()
                break
            except Exception:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.02)
        client.close()
        yield
    finally:
        process.kill()
        process.wait()


def test_a_watcher_rides_out_a_redis_that_is_killed(
    redis_binary: str, tmp_path: Path, free_redis_port: int
) -> None:
    async def scenario() -> list[int]:
        client = connect_async(port=free_redis_port)
        seen: list[int] = []

        async def watch() -> None:
            async for each in watch_routes(client, poll_s=0.1):
                seen.append(each.generation)

        with server(redis_binary, free_redis_port, tmp_path):
            with connect(port=free_redis_port) as writer:
                write_route(writer, route(1))
            task = asyncio.create_task(watch())
            await until(lambda: seen == [1])
        await asyncio.sleep(0.4)
        assert not task.done()
        with server(redis_binary, free_redis_port, tmp_path):
            with connect(port=free_redis_port) as writer:
                write_route(writer, route(2))
            await until(lambda: seen == [1, 2])
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await client.aclose()
        return seen

    assert asyncio.run(scenario()) == [1, 2]


def test_acknowledgements_are_read_as_they_were_said_with_their_age(
    redis: Redis, redis_port: int
) -> None:
    said = Ack("w1", 7, {"live": 3, "shadow": 4}, served={3: Served(10, 1, 250.5)})
    refused = Ack("w2", 7, {"live": 3}, error="golden rows differ")

    async def say() -> None:
        client = connect_async(port=redis_port)
        await acknowledge(client, "m", said)
        await acknowledge(client, "m", refused)
        await acknowledge(client, "m", Ack("w3", 7, {}))
        await withdraw_ack(client, "m", "w3")
        assert await read_routes_async(client) == {}
        await client.aclose()

    asyncio.run(say())
    acks = read_acks(redis, "m")
    ages = {worker: ack.age for worker, ack in acks.items()}
    assert {w: dataclasses.replace(a, age=timedelta(0)) for w, a in acks.items()} == {
        "w1": said,
        "w2": refused,
    }
    assert all(timedelta(0) <= age < timedelta(seconds=10) for age in ages.values())


def test_a_worker_that_is_silent_for_too_long_is_taken_for_dead(
    redis: Redis, redis_port: int
) -> None:
    async def say(worker: str) -> None:
        client = connect_async(port=redis_port)
        await acknowledge(client, "m", Ack(worker, 1, {}))
        await client.aclose()

    asyncio.run(say("dead"))
    time.sleep(0.3)
    asyncio.run(say("alive"))
    assert set(read_acks(redis, "m", max_age=timedelta(seconds=0.25))) == {"alive"}
    assert set(read_acks(redis, "m")) == {"alive", "dead"}


def test_entries_of_workers_long_gone_are_dropped(redis: Redis, redis_port: int) -> None:
    redis.hset("atlas:acks:m", "ancient", '1000000000000000 {"generation": 1}')

    async def say() -> None:
        client = connect_async(port=redis_port)
        await acknowledge(client, "m", Ack("new", 1, {}))
        await client.aclose()

    asyncio.run(say())
    assert redis.hkeys("atlas:acks:m") == [b"new"]
