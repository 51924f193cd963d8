"""How quick the worker is, and that its event loop never waits; for a machine with idle cores."""

import asyncio
import time
from collections.abc import Awaitable, Callable

import numpy as np
import pytest
from serving_desk import MINUTE_US, PLAN, eventually, last_minute, trained

from atlas.bus import connect_async
from atlas.online.wire import entity_key, feature_field, key_prefix

pytestmark = pytest.mark.slow

ROWS = 400


def median_us(times):
    return float(np.median(times)) / 1e3


def raw_read_us(redis_port):
    """Median of reading one symbol's features as plainly as the client library can."""
    key = entity_key(key_prefix(PLAN.join_keys), "BTC_USDT", PLAN.project)
    fields = [feature_field(PLAN.view, feature) for feature in PLAN.features]

    async def read():
        client = connect_async(port=redis_port)
        call: Callable[[], Awaitable[object]] = lambda: client.hmget(key, fields)  # noqa: E731
        times = []
        for _ in range(ROWS):
            # At the pace of the rows, which finds caches as cold as the worker finds them.
            await asyncio.sleep(0.003)
            began = time.perf_counter_ns()
            await call()
            times.append(time.perf_counter_ns() - began)
        await client.aclose()
        return median_us(times)

    return asyncio.run(read())


def raw_score_us(row):
    """Median of XGBoost's own call for one row."""
    booster, times = trained(1).engine.booster_, []
    for _ in range(ROWS):
        time.sleep(0.003)
        began = time.perf_counter_ns()
        booster.inplace_predict(row, validate_features=False)
        times.append(time.perf_counter_ns() - began)
    return median_us(times)


def test_a_signal_takes_less_than_three_times_its_raw_parts(desk, worker_process, redis_port):
    desk.permit()
    desk.deploy(1, live=1)
    worker_process.start()
    eventually(worker_process.face.ready)
    rows, first_us = desk.rows(ROWS), last_minute() - MINUTE_US
    for i in range(ROWS):
        desk.feed(["BTC_USDT"], first_us + i, rows[i : i + 1])
        time.sleep(0.003)
    eventually(lambda: len(desk.recorded()) == ROWS)
    latency_us = float(np.median([r["latency_us"] for r in desk.recorded()]))
    raw_us = raw_read_us(redis_port) + raw_score_us(rows[:1].astype(np.float32))
    assert latency_us <= 3 * raw_us


def test_the_event_loop_waits_less_than_a_tenth_of_a_second_under_full_load(desk, worker_process):
    symbols = [f"S{i}" for i in range(300)]
    desk.permit()
    desk.deploy(1, live=1, shadow=2, rejected=3)
    worker_process.start()
    face = worker_process.face
    eventually(face.ready)
    time.sleep(5)  # the imports of the start have left the window of the measurement
    rows, first_us, worst = desk.rows(300), last_minute() - MINUTE_US, 0.0
    for bar in range(60):
        desk.feed(symbols, first_us + bar, rows)
        if bar % 10 == 9:
            face.predict(*symbols)
            worst = max(worst, face.metric("event_loop_lag_seconds"))
    eventually(lambda: desk.unfinished() == 0, within=60)
    worst = max(worst, face.metric("event_loop_lag_seconds"))
    assert desk.n_signals() == 300 * 60
    assert worst < 0.1
