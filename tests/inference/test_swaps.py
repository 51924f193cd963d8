"""Versions are swapped between two batches, or not at all."""

import threading
import time

import numpy as np
import pytest
from serving_desk import MINUTE_US, MODEL, PLAN, eventually, last_minute, trained

from atlas.bus import read_acks
from atlas.decision import sides
from atlas.serving import Route, Stage, route_key

SYMBOLS = [f"S{i}" for i in range(8)]


@pytest.fixture
def ack(desk):
    """What the only worker says it serves."""

    def read():
        acks = read_acks(desk.redis, MODEL)
        return next(iter(acks.values())) if acks else None

    return read


def test_no_signal_mixes_two_versions_while_they_are_swapped_under_load(desk, worker, ack):
    desk.permit()
    desk.deploy(1, live=2, shadow=1)
    eventually(worker.leads)
    rows, first_us = {}, last_minute() - MINUTE_US
    enough = threading.Event()

    def feed():
        tick = 0
        while not enough.is_set():
            values = desk.rows(len(SYMBOLS), seed=tick)
            rows.update({(s, first_us + tick): v for s, v in zip(SYMBOLS, values, strict=True)})
            desk.feed(SYMBOLS, first_us + tick, values)
            tick += 1
            time.sleep(0.002)

    feeder = threading.Thread(target=feed)
    feeder.start()
    try:
        for generation in range(2, 8):
            live = 1 + generation % 2
            desk.deploy(generation, live=live, shadow=3 - live)
            eventually(lambda g=generation: ack().generation == g)
            # Each version speaks before the next one comes.
            eventually(lambda g=generation: desk.signals()[-1].generation == g)
    finally:
        enough.set()
        feeder.join()
    eventually(lambda: desk.unfinished() == 0)
    # Whose score it is, as the training would have computed it of exactly that row.
    scores = {
        (version, *at): score
        for version in (1, 2)
        for at, score in zip(
            rows,
            trained(version).engine.score(np.array(list(rows.values()), dtype=np.float32)),
            strict=True,
        )
    }
    for stage in (Stage.LIVE, Stage.SHADOW):
        said = desk.signals(stage)
        assert {(s.symbol, s.event_us) for s in said} == rows.keys()
        torn = [
            s
            for s in said
            if s.version != (1 + s.generation % 2 if stage is Stage.LIVE else 2 - s.generation % 2)
            or s.score != scores[s.version, s.symbol, s.event_us]
            or s.side != sides(s.score, 0.05)
        ]
        assert torn == []
        assert {s.generation for s in said} == set(range(1, 8))


def test_a_bad_candidate_is_refused_and_the_old_version_stays(desk, worker, ack):
    desk.permit()
    desk.deploy(1, live=1)
    eventually(worker.leads)
    desk.route(2, desk.manifest(2, Stage.LIVE, golden_scores=(0.5,) * 4))
    refusal = eventually(lambda: ack().error)
    assert "golden rows" in refusal
    assert (ack().generation, ack().versions) == (2, {"live": 1})
    assert worker.state()["refused"] == {MODEL: {"live": refusal}}
    assert worker.metric("refusals_total") == 1
    desk.feed_now(["A"])
    eventually(desk.signals)
    assert [(s.version, s.generation) for s in desk.signals()] == [(1, 1)]


def test_a_bad_shadow_does_not_keep_the_live_version_from_changing(desk, worker, ack):
    desk.deploy(1, live=1, shadow=2)
    eventually(worker.leads)
    bad = desk.manifest(4, Stage.SHADOW, blob="0" * 64)
    desk.route(2, desk.manifest(3, Stage.LIVE), bad)
    eventually(lambda: ack().error)
    assert ack().versions == {"live": 3, "shadow": 2}


def test_a_candidate_whose_blob_arrives_late_is_taken_then(desk, worker, ack, monkeypatch):
    monkeypatch.setattr("atlas.inference.route_follower._TRY_AGAIN_S", 0.1)
    manifest = desk.manifest(1, Stage.LIVE)
    path = desk.blobs.home.folder / manifest.blob[:2] / manifest.blob
    data = path.read_bytes()
    path.unlink()
    desk.route(1, manifest)
    eventually(lambda: ack() and ack().error)
    assert worker.state()["models"] == []
    desk.blobs.put(data)
    eventually(lambda: ack().error is None)
    assert ack().versions == {"live": 1}


def test_a_rejected_version_in_the_live_place_is_refused(desk, worker, ack):
    rejected = desk.manifest(1, Stage.REJECTED)
    desk.redis.sadd("atlas:routes", MODEL)
    desk.redis.set(route_key(MODEL), Route(MODEL, 1, live=rejected).to_json())
    eventually(lambda: ack() and ack().error)
    assert worker.state()["models"] == []


def test_a_rollback_needs_no_fetch(desk, worker, ack):
    desk.deploy(1, live=1)
    eventually(lambda: ack() and ack().versions == {"live": 1})
    manifest = desk.manifest(1, Stage.LIVE)
    desk.deploy(2, live=2)
    eventually(lambda: ack().versions == {"live": 2})
    (desk.blobs.home.folder / manifest.blob[:2] / manifest.blob).unlink()
    desk.route(3, manifest)
    eventually(lambda: ack().generation == 3)
    assert (ack().versions, ack().error) == ({"live": 1}, None)


def test_a_retired_model_is_served_no_longer(desk, worker, ack):
    desk.permit()
    desk.deploy(1, live=1)
    eventually(worker.leads)
    desk.route(2)
    eventually(lambda: ack().generation == 2)
    desk.feed_now(["A"])
    eventually(lambda: desk.unfinished() == 0)
    assert (worker.state()["models"], desk.signals()) == ([], [])


def test_a_route_that_vanishes_leaves_what_is_served(desk, worker, ack):
    desk.permit()
    desk.deploy(1, live=1)
    eventually(worker.leads)
    desk.redis.delete(route_key(MODEL))
    before = ack().age
    eventually(lambda: ack().age < before)  # it has looked again
    desk.feed_now(["A"])
    eventually(desk.signals)
    assert worker.serving() == {"live": 1}


def test_the_acknowledgement_tells_how_each_version_fares(desk, worker, ack):
    desk.permit()
    desk.deploy(1, live=1, shadow=2)
    eventually(worker.leads)
    desk.feed_now(["A", "B", "C"])
    eventually(lambda: ack().served[2].rows == 3)
    served = ack().served
    assert (served[1].rows, served[1].errors, served[2].errors) == (3, 0, 0)
    assert served[1].latency_p99_us > 0
    assert PLAN.view in worker.state()["views"]
