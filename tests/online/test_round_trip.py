"""The reader's own conversation with Redis: cut, late, refused, cancelled, or in small pieces."""

import asyncio
import gc
import subprocess
import time
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from local_processes import end, free_port
from redis import Redis
from redis.asyncio import BlockingConnectionPool, ConnectionPool
from redis.asyncio import Redis as AsyncRedis
from redis.exceptions import RedisError

from atlas.bus import connect_async
from atlas.clock import to_micros
from atlas.errors import InvalidInput, StoreUnavailable
from atlas.online import OnlineReader, OnlineWriter
from atlas.online.round_trip import Command, RoundTrip
from atlas.online.wire import entity_key, key_prefix
from atlas.serving import ReadPlan

NOW = datetime(2021, 6, 1, 12, tzinfo=UTC)
NOW_US = to_micros(NOW)
SYMBOLS = [f"S{number}" for number in range(200)]
Start = Callable[..., subprocess.Popen[bytes]]


def fill(redis: Redis, plan: ReadPlan) -> np.ndarray:
    values = np.arange(600.0).reshape(200, 3)
    OnlineWriter(redis, plan).write(SYMBOLS, [NOW_US] * 200, [NOW_US] * 200, values)
    return values


@pytest.fixture
def start(redis_binary: str, tmp_path: Path) -> Iterator[Start]:
    """Start a Redis of one's own; all are ended."""
    processes = []

    def run(port: int, *options: str, password: str | None = None) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [
                *(redis_binary, "--port", str(port), "--bind", "127.0.0.1", "--save", ""),
                *("--dir", str(tmp_path), *options),
            ],
            stdout=subprocess.DEVNULL,
        )
        processes.append(process)
        deadline = time.monotonic() + 30
        with Redis(port=port, password=password) as client:
            while True:
                try:
                    client.ping()
                    return process
                except RedisError:
                    assert time.monotonic() < deadline
                    time.sleep(0.05)

    yield run
    for process in processes:
        end(process)


def test_a_redis_that_was_restarted_is_read_again(start: Start, plan: ReadPlan) -> None:
    port = free_port()
    process = start(port)

    async def read_twice() -> list[Any]:
        async with connect_async(port=port) as client:
            reader = OnlineReader(client, plan)
            first = await reader.read(["S1"], now=NOW)
            end(process)
            with pytest.raises(StoreUnavailable):
                await reader.read(["S1"], now=NOW)
            start(port)
            with Redis(port=port) as redis:
                fill(redis, plan)
            return [first.values, (await reader.read(["S1"], now=NOW)).values]

    first, second = asyncio.run(read_twice())
    assert (np.isnan(first).all(), second.tolist()) == (True, [[3.0, 4.0, 5.0]])


def test_a_connection_that_was_cut_in_between_is_replaced_unnoticed(
    redis: Redis, redis_port: int, plan: ReadPlan
) -> None:
    values = fill(redis, plan)

    async def read() -> Any:
        async with connect_async(port=redis_port) as client:
            reader = OnlineReader(client, plan)
            await reader.read(["S1"], now=NOW)
            redis.client_kill_filter(_type="normal", skipme=True)
            return (await reader.read(SYMBOLS, now=NOW)).values

    assert asyncio.run(read()).tolist() == values.tolist()


Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def between(port: int, pieces: Callable[[bytes], list[bytes]]) -> asyncio.Server:
    """Stand between a client and Redis; `pieces` says what becomes of an answer."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", port)

        async def ask() -> None:
            while data := await reader.read(1 << 20):
                back.write(data)
            back.close()

        async def answer() -> None:
            while data := await there.read(1 << 20):
                for piece in pieces(data):
                    writer.write(piece)
                    await writer.drain()
                    await asyncio.sleep(0)
            writer.close()

        await asyncio.gather(ask(), answer())

    return await asyncio.start_server(serve, "127.0.0.1", 0)


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_an_answer_in_small_pieces_is_the_same(
    redis: Redis, redis_port: int, plan: ReadPlan, size: int
) -> None:
    values = fill(redis, plan)

    async def read() -> Any:
        def cut(data: bytes) -> list[bytes]:
            return [data[at : at + size] for at in range(0, len(data), size)]

        async with await between(redis_port, cut) as server:
            port = server.sockets[0].getsockname()[1]
            async with connect_async(port=port) as client:
                return (await OnlineReader(client, plan).read(SYMBOLS, now=NOW)).values

    assert asyncio.run(read()).tolist() == values.tolist()


def test_a_redis_that_does_not_answer_is_given_up_and_its_late_answer_is_never_taken(
    redis: Redis, redis_port: int, plan: ReadPlan
) -> None:
    values = fill(redis, plan)

    async def read() -> tuple[float, Any]:
        async with AsyncRedis(port=redis_port, socket_timeout=0.3) as client:
            reader = OnlineReader(client, plan)
            await reader.read(["S0"], now=NOW)
            redis.client_pause(1_000)
            began = time.monotonic()
            with pytest.raises(StoreUnavailable, match=r"no answer in 0\.3 s"):
                await reader.read(["S0"], now=NOW)
            took = time.monotonic() - began
            redis.client_unpause()
            return took, (await reader.read(SYMBOLS, now=NOW)).values

    took, found = asyncio.run(read())
    assert (took < 0.9, found.tolist()) == (True, values.tolist())


def test_a_cancelled_read_is_cancelled_and_the_next_is_right(
    redis: Redis, redis_port: int, plan: ReadPlan
) -> None:
    values = fill(redis, plan)

    async def read() -> Any:
        async with connect_async(port=redis_port) as client:
            reader = OnlineReader(client, plan)
            await reader.read(["S0"], now=NOW)
            for patience in np.linspace(0, 0.002, 40):
                task = asyncio.create_task(reader.read(SYMBOLS[100:], now=NOW))
                await asyncio.sleep(patience)
                task.cancel()
                await asyncio.wait([task])
                assert task.cancelled() or task.result() is not None
                again = await reader.read(["S7", "S8"], now=NOW)
                assert again.values.tolist() == values[7:9].tolist()
            return (await reader.read(SYMBOLS, now=NOW)).values

    assert asyncio.run(read()).tolist() == values.tolist()


def test_reads_at_the_same_time_do_not_mix(redis: Redis, redis_port: int, plan: ReadPlan) -> None:
    values = fill(redis, plan)

    async def read() -> list[Any]:
        async with connect_async(port=redis_port) as client:
            reader = OnlineReader(client, plan)
            found = await asyncio.gather(
                *(reader.read(SYMBOLS[at:], now=NOW) for at in range(0, 200, 5))
            )
            return [vectors.values.tolist() for vectors in found]

    assert asyncio.run(read()) == [values[at:].tolist() for at in range(0, 200, 5)]


def test_passwords_and_databases_are_the_clients(start: Start, plan: ReadPlan) -> None:
    port = free_port()
    start(port, "--requirepass", "secret", password="secret")
    with Redis(port=port, password="secret", db=3) as redis:
        values = fill(redis, plan)

    async def read(client: AsyncRedis) -> Any:
        async with client:
            return (await OnlineReader(client, plan).read(SYMBOLS, now=NOW)).values

    allowed = AsyncRedis(port=port, password="secret", db=3)
    assert asyncio.run(read(allowed)).tolist() == values.tolist()
    with pytest.raises(StoreUnavailable, match="Authentication required"):
        asyncio.run(read(connect_async(port=port)))


def test_a_redis_that_refuses_everything_is_told_at_once(start: Start, plan: ReadPlan) -> None:
    port = free_port()
    start(port)

    async def read() -> float:
        async with connect_async(port=port) as client:
            reader = OnlineReader(client, plan)
            await reader.read(["S0"], now=NOW)
            with Redis(port=port) as redis:
                redis.acl_setuser("default", enabled=True, nopass=True, commands=["-@all", "+acl"])
            began = time.monotonic()
            with pytest.raises(StoreUnavailable, match="NOPERM"):
                await reader.read(SYMBOLS, now=NOW)
            return time.monotonic() - began

    assert asyncio.run(read()) < 1


def test_a_key_of_another_type_is_one_clear_error(
    redis: Redis, redis_port: int, plan: ReadPlan
) -> None:
    fill(redis, plan)
    redis.delete(entity_key(key_prefix(["symbol"]), "S3", "desk"))
    redis.set(entity_key(key_prefix(["symbol"]), "S3", "desk"), "x")

    async def read(keys: list[str]) -> Any:
        async with connect_async(port=redis_port) as client:
            reader = OnlineReader(client, plan)
            with pytest.raises(StoreUnavailable, match="WRONGTYPE"):
                await reader.read(["S1", "S3", "S4"], now=NOW)
            return (await reader.read(["S4"], now=NOW)).values.tolist()

    assert asyncio.run(read(SYMBOLS)) == [[12.0, 13.0, 14.0]]


def test_the_newer_protocol_says_the_same(redis: Redis, redis_port: int, plan: ReadPlan) -> None:
    values = fill(redis, plan)

    async def read(protocol: int) -> Any:
        async with AsyncRedis(port=redis_port, protocol=protocol) as client:
            wider = ReadPlan("desk", "book", ("symbol",), (*plan.features, "flow"), 0)
            return await OnlineReader(client, wider).read([*SYMBOLS, "X"], now=NOW)

    two, three = (asyncio.run(read(protocol)) for protocol in (2, 3))
    assert two.status.tolist() == three.status.tolist()
    assert three.values[:-1, :3].tolist() == values.tolist()


def test_a_value_that_looks_like_a_reply_is_only_a_value(redis: Redis, redis_port: int) -> None:
    values = [b"-ERR x\r\n", b"x\r\n-ERR x\r\n", b"$16\r\n", b"*2\r\n$-1\r\n", b"", b"\r\n", b"-"]
    for number, value in enumerate(values):
        redis.set(f"k{number}", value)

    async def ask() -> bytes:
        async with connect_async(port=redis_port) as client:
            commands = [Command.of(b"GET", b"k%d" % at) for at in range(len(values))]
            return await RoundTrip(client).ask(commands)

    assert asyncio.run(ask()) == b"".join(b"$%d\r\n%s\r\n" % (len(v), v) for v in values)


@pytest.mark.parametrize("most", [1, 3])
def test_reads_leave_a_small_pool_to_others_and_wait_for_their_turn(
    redis: Redis, redis_port: int, plan: ReadPlan, most: int
) -> None:
    values = fill(redis, plan)

    async def read() -> list[Any]:
        pool = BlockingConnectionPool(port=redis_port, max_connections=most, timeout=5)
        async with AsyncRedis.from_pool(pool) as client:
            readers = [OnlineReader(client, plan) for _ in range(4)]
            work = [readers[at % 4].read([f"S{at}"], now=NOW) for at in range(20)]
            *found, _ = await asyncio.gather(*work, client.get("x"))
            await asyncio.wait_for(client.get("x"), 1)
            return [vectors.values[0].tolist() for vectors in found]

    assert asyncio.run(read()) == values[:20].tolist()


def test_every_connection_goes_back_to_the_pool_whatever_became_of_the_read(
    redis: Redis, redis_port: int, plan: ReadPlan
) -> None:
    fill(redis, plan)

    async def read() -> list[int]:
        pool = ConnectionPool(port=redis_port)
        async with AsyncRedis.from_pool(pool) as client:
            reader = OnlineReader(client, plan)
            tasks = [asyncio.create_task(reader.read(SYMBOLS, now=NOW)) for _ in range(30)]
            await asyncio.sleep(0.003)
            for task in tasks[::2]:
                task.cancel()
            await asyncio.wait(tasks)
            await asyncio.gather(*(client.get("x") for _ in range(30)))
            return [count for count, about in pool.get_connection_count()]

    assert asyncio.run(read()) == [30, 0]


def test_what_another_left_unread_is_never_taken_for_an_answer(
    redis: Redis, redis_port: int, plan: ReadPlan
) -> None:
    values = fill(redis, plan)
    key = entity_key(key_prefix(["symbol"]), "S9", "desk")
    left = Command.of(b"HMGET", key, b"a", b"b", b"c", b"d").packed

    async def read(patience: float) -> Any:
        async with AsyncRedis(port=redis_port) as client:
            connection = await client.connection_pool.get_connection()
            await client.connection_pool.release(connection)
            connection._writer.write(left)
            await asyncio.sleep(patience)
            if not patience:
                with pytest.raises(StoreUnavailable, match="found"):
                    await OnlineReader(client, plan).read(["S1"], now=NOW)
            return (await OnlineReader(client, plan).read(["S1"], now=NOW)).values.tolist()

    assert [asyncio.run(read(patience)) for patience in (0, 0.1)] == [values[1:2].tolist()] * 2


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_a_client_that_an_ended_loop_left_open_is_read_again(
    redis: Redis, redis_port: int, plan: ReadPlan
) -> None:
    values = fill(redis, plan)
    client = AsyncRedis(port=redis_port)
    reader = OnlineReader(client, plan)

    async def read(last: bool) -> Any:
        found = await asyncio.gather(*(reader.read(SYMBOLS, now=NOW) for _ in range(3)))
        if last:
            await client.aclose()
        return [vectors.values.tolist() for vectors in found]

    for last in (False, False, True):
        assert asyncio.run(read(last)) == [values.tolist()] * 3
    gc.collect()  # what the ended loops left open is closed here, not in another test


def test_a_client_of_a_loop_that_still_runs_is_refused(
    redis: Redis, redis_port: int, plan: ReadPlan
) -> None:
    fill(redis, plan)
    client = AsyncRedis(port=redis_port)
    reader = OnlineReader(client, plan)
    with asyncio.Runner() as first, asyncio.Runner() as second:
        first.run(reader.read(["S1"], now=NOW))
        with pytest.raises(InvalidInput, match="Make a client for each loop"):
            second.run(reader.read(["S1"], now=NOW))
        first.run(client.aclose())


def test_a_blocking_client_is_refused(redis: Redis, plan: ReadPlan) -> None:
    with pytest.raises(InvalidInput, match=r"asyncio client of Redis; found redis\.client\.Redis"):
        OnlineReader(redis, plan)  # type: ignore[arg-type]


@pytest.mark.parametrize("protocol", [2, 3])
def test_a_user_without_ping_is_told_what_redis_said_at_once(
    start: Start, plan: ReadPlan, protocol: int
) -> None:
    port = free_port()
    start(port)

    async def read() -> float:
        async with AsyncRedis(port=port, protocol=protocol, socket_timeout=5) as client:
            reader = OnlineReader(client, plan)
            with Redis(port=port) as redis:
                fill(redis, plan)
                redis.acl_setuser(
                    "default", enabled=True, nopass=True, keys=["*"], commands=["+@all", "-ping"]
                )
            began = time.monotonic()
            with pytest.raises(StoreUnavailable, match=r"NOPERM.*ping.*allow its user both"):
                await reader.read([*SYMBOLS, "none"], now=NOW)
            return time.monotonic() - began

    assert asyncio.run(read()) < 1
