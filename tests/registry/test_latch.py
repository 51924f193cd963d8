"""The halt latch: SQL first, then Redis, and only a person releases it."""

import socket
import threading
import time
from datetime import timedelta
from pathlib import Path

import pytest
from redis import Redis

from atlas.bus import Publication, connect, grant, is_permitted, publish, revoke
from atlas.errors import Halted, InvalidInput, StaleGeneration, StoreUnavailable
from atlas.registry import HaltKind, HaltLog, Latch
from atlas.serving import Signal, Stage

SIGNAL = Signal("m", 1, Stage.LIVE, "BTC_USDT", 1, 0.5, 0, True, "h", 1)


@pytest.fixture
def latch(halts: HaltLog, redis: Redis) -> Latch:
    return Latch(halts, redis)


@pytest.fixture
def no_log(tmp_path: Path) -> HaltLog:
    """A log whose database cannot be opened."""
    (tmp_path / "file").write_text("in the way")
    return HaltLog(f"sqlite:///{tmp_path}/file/halts.db")


@pytest.fixture
def away() -> Redis:
    """A Redis that does not answer."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    return connect(port=port, asks=False)


def test_a_fresh_installation_is_halted(latch: Latch) -> None:
    assert latch.last() is None
    assert not latch.restore()
    assert not latch.permitted()


def test_a_release_permits_and_a_halt_stops_and_both_are_written_down(
    latch: Latch, halts: HaltLog, redis: Redis
) -> None:
    latch.release("ada", "the desk opens", expected=0)
    assert publish(redis, [SIGNAL]) == [Publication.PUBLISHED]
    latch.halt("system:health", "zero rate 60 %")
    assert not latch.permitted()
    assert [(e.sequence, e.kind, e.who, e.why) for e in halts.history()] == [
        (1, "release", "ada", "the desk opens"),
        (2, "halt", "system:health", "zero rate 60 %"),
    ]


def test_only_a_person_releases(latch: Latch) -> None:
    latch.halt("system:health", "zero rate 60 %")
    for name in ("system:health", " System:retraining"):
        with pytest.raises(InvalidInput, match="Expected a person"):
            latch.release(name, "looks fine", expected=1)
    assert not latch.permitted()


@pytest.mark.parametrize(("who", "why"), [("", "because"), ("ada", " ")])
def test_halts_and_releases_need_a_name_and_a_reason(latch: Latch, who: str, why: str) -> None:
    with pytest.raises(InvalidInput, match="a name and a reason"):
        latch.release(who, why, expected=0)
    assert latch.last() is None


def test_a_halt_that_the_person_has_not_seen_is_not_lifted(latch: Latch) -> None:
    latch.halt("ada", "first")
    latch.halt("bob", "second")
    with pytest.raises(StaleGeneration, match="end at entry 1; found entry 2"):
        latch.release("ada", "the first is mended", expected=1)
    assert not latch.permitted()


def test_a_release_overtaken_by_a_halt_on_its_way_to_redis_leaves_the_desk_halted(
    halts: HaltLog, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    latch = Latch(halts, redis)
    real = halts.release

    def overtaken(*args: object, **options: object) -> object:
        entry = real(*args, **options)  # type: ignore[arg-type]
        Latch(halts, redis).halt("bob", "in between")
        return entry

    monkeypatch.setattr(halts, "release", overtaken)
    with pytest.raises(Halted, match="newer halt"):
        latch.release("ada", "open", expected=0)
    assert not latch.permitted()
    assert not latch.restore()


@pytest.mark.parametrize("ends", ["halt", "release"])
def test_an_empty_redis_is_brought_to_what_the_log_says(
    latch: Latch, redis: Redis, ends: str
) -> None:
    latch.release("ada", "open", expected=0)
    if ends == "halt":
        latch.halt("ada", "close")
    redis.flushall()
    assert not latch.permitted()
    assert latch.restore() is (ends == "release")
    assert latch.permitted() is (ends == "release")


def test_a_permit_that_the_log_does_not_back_is_taken_away(latch: Latch, redis: Redis) -> None:
    latch.halt("ada", "close")
    grant(redis, "somebody at redis-cli")
    assert not latch.restore()
    assert not latch.permitted()


def test_trading_stops_even_where_the_halt_cannot_be_recorded(
    no_log: HaltLog, halts: HaltLog, redis: Redis
) -> None:
    working = Latch(halts, redis)
    working.release("ada", "open", expected=0)
    with pytest.raises(StoreUnavailable, match="halted in Redis, but the halt was not recorded"):
        Latch(no_log, redis).halt("bob", "stop")
    assert not working.permitted()
    # The log still ends with a release; that alone must not open the desk again.
    assert not working.restore()
    working.release("ada", "bob's halt is dealt with", expected=1)
    assert working.permitted()


def test_a_halt_is_recorded_also_while_redis_is_away(halts: HaltLog, away: Redis) -> None:
    with away, pytest.raises(StoreUnavailable, match="recorded as entry 1, and nothing is publ"):
        Latch(halts, away).halt("ada", "stop", patience=timedelta(seconds=0.3))
    last = halts.last()
    assert last is not None
    assert last.kind is HaltKind.HALT


def test_a_halt_waits_for_a_redis_that_comes_back(
    halts: HaltLog, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    latch = Latch(halts, redis)
    latch.release("ada", "open", expected=0)
    tries = []

    def flaky(*args: object, **options: object) -> bool:
        tries.append(args)
        if len(tries) < 3:
            raise StoreUnavailable("away")
        return revoke(*args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr("atlas.registry.latch.revoke", flaky)
    latch.halt("ada", "stop")
    assert len(tries) == 3
    assert not latch.permitted()


def test_a_release_while_redis_is_away_opens_nothing(halts: HaltLog, away: Redis) -> None:
    with away, pytest.raises(StoreUnavailable):
        Latch(halts, away).release("ada", "open", expected=0)


def test_after_the_log_was_lost_the_desk_can_still_be_released(
    latch: Latch, redis: Redis, tmp_path: Path
) -> None:
    for _ in range(3):
        latch.halt("ada", "busy day")
    fresh = Latch(HaltLog(f"sqlite:///{tmp_path}/fresh.db"), redis)
    with pytest.raises(Halted):
        fresh.release("ada", "new log", expected=0)
    fresh.release("ada", "new log, once more", expected=1)
    assert fresh.permitted()


def test_halts_from_many_threads_are_all_written_and_none_is_lost_to_a_release(
    url: str, redis: Redis, redis_port: int
) -> None:
    refused = []

    def stop(number: int) -> None:
        with connect(port=redis_port) as own:
            Latch(HaltLog(url), own).halt(f"bob{number}", "stop")

    def open_desk() -> None:
        with connect(port=redis_port) as own:
            latch = Latch(HaltLog(url), own)
            for _ in range(10):
                last = latch.last()
                try:
                    latch.release("ada", "go", expected=last.sequence if last else 0)
                except (StaleGeneration, Halted) as error:
                    refused.append(error)
                time.sleep(0.005)

    threads = [threading.Thread(target=open_desk)]
    threads += [threading.Thread(target=stop, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    history = HaltLog(url).history()
    assert [e.sequence for e in history] == list(range(1, len(history) + 1))
    assert sum(e.kind is HaltKind.HALT for e in history) == 8
    assert sum(e.kind is HaltKind.RELEASE for e in history) <= 10
    # Redis never permits what the log forbids.
    if history[-1].kind is HaltKind.HALT:
        assert not is_permitted(redis)
