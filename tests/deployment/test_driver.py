"""The driver carries a strategy out on a real Redis, with a small worker that follows routes."""

import dataclasses
import threading
import time
from collections.abc import Callable, Generator
from datetime import timedelta
from typing import Any

import pytest
from redis import Redis

from atlas.bus import Served, connect, grant, read_route
from atlas.deployment import (
    BusObserver,
    Conclusion,
    Desk,
    Driver,
    Intent,
    Observation,
    Outcome,
    Terms,
    blue_green,
    canary,
    rolling,
)
from atlas.errors import DeploymentRefused, StaleGeneration, StoreUnavailable
from atlas.registry import Action, DeploymentLog
from atlas.serving import Manifest, Stage, Traffic

MODEL = "direction_ohlcv_1m"
QUICK: dict[str, Any] = {
    "min_rows": 20,
    "patience": timedelta(seconds=20),
    "switch_patience": timedelta(seconds=20),
}
POLL = timedelta(milliseconds=20)


def deploy(desk: Desk, version: int, **options: Any) -> Conclusion:
    strategy = blue_green(version, Terms(**{**QUICK, **options}))
    return Driver(desk, poll=POLL).deploy(MODEL, version, strategy, why="test")


def stages(desk: Desk) -> dict[int, str]:
    return {v: str(s.stage) for v, s in desk.log.state(MODEL).versions.items()}


def test_a_healthy_candidate_goes_live_and_the_former_version_is_retired(
    desk: Desk, redis: Redis, start_worker: Callable[..., Any]
) -> None:
    start_worker()
    assert deploy(desk, 1).outcome is Outcome.PROMOTED
    looks: list[Intent] = []
    driver = Driver(desk, poll=POLL, on_look=lambda intent, seen: looks.append(intent))
    conclusion = driver.deploy(MODEL, 2, blue_green(2, Terms(**QUICK)))
    assert conclusion.outcome is Outcome.PROMOTED
    assert stages(desk) == {1: "retired", 2: "live", 3: "gated", 9: "rejected"}
    assert read_route(redis, MODEL) == desk.log.state(MODEL).route()
    order = list(dict.fromkeys(intent.stage for intent in looks))
    assert order == [Stage.SHADOW, Stage.LIVE]


def test_a_halt_does_not_keep_a_candidate_from_proving_itself(
    desk: Desk, start_worker: Callable[..., Any]
) -> None:
    # No permit was given: the shadow speaks all the same.
    start_worker()
    assert deploy(desk, 1).outcome is Outcome.PROMOTED


def test_a_shadow_that_stands_already_brings_its_evidence(
    desk: Desk, start_worker: Callable[..., Any], redis: Redis
) -> None:
    start_worker()
    desk.stage_shadow(MODEL, 1)
    _until(lambda: BusObserver(redis, MODEL).observe(_shadow(1), 0, timedelta(0)).rows >= 20)
    before = desk.log.state(MODEL).generation
    assert deploy(desk, 1, patience=timedelta(seconds=0.5)).outcome is Outcome.PROMOTED
    assert desk.log.state(MODEL).generation == before + 1


def test_a_candidate_that_workers_refuse_is_gated_again(
    desk: Desk, start_worker: Callable[..., Any]
) -> None:
    worker = start_worker(refuses=lambda m: "golden rows differ" if m.version == 2 else None)
    deploy(desk, 1)
    conclusion = deploy(desk, 2)
    assert conclusion == Conclusion(
        Outcome.ROLLED_BACK, "As a shadow: Refused by 1 workers: golden rows differ"
    )
    assert stages(desk) == {1: "live", 2: "gated", 3: "gated", 9: "rejected"}
    _until(lambda: worker.routes[MODEL] == desk.log.state(MODEL).route())


def test_a_candidate_that_fails_once_live_gives_way_to_the_former_version(
    desk: Desk, start_worker: Callable[..., Any]
) -> None:
    def fails_live(manifest: Manifest, rows: int) -> Served:
        bad = manifest.version == 2 and manifest.stage is Stage.LIVE
        return Served(rows, errors=10_000 if bad else 0, latency_p99_us=900.0)

    start_worker(served=fails_live)
    deploy(desk, 1)
    conclusion = deploy(desk, 2)
    assert conclusion.outcome is Outcome.ROLLED_BACK
    assert "predictions failed" in conclusion.why
    assert stages(desk) == {1: "live", 2: "retired", 3: "gated", 9: "rejected"}


def test_a_first_version_that_fails_once_live_leaves_none(
    desk: Desk, start_worker: Callable[..., Any]
) -> None:
    start_worker(refuses=lambda m: "no memory" if m.stage is Stage.LIVE else None)
    assert deploy(desk, 1).outcome is Outcome.ROLLED_BACK
    assert stages(desk)[1] == "retired"
    assert desk.log.state(MODEL).route().manifests() == ()


def test_without_a_worker_nothing_goes_live(desk: Desk) -> None:
    conclusion = deploy(desk, 1, patience=timedelta(seconds=0.1))
    assert conclusion.outcome is Outcome.ROLLED_BACK
    assert "No worker" in conclusion.why
    assert stages(desk)[1] == "gated"


def test_a_rejected_or_unknown_or_live_version_is_refused_before_anything_moves(
    desk: Desk, start_worker: Callable[..., Any]
) -> None:
    start_worker()
    deploy(desk, 1)
    before = desk.log.history()
    for version, found in ((9, "passed every gate"), (77, "found 77"), (1, "it is already")):
        with pytest.raises(DeploymentRefused, match=found):
            deploy(desk, version)
    assert desk.log.history() == before


def test_of_two_deployers_at_once_one_wins(
    desk: Desk, start_worker: Callable[..., Any], redis_port: int, url: str
) -> None:
    start_worker()
    both_read = threading.Barrier(2)
    ends: list[object] = []

    def run(version: int) -> None:
        def strategy() -> Generator[Intent, Observation, Conclusion]:
            both_read.wait()  # the driver has read the log when it first asks
            return (yield from blue_green(version, Terms(**QUICK)))

        with connect(port=redis_port) as own:
            one = Desk(DeploymentLog(url), own, who=f"bob{version}")
            try:
                ends.append(Driver(one, poll=POLL).deploy(MODEL, version, strategy()).outcome)
            except StaleGeneration:
                ends.append("stale")

    threads = [threading.Thread(target=run, args=(version,)) for version in (1, 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(map(str, ends)) == ["promoted", "stale"]
    assert sorted(stages(desk).values()) == ["gated", "gated", "live", "rejected"]


def test_a_version_registered_meanwhile_does_not_disturb(
    desk: Desk, start_worker: Callable[..., Any]
) -> None:
    start_worker()
    known = desk.log.state(MODEL).versions[1].manifest
    numbers = iter(range(100, 10_000))

    def register(intent: Intent, seen: Observation) -> None:
        number = next(numbers)
        new = dataclasses.replace(known, version=number, blob=f"{number:064x}")
        desk.register(new, passed=True, report="r")

    driver = Driver(desk, poll=POLL, on_look=register)
    conclusion = driver.deploy(MODEL, 1, blue_green(1, Terms(**QUICK)))
    assert conclusion.outcome is Outcome.PROMOTED


def test_a_candidate_displaced_by_somebody_else_is_not_promoted(
    desk: Desk, start_worker: Callable[..., Any]
) -> None:
    start_worker()

    def displace(intent: Intent, seen: Observation) -> None:
        if seen.rows >= 20 and desk.log.state(MODEL).versions[2].stage is Stage.GATED:
            desk.stage_shadow(MODEL, 2, why="mine is better")

    driver = Driver(desk, poll=POLL, on_look=displace)
    with pytest.raises(DeploymentRefused, match="to be shadow or canary to promote; found gated"):
        driver.deploy(MODEL, 1, blue_green(1, Terms(**QUICK)))
    assert stages(desk) == {1: "gated", 2: "shadow", 3: "gated", 9: "rejected"}


@pytest.mark.parametrize(("stop_at", "after"), [(Stage.SHADOW, "shadow"), (Stage.LIVE, "retired")])
def test_interrupted_a_shadow_stays_and_an_unconfirmed_switch_is_taken_back(
    desk: Desk, start_worker: Callable[..., Any], stop_at: Stage, after: str
) -> None:
    start_worker()

    def interrupt(intent: Intent, seen: Observation) -> None:
        if intent.stage is stop_at:
            raise KeyboardInterrupt

    driver = Driver(desk, poll=POLL, on_look=interrupt)
    with pytest.raises(KeyboardInterrupt):
        driver.deploy(MODEL, 1, blue_green(1, Terms(**QUICK)))
    assert stages(desk)[1] == after


def test_while_redis_cannot_be_seen_patience_decides(
    desk: Desk, start_worker: Callable[..., Any], redis: Redis
) -> None:
    start_worker()

    class Blinking:
        """Sees nothing every second time."""

        def __init__(self, model: str) -> None:
            self.real = BusObserver(redis, model)
            self.looks = 0

        def observe(self, *arguments: Any) -> Observation:
            self.looks += 1
            if self.looks % 2:
                raise StoreUnavailable("away")
            return self.real.observe(*arguments)

    driver = Driver(desk, observer=Blinking, poll=POLL)
    conclusion = driver.deploy(MODEL, 1, blue_green(1, Terms(**QUICK)))
    assert conclusion.outcome is Outcome.PROMOTED


def test_agreement_is_the_share_of_rows_on_which_both_take_one_side(
    desk: Desk, redis: Redis, start_worker: Callable[..., Any]
) -> None:
    grant(redis, "ada")
    desk.stage_shadow(MODEL, 1)
    desk.promote(MODEL, 1)
    desk.stage_shadow(MODEL, 2)
    start_worker(side=lambda m, t: 1 if m.version == 1 or t % 4 else -1)
    observer = BusObserver(redis, MODEL)
    _until(lambda: observer.observe(_shadow(2), 0, timedelta(0)).rows >= 40)
    seen = observer.observe(_shadow(2), 0, timedelta(0))
    assert seen.agreement == pytest.approx(0.75, abs=0.05)


def test_without_a_live_version_there_is_nothing_to_agree_with(
    desk: Desk, redis: Redis, start_worker: Callable[..., Any]
) -> None:
    start_worker()
    desk.stage_shadow(MODEL, 1)
    observer = BusObserver(redis, MODEL)
    _until(lambda: observer.observe(_shadow(1), 0, timedelta(0)).rows >= 5)
    assert observer.observe(_shadow(1), 0, timedelta(0)).agreement is None


def test_the_observer_keeps_apart_workers_that_serve_wait_and_refuse(
    desk: Desk, redis: Redis, start_worker: Callable[..., Any]
) -> None:
    generation = desk.stage_shadow(MODEL, 1).generation
    start_worker(name="serves")
    start_worker(name="refuses", refuses=lambda m: "no memory")
    observer = BusObserver(redis, MODEL)

    def look() -> Observation:
        return observer.observe(_shadow(1), generation, timedelta(0))

    _until(lambda: look().workers == 1 and len(look().refusals) == 1)
    ahead = observer.observe(_shadow(1), generation + 1, timedelta(0))
    assert (ahead.workers, ahead.waiting, ahead.refusals) == (0, 2, ())


def _shadow(version: int) -> Intent:
    return Intent(version, Stage.SHADOW)


def _until(happened: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.02)


HOUR_US = 3_600_000_000


def test_a_canary_goes_live_share_by_share_and_the_split_is_measured(
    desk: Desk, start_worker: Callable[..., Any], redis: Redis
) -> None:
    grant(redis, "ada")
    start_worker(step_us=HOUR_US)
    assert deploy(desk, 1).outcome is Outcome.PROMOTED
    shares: dict[float, float] = {}

    def note(intent: Intent, seen: Observation) -> None:
        if intent.stage is Stage.CANARY and seen.share is not None:
            shares[intent.traffic.share] = seen.share

    terms = Terms(min_rows=60, patience=timedelta(seconds=60))
    conclusion = Driver(desk, poll=POLL, on_look=note).deploy(MODEL, 2, canary(2, terms))
    assert conclusion.outcome is Outcome.PROMOTED
    assert stages(desk)[2] == "live"
    assert list(shares) == [0.1, 0.25, 0.5]
    for asked, measured in shares.items():
        assert abs(measured - asked) < 0.5 * asked
    moves = [(e.action, e.manifest.share) for e in desk.log.history(MODEL) if e.version == 2][-5:]
    assert moves == [
        (Action.STAGE, 1.0),
        (Action.CANARY, 0.1),
        (Action.CANARY, 0.25),
        (Action.CANARY, 0.5),
        (Action.PROMOTE, 1.0),
    ]


def test_a_canary_whose_driver_was_killed_goes_on_from_its_share(
    desk: Desk, start_worker: Callable[..., Any], redis: Redis
) -> None:
    grant(redis, "ada")
    start_worker(step_us=HOUR_US)
    deploy(desk, 1)
    desk.stage_shadow(MODEL, 2)
    left = Traffic(0.25, "2")
    desk.canary(MODEL, 2, left)
    terms = Terms(min_rows=20, patience=timedelta(seconds=60))
    walk = canary(2, terms, begun=left)
    assert Driver(desk, poll=POLL).deploy(MODEL, 2, walk).outcome is Outcome.PROMOTED
    shares = [e.manifest.share for e in desk.log.history(MODEL) if e.action is Action.CANARY]
    assert shares == [0.25, 0.5]


@pytest.mark.parametrize("share", [0.1, 0.5])
def test_a_canary_that_is_interrupted_is_taken_back(
    desk: Desk, start_worker: Callable[..., Any], redis: Redis, share: float
) -> None:
    grant(redis, "ada")
    start_worker(step_us=HOUR_US)
    deploy(desk, 1)

    def interrupt(intent: Intent, seen: Observation) -> None:
        if intent.traffic.share == share:
            raise KeyboardInterrupt

    driver = Driver(desk, poll=POLL, on_look=interrupt)
    with pytest.raises(KeyboardInterrupt):
        driver.deploy(MODEL, 2, canary(2, Terms(min_rows=20)))
    assert (stages(desk)[1], stages(desk)[2]) == ("live", "gated")


def test_rolling_moves_from_worker_to_worker(
    desk: Desk, start_worker: Callable[..., Any], redis: Redis
) -> None:
    grant(redis, "ada")
    for name in ("a", "b"):
        start_worker(name=name, symbols=(f"{name}_USDT",))
    deploy(desk, 1)
    moved: list[tuple[str, ...]] = []
    driver = Driver(
        desk, poll=POLL, on_look=lambda intent, seen: moved.append(intent.traffic.workers)
    )
    walk = rolling(2, Terms(min_rows=20, patience=timedelta(seconds=60)))
    assert driver.deploy(MODEL, 2, walk).outcome is Outcome.PROMOTED
    assert list(dict.fromkeys(moved)) == [(), ("a",), ("a", "b")]
    assert stages(desk)[2] == "live"
