"""Moves reach the log and then the workers; what is cut off in between is finished later."""

import dataclasses
import subprocess
import sys
import threading

import pytest
from redis import Redis

import atlas.deployment
from atlas.bus import connect, is_permitted, read_route, read_routes, write_route
from atlas.deployment import Desk, publish_route, reconcile
from atlas.errors import DeploymentRefused, StaleGeneration, StoreUnavailable
from atlas.registry import DeploymentLog, Latch
from atlas.serving import Route, Stage, route_key

MODEL = "direction_ohlcv_1m"


def served(redis: Redis) -> dict[str, int]:
    route = read_route(redis, MODEL)
    assert route is not None
    return {str(m.stage): m.version for m in route.manifests()}


def test_registering_serves_nothing(desk: Desk) -> None:
    assert read_routes(desk.redis) == {}


def test_a_version_walks_to_live_and_each_step_is_served(desk: Desk, redis: Redis) -> None:
    steps = []
    for version in (1, 2):
        desk.stage_shadow(MODEL, version)
        steps.append(served(redis))
        desk.promote(MODEL, version)
        steps.append(served(redis))
    assert steps == [{"shadow": 1}, {"live": 1}, {"live": 1, "shadow": 2}, {"live": 2}]


def test_one_command_goes_back_to_the_version_that_was_live_before(
    desk: Desk, redis: Redis
) -> None:
    for version in (1, 2):
        desk.stage_shadow(MODEL, version)
        desk.promote(MODEL, version)
    route = desk.rollback(MODEL, why="losses")
    assert served(redis) == {"live": 1}
    assert read_route(redis, MODEL) == route
    with pytest.raises(DeploymentRefused, match="there is none"):
        desk.rollback(MODEL)


def test_a_rejected_version_is_observed_and_nothing_else(desk: Desk, redis: Redis) -> None:
    desk.observe(MODEL, 9)
    assert served(redis) == {"rejected": 9}
    for move in (desk.stage_shadow, desk.promote):
        with pytest.raises(DeploymentRefused, match=r"passed every gate.*reports/9\.html"):
            move(MODEL, 9)
    assert served(redis) == {"rejected": 9}
    desk.retire(MODEL, 9)
    assert served(redis) == {}


def test_a_withdrawn_shadow_is_served_no_longer(desk: Desk, redis: Redis) -> None:
    desk.stage_shadow(MODEL, 1)
    desk.withdraw(MODEL, 1)
    assert served(redis) == {}


KILLED_BETWEEN = """
import os, signal, sys
import atlas.deployment.desk as desk
from atlas.bus import connect
from atlas.registry import DeploymentLog
desk.publish_route = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
with connect(port=int(sys.argv[2])) as redis:
    one = desk.Desk(DeploymentLog(sys.argv[1]), redis, who="ada")
    getattr(one, sys.argv[3])(*eval(sys.argv[4]))
"""


@pytest.mark.parametrize(
    ("move", "arguments", "after"),
    [
        ("stage_shadow", (MODEL, 3), {"live": 2, "shadow": 3}),
        ("rollback", (MODEL,), {"live": 1}),
    ],
)
def test_a_move_killed_between_the_log_and_redis_is_finished(
    desk: Desk,
    latch: Latch,
    redis: Redis,
    redis_port: int,
    url: str,
    move: str,
    arguments: tuple[object, ...],
    after: dict[str, int],
) -> None:
    for version in (1, 2):
        desk.stage_shadow(MODEL, version)
        desk.promote(MODEL, version)
    killed = subprocess.run(
        [sys.executable, "-c", KILLED_BETWEEN, url, str(redis_port), move, repr(arguments)]
    )
    assert killed.returncode == -9
    assert served(redis) == {"live": 2}
    assert reconcile(desk.log, latch, redis).routes == (MODEL,)
    assert served(redis) == after
    assert reconcile(desk.log, latch, redis).routes == ()


@pytest.mark.parametrize("released", [False, True])
def test_a_redis_that_came_up_empty_is_filled_from_the_log(
    desk: Desk, latch: Latch, redis: Redis, released: bool
) -> None:
    desk.stage_shadow(MODEL, 1)
    before = desk.promote(MODEL, 1)
    latch.release("ada", "open", expected=0)
    if not released:
        latch.halt("ada", "close")
    redis.flushall()
    done = reconcile(desk.log, latch, redis)
    assert (done.routes, done.permitted) == ((MODEL,), released)
    assert read_route(redis, MODEL) == before
    assert is_permitted(redis) is released


@pytest.mark.parametrize("damage", ["altered", "unreadable"])
def test_a_route_that_somebody_changed_by_hand_is_put_right(
    desk: Desk, latch: Latch, redis: Redis, damage: str
) -> None:
    right = desk.stage_shadow(MODEL, 1)
    assert right.shadow is not None
    wrong = dataclasses.replace(
        right, shadow=None, live=dataclasses.replace(right.shadow, stage=Stage.LIVE)
    )
    redis.set(route_key(MODEL), wrong.to_json() if damage == "altered" else b"{")
    assert reconcile(desk.log, latch, redis).routes == (MODEL,)
    assert read_route(redis, MODEL) == right


def test_a_redis_that_knows_more_than_the_log_is_reported_after_the_rest_is_done(
    desk: Desk, latch: Latch, redis: Redis
) -> None:
    desk.stage_shadow(MODEL, 1)
    known = desk.log.state(MODEL).versions[1].manifest
    desk.register(dataclasses.replace(known, model="zebra_ohlcv_1m"), passed=True, report="r")
    write_route(redis, Route(MODEL, 99))
    latch.release("ada", "open", expected=0)
    redis.delete("atlas:permit")
    with pytest.raises(StaleGeneration, match=r"does not know\. Put the newest backup"):
        reconcile(desk.log, latch, redis)
    assert is_permitted(redis)
    assert "zebra_ohlcv_1m" in read_routes(redis)


def test_a_move_that_redis_did_not_hear_of_stands_in_the_log(
    desk: Desk, latch: Latch, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: object, **__: object) -> None:
        raise StoreUnavailable("Redis is away")

    with monkeypatch.context() as patched:
        patched.setattr("atlas.deployment.desk.write_route", away)
        with pytest.raises(StoreUnavailable):
            desk.stage_shadow(MODEL, 1)
    shadow = desk.log.state(MODEL).shadow
    assert shadow is not None
    reconcile(desk.log, latch, redis)
    assert served(redis) == {"shadow": 1}


def test_many_desks_at_once_leave_redis_at_the_logs_newest_route(
    desk: Desk, redis: Redis, redis_port: int, url: str
) -> None:
    def move(version: int) -> None:
        with connect(port=redis_port) as own:
            each = Desk(DeploymentLog(url), own, who=f"bob{version}")
            for _ in range(8):
                for step in (each.stage_shadow, each.withdraw):
                    try:
                        step(MODEL, version)
                    except DeploymentRefused:  # somebody else's move came in between
                        continue

    threads = [threading.Thread(target=move, args=(v,)) for v in (1, 2, 3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    state = desk.log.state(MODEL)
    assert state.generation > 4
    assert read_route(redis, MODEL) == state.route()


def test_whoever_decides_on_an_old_generation_moves_nothing(desk: Desk, redis: Redis) -> None:
    old = desk.log.state(MODEL).generation
    desk.stage_shadow(MODEL, 1, expected=old)
    with pytest.raises(StaleGeneration):
        desk.stage_shadow(MODEL, 2, expected=old)
    assert served(redis) == {"shadow": 1}


def test_publishing_the_route_again_changes_nothing(desk: Desk, redis: Redis) -> None:
    route = desk.stage_shadow(MODEL, 1)
    assert publish_route(desk.log, redis, MODEL) == route


def test_the_face_of_deployment_is_what_it_promises() -> None:
    names = atlas.deployment.__all__
    assert names == sorted(names, key=lambda name: (not name.isupper(), name.islower(), name))
    assert all(hasattr(atlas.deployment, name) for name in names)
