"""The permit: absent means halted, and nothing slips past a halt."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis import Redis

from atlas.bus import (
    Publication,
    connect,
    forget_halts_after,
    grant,
    is_permitted,
    latest_signals,
    publish,
    revoke,
)
from atlas.serving import Signal, Stage, signals_stream

MODEL = "direction_ohlcv_1m"


def signal(event_us: int, *, symbol: str = "BTC_USDT", stage: Stage = Stage.LIVE) -> Signal:
    return Signal(MODEL, 3, stage, symbol, event_us, 0.61, 1, True, "abc", 7)


def entries(redis: Redis) -> int:
    length: Any = redis.xlen(signals_stream(Stage.LIVE))
    return int(length)


def test_an_empty_redis_is_halted(redis: Redis) -> None:
    assert not is_permitted(redis)
    assert publish(redis, [signal(1)]) == [Publication.HALTED]
    assert latest_signals(redis, Stage.LIVE, 10) == []


def test_a_grant_permits_and_a_halt_stops_the_next_signal(redis: Redis) -> None:
    assert grant(redis, "ada")
    assert publish(redis, [signal(1)]) == [Publication.PUBLISHED]
    assert revoke(redis, "ada", sequence=1)
    assert publish(redis, [signal(2)]) == [Publication.HALTED]


def test_a_signal_that_a_halt_stopped_can_leave_after_the_release(redis: Redis) -> None:
    assert publish(redis, [signal(1)]) == [Publication.HALTED]
    grant(redis, "ada")
    assert publish(redis, [signal(1)]) == [Publication.PUBLISHED]


def test_a_release_that_arrives_after_a_newer_halt_loses(redis: Redis) -> None:
    revoke(redis, "bob", sequence=6)
    assert not grant(redis, "ada", sequence=5)
    assert not is_permitted(redis)
    assert grant(redis, "ada", sequence=7)


def test_an_older_halt_does_not_lower_the_mark_of_a_newer_one(redis: Redis) -> None:
    revoke(redis, "bob", sequence=6)
    revoke(redis, "bob", sequence=4)
    assert not grant(redis, "ada", sequence=5)


def test_only_a_person_lifts_a_halt_that_the_log_did_not_take(redis: Redis) -> None:
    revoke(redis, "bob: disk full")
    assert not grant(redis, "restore", sequence=9, lifts_unrecorded=False)
    assert grant(redis, "ada", sequence=10)
    assert grant(redis, "restore", sequence=10, lifts_unrecorded=False)


def test_halts_of_a_lost_log_are_forgotten_only_when_they_are_newer_than_the_log(
    redis: Redis,
) -> None:
    revoke(redis, "bob", sequence=9)
    assert not forget_halts_after(redis, 9)
    assert forget_halts_after(redis, 1)
    assert not is_permitted(redis)
    assert grant(redis, "ada", sequence=2)


def test_shadows_and_observed_models_speak_through_a_halt(redis: Redis) -> None:
    said = [signal(1, stage=Stage.SHADOW), signal(1, stage=Stage.REJECTED), signal(1)]
    assert publish(redis, said) == [
        Publication.PUBLISHED,
        Publication.PUBLISHED,
        Publication.HALTED,
    ]


@settings(
    max_examples=5, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    batch=st.integers(1, 40),
    publishers=st.integers(1, 4),
    delay_ms=st.floats(0, 25),
)
def test_no_signal_enters_the_stream_after_the_halt_has_replied(
    redis: Redis, redis_port: int, batch: int, publishers: int, delay_ms: float
) -> None:
    redis.flushall()
    grant(redis, "ada")
    published = [0] * publishers
    halted = [0] * publishers

    def speak(number: int) -> None:
        with connect(port=redis_port) as own:
            event_us = 0
            while halted[number] < 3:
                said = [signal(event_us + i, symbol=f"S{number}") for i in range(1, batch + 1)]
                event_us += batch
                outcomes = set(publish(own, said))
                # A batch is one step: a halt falls before or after it, never inside.
                if outcomes == {Publication.PUBLISHED}:
                    assert halted[number] == 0
                    published[number] += batch
                elif outcomes == {Publication.HALTED}:
                    halted[number] += 1
                else:
                    raise AssertionError(outcomes)

    with ThreadPoolExecutor(publishers) as threads:
        speaking = [threads.submit(speak, number) for number in range(publishers)]
        time.sleep(delay_ms / 1e3)
        revoke(redis, "bob", sequence=1)
        after_halt = entries(redis)
        for each in speaking:
            each.result(timeout=20)

    assert entries(redis) == after_halt == sum(published)


def test_many_quick_halts_and_releases_never_leak_a_signal(redis: Redis, redis_port: int) -> None:
    stop = threading.Event()

    def speak() -> None:
        event_us = 0
        with connect(port=redis_port) as own:
            while not stop.is_set():
                event_us += 1
                publish(own, [signal(event_us)])

    thread = threading.Thread(target=speak)
    thread.start()
    try:
        lengths_held = []
        for sequence in range(1, 121, 2):
            grant(redis, "ada", sequence=sequence)
            time.sleep(0.001)
            revoke(redis, "bob", sequence=sequence + 1)
            before = entries(redis)
            redis.ping()
            lengths_held.append(before == entries(redis))
    finally:
        stop.set()
        thread.join()
    assert all(lengths_held)
    assert entries(redis) > 0


def test_a_redis_that_lost_its_memory_is_halted(redis: Redis) -> None:
    grant(redis, "ada")
    redis.flushall()
    assert publish(redis, [signal(1)]) == [Publication.HALTED]
