"""No prediction is lost or kept twice, whatever ClickHouse does."""

import asyncio
from contextlib import asynccontextmanager

import pytest
from serving_desk import HASH, MINUTE_US, MODEL, eventually, running

from atlas.bus import connect_async
from atlas.clickhouse import connect
from atlas.errors import StoreUnavailable
from atlas.inference.lease import Lease
from atlas.inference.metrics import Metrics
from atlas.inference.outbox import Finished, Outbox, Prediction
from atlas.inference.parts import Parts
from atlas.inference.prediction_log import PredictionLog
from atlas.inference.row_feed import GROUP
from atlas.serving import Signal, Stage

KEPT = (
    "SELECT model, version, stage, generation, symbol, toUnixTimestamp64Micro(event_timestamp), "
    "score, side, decides, feature_hash, published, latency_us FROM predictions "
    "ORDER BY event_timestamp"
)


def prediction(number):
    return Prediction(
        Signal(
            model=MODEL,
            version=7,
            stage=Stage.LIVE,
            symbol="BTC_USDT",
            event_us=1_600_000_000_000_001 + number * MINUTE_US,
            score=0.1 + number / 7_000,
            side=-1,
            decides=bool(number % 2),
            feature_hash=HASH,
            generation=3,
        ),
        published=True,
        latency_us=400 + number,
    )


def as_kept(p):
    s = p.signal
    return (
        *(s.model, s.version, str(s.stage), s.generation, s.symbol, s.event_us, s.score, s.side),
        *(s.decides, s.feature_hash, p.published, p.latency_us),
    )


def row(redis):
    """Return the id of a row that a worker has read and not finished."""
    if not redis.exists("rows"):
        redis.xgroup_create("rows", GROUP, mkstream=True)
    entry = redis.xadd("rows", {"symbol": "BTC_USDT"})
    redis.xreadgroup(GROUP, "test", {"rows": ">"})
    return entry


def finished(predictions, entries):
    return Finished("rows", tuple(entries), tuple(predictions))


@asynccontextmanager
async def outbox_to(redis_port, clickhouse_port, database, **options):
    client = connect_async(port=redis_port)
    metrics = Metrics()
    outbox = Outbox(client, **options)
    log = PredictionLog(
        outbox,
        Lease(client, "outbox", "test"),
        host="127.0.0.1",
        port=clickhouse_port,
        database=database,
        parts=Parts(metrics),
        metrics=metrics,
    )
    try:
        yield outbox, log
    finally:
        await log.close()
        await client.aclose()


def test_predictions_arrive_in_clickhouse_as_they_were_made(
    redis, redis_port, clickhouse_port, database, clickhouse
):
    made = [prediction(number) for number in range(5)]

    async def scenario():
        async with outbox_to(redis_port, clickhouse_port, database) as (outbox, log):
            await outbox.record([finished(made, [row(redis)])])
            await log.send()
            return outbox.depth

    assert asyncio.run(scenario()) == 0
    assert clickhouse.query(KEPT).result_rows == [as_kept(p) for p in made]


def test_a_block_sent_twice_is_kept_once(redis, redis_port, clickhouse_port, database, clickhouse):
    first, later = [prediction(0), prediction(1)], [prediction(2)]

    async def scenario():
        async with outbox_to(redis_port, clickhouse_port, database) as (outbox, log):
            await outbox.record([finished(first, [row(redis)])])
            # Sent, and the worker dies before it can say so; meanwhile more is recorded.
            await log._insert(await outbox.seal())
            await outbox.record([finished(later, [row(redis)])])
        async with outbox_to(redis_port, clickhouse_port, database) as (_, log):
            await log.send()

    asyncio.run(scenario())
    assert clickhouse.query(KEPT).result_rows == [as_kept(p) for p in first + later]


def test_what_clickhouse_does_not_take_waits_for_it(redis, redis_port, clickhouse_port):
    made = [prediction(number) for number in range(3)]

    async def refused(database):
        async with outbox_to(redis_port, clickhouse_port, database) as (outbox, log):
            await outbox.record([finished(made, [row(redis)])])
            with pytest.raises(StoreUnavailable, match="no_such_database"):
                await log.send()
            return await outbox.measure()

    assert asyncio.run(refused("no_such_database")) == 3


def test_the_record_and_the_end_of_its_row_are_one_step(redis, redis_port):
    ids = [row(redis) for _ in range(3)]

    async def scenario():
        client = connect_async(port=redis_port)
        outbox = Outbox(client)
        await outbox.record([finished([prediction(0)], ids[:2])])
        once = outbox.depth
        # Again, as a worker would that was paused while another did its work.
        await outbox.record([finished([prediction(0)], ids[:2])])
        await client.aclose()
        return once, outbox.depth

    assert asyncio.run(scenario()) == (1, 1)
    assert redis.xpending("rows", GROUP)["pending"] == 1


def test_two_workers_that_seal_at_once_send_the_same_block(redis, redis_port):
    async def scenario():
        client = connect_async(port=redis_port)
        one, two = Outbox(client), Outbox(client)
        await one.record([finished([prediction(0)], [row(redis)])])
        sealed = await one.seal()
        await one.record([finished([prediction(1)], [row(redis)])])
        again = await two.seal()
        await one.delivered(sealed)
        rest = await two.seal()
        await two.delivered(sealed)  # late: it must not end the block that is sealed now
        still = await one.seal()
        await client.aclose()
        return sealed.token == again.token, len(rest.rows), still.token == rest.token

    assert asyncio.run(scenario()) == (True, 1, True)


def test_a_seal_without_a_block_does_not_stop_the_others(redis, redis_port):
    async def scenario():
        client = connect_async(port=redis_port)
        outbox = Outbox(client)
        await outbox.record([finished([prediction(0)], [row(redis)])])
        await outbox.seal()
        redis.delete("atlas:outbox:predictions")
        await outbox.record([finished([prediction(1)], [row(redis)])])
        redis.set("atlas:outbox:predictions:sealed", "0-1")
        found = [await outbox.seal(), await outbox.seal()]
        await client.aclose()
        return found[0], len(found[1].rows)

    assert asyncio.run(scenario()) == (None, 1)


def test_a_full_outbox_lets_no_row_be_served(redis, redis_port):
    async def scenario():
        client = connect_async(port=redis_port)
        outbox = Outbox(client, limit=2)
        fullness = []
        for number in range(2):
            await outbox.record([finished([prediction(number)], [row(redis)])])
            fullness.append(outbox.full)
        await outbox.delivered(await outbox.seal())
        await client.aclose()
        return [*fullness, outbox.full]

    assert asyncio.run(scenario()) == [False, True, False]


def test_a_workers_signals_are_found_in_clickhouse(desk, settings, clickhouse_port, database):
    there = settings.model_copy(
        update={"clickhouse_port": clickhouse_port, "clickhouse_database": database}
    )
    desk.permit()
    desk.deploy(1, live=1, shadow=2)
    with running(there) as worker, connect(port=clickhouse_port, database=database) as client:
        eventually(worker.leads)
        desk.feed(["A", "B"], MINUTE_US * 30, desk.rows(2))
        eventually(lambda: worker.metric("unusable_total") == 2)
        event_us = desk.feed_now(["A", "B"])
        eventually(lambda: client.query("SELECT count() FROM predictions").first_row == (4,))
        kept = client.query(
            "SELECT stage, symbol, toUnixTimestamp64Micro(event_timestamp), score, side, "
            "published, version FROM predictions ORDER BY stage, symbol"
        ).result_rows
    said = desk.signals(Stage.LIVE) + desk.signals(Stage.SHADOW)
    assert kept == [
        (str(s.stage), s.symbol, event_us, s.score, s.side, True, s.version)
        for s in sorted(said, key=lambda s: (s.stage, s.symbol))
    ]
