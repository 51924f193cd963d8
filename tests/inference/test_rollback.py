"""A rollback is in force in every worker within two seconds, under load."""

import threading
import time

from serving_desk import MINUTE_US, MODEL, Desk, WorkerProcess, eventually, last_minute, unused_port

from atlas.bus import read_acks
from atlas.deployment import Desk as DeploymentDesk
from atlas.deployment import await_workers
from atlas.registry import DeploymentLog
from atlas.serving import Stage, Traffic

SYMBOLS = [f"S{i}" for i in range(24)]


def test_a_rollback_is_in_force_in_all_workers_within_two_seconds(desk: Desk, settings, tmp_path):
    desk.permit()
    workers = [
        WorkerProcess(
            settings.model_copy(update={"worker_port": unused_port()}), tmp_path / f"{i}.log"
        )
        for i in range(3)
    ]
    deployments = DeploymentDesk(DeploymentLog(settings.deployments_url), desk.redis, who="ada")
    for version in (1, 2):
        manifest = desk.manifest(version, Stage.REGISTERED)
        deployments.register(manifest, passed=True, report="r")
        deployments.stage_shadow(MODEL, version)
        route = deployments.promote(MODEL, version)
    enough, first_us, tick = threading.Event(), last_minute() - MINUTE_US, iter(range(10**6))

    def feed():
        while not enough.wait(0.01):
            at = next(tick)
            desk.feed(SYMBOLS, first_us + at, desk.rows(24, seed=at))

    feeder = threading.Thread(target=feed)
    try:
        for worker in workers:
            worker.start()
        for worker in workers:
            eventually(worker.face.ready, within=60)
            eventually(worker.face.leads, within=60)
        assert await_workers(desk.redis, route, patience_s=30).behind == ()
        feeder.start()
        eventually(lambda: desk.n_signals() > 200)
        bad = canary_then_live(deployments, desk)
        for version in bad:
            route = deployments.rollback(MODEL, why="losses")
            asked = time.time()
            followed = await_workers(desk.redis, route, patience_s=2.0)
            assert (len(followed.workers), followed.behind) == (3, ())
            eventually(lambda: desk.n_signals() and newest_ms(desk) / 1e3 > asked + 2.5)  # noqa: B023
            late = [v for ms, v in said_since(desk, asked + 2.0) if v == version]
            assert late == []
    finally:
        enough.set()
        for worker in workers:
            if worker.process is not None:
                worker.kill()
            worker.face.http.close()
        if feeder.ident is not None:
            feeder.join()


def canary_then_live(deployments, desk):
    """Yield a canary that trades, and then a live version, each to be rolled back."""
    yield 2  # live; rolled back to 1
    deployments.stage_shadow(MODEL, 2)
    route = deployments.canary(MODEL, 2, Traffic(0.5, "x"))
    assert await_workers(desk.redis, route, patience_s=30).behind == ()
    before = desk.n_signals()
    eventually(lambda: desk.n_signals() > before + 200)
    assert Stage.CANARY in {s.stage for s in desk.signals()[before:]}
    assert len(read_acks(desk.redis, MODEL)) == 3
    yield 2


def newest_ms(desk):
    return int(desk.redis.xrevrange("atlas:signals", count=1)[0][0].split(b"-")[0])


def said_since(desk, since):
    entries = desk.redis.xrange("atlas:signals", min=int(since * 1e3))
    return [(int(id.split(b"-")[0]), int(fields[b"version"])) for id, fields in entries]
