"""The worker's face: strict questions, one clear sentence for each refusal."""

import numpy as np
import pytest
from serving_desk import HASH, MODEL, PLAN, eventually, last_minute, running, trained

from atlas.clock import from_micros
from atlas.decision import sides
from atlas.serving import Stage


@pytest.fixture
def answering(desk, worker):
    """A worker that serves version 1 live and 2 as its shadow."""
    desk.deploy(1, live=1, shadow=2)
    eventually(lambda: len(worker.serving()) == 2)
    return worker


def test_an_answer_is_what_a_signal_would_say(desk, answering):
    rows, event_us = desk.rows(2), last_minute()
    desk.feed(["A", "B"], event_us, rows, notify=False)
    answer = answering.predict("B", "A").json()
    assert answer.pop("latency_us") > 0
    expected = [("B", trained(1).score(rows[1])), ("A", trained(1).score(rows[0]))]
    when = from_micros(event_us)
    assert answer == {
        "model": MODEL,
        "version": 1,
        "stage": "live",
        "generation": 1,
        "feature_hash": HASH,
        "predictions": [
            {
                "symbol": symbol,
                "event_time": when.isoformat(timespec="microseconds"),
                "score": score,
                "side": int(sides(score, 0.05)),
                "decides": when.minute % 30 == 0,
            }
            for symbol, score in expected
        ],
    }


def test_an_answer_is_neither_published_nor_recorded(desk, answering):
    desk.permit()
    desk.feed(["A"], last_minute(), desk.rows(1), notify=False)
    assert answering.predict("A").status_code == 200
    assert (desk.signals(), desk.recorded()) == ([], [])


def test_another_stage_answers_when_it_is_asked_for(desk, answering):
    desk.feed(["A"], last_minute(), desk.rows(1), notify=False)
    answers = {
        stage: answering.predict("A", stage=stage).status_code for stage in ("shadow", "rejected")
    }
    assert answers == {"shadow": 200, "rejected": 503}
    assert answering.predict("A", stage="shadow").json()["version"] == 2


REFUSALS = [
    ({"model": MODEL, "symbols": ["NOBODY"]}, 404, "row of NOBODY"),
    ({"model": MODEL, "symbols": ["FRESH", "NOBODY"]}, 404, "row of NOBODY"),
    ({"model": MODEL, "symbols": ["OLD"]}, 409, "is stale"),
    ({"model": MODEL, "symbols": ["COLD"]}, 422, "is not warm"),
    ({"model": MODEL, "symbols": ["WILD"]}, 422, "is not finite"),
    ({"model": MODEL, "symbols": ["ODD"]}, 422, "row of ODD"),
    ({"model": "nothing_1m", "symbols": ["FRESH"]}, 503, "'nothing_1m'"),
    ({"model": MODEL, "symbols": ["FRESH"] * 1_001}, 413, "1001"),
    ({"model": MODEL, "symbols": ["X" * 32] * 3_000}, 413, "bytes"),
    ({"model": MODEL, "symbols": []}, 422, "symbols"),
    ({"model": MODEL, "symbols": "FRESH"}, 422, "symbols"),
    ({"model": MODEL, "symbols": [1]}, 422, "symbols.0"),
    ({"model": MODEL, "symbols": ["fresh"]}, 422, "symbols.0"),
    ({"model": 7, "symbols": ["FRESH"]}, 422, "model"),
    ({"model": MODEL, "symbols": ["FRESH"], "stage": "retired"}, 422, "stage"),
    ({"model": MODEL, "symbols": ["FRESH"], "now": True}, 422, "now"),
    ({"symbols": ["FRESH"]}, 422, "model"),
    ([], 422, "the body"),
]


def test_a_question_without_an_answer_is_refused_in_one_sentence(desk, answering):
    rows = desk.rows(4)
    rows[1, :4] = np.nan
    rows[2, 0] = np.inf
    desk.feed(["FRESH", "COLD", "WILD"], last_minute(), rows[:3], notify=False)
    desk.feed(["OLD"], last_minute() - 2 * PLAN.ttl_us, rows[3:], notify=False)
    desk.spoil("ODD")
    found = []
    for question, _, says in REFUSALS:
        reply = answering.http.post("/predict", json=question)
        sentence = reply.json()["error"]
        found.append((question, reply.status_code, says if says in sentence else sentence))
    assert found == REFUSALS


def test_a_model_is_not_asked_about_symbols_that_it_was_not_judged_on(desk, worker):
    desk.route(1, desk.manifest(1, Stage.LIVE, symbols=("A",)))
    eventually(worker.serving)
    desk.feed(["A", "B"], last_minute(), desk.rows(2), notify=False)
    assert worker.predict("A").status_code == 200
    reply = worker.predict("A", "B")
    assert reply.status_code == 404
    assert " B" in reply.json()["error"]


def test_a_question_that_is_no_json_is_refused(answering):
    assert answering.http.post("/predict", content=b"{").status_code == 422


def test_a_worker_without_a_route_is_ready_and_serves_nothing(worker):
    eventually(worker.ready)
    state = worker.state()
    assert (state["models"], state["views"], state["waiting_for"]) == ([], {}, [])
    assert worker.predict("A").status_code == 503


def test_ready_names_what_is_served_and_whether_trade_is_halted(desk, answering):
    eventually(answering.ready)
    state = answering.state()
    assert state["halted"]
    assert [(m["model"], m["version"], m["stage"]) for m in state["models"]] == [
        (MODEL, 1, "live"),
        (MODEL, 2, "shadow"),
    ]
    assert state["views"] == {PLAN.view: "leading"}
    desk.permit()
    assert not answering.state()["halted"]


def test_a_worker_without_redis_lives_is_not_ready_and_says_why(settings, unused_redis):
    with running(settings.model_copy(update={"redis_port": unused_redis})) as worker:
        eventually(lambda: worker.http.get("/health").status_code == 200)
        reply = worker.http.get("/ready")
        assert reply.status_code == 503
        assert str(unused_redis) in reply.json()["waiting_for"][0]
        assert reply.json()["halted"]
        assert worker.metric("halted") == 1


def test_metrics_are_prometheuss(answering):
    reply = answering.http.get("/metrics")
    names = {line.split()[2] for line in reply.text.splitlines() if line.startswith("# TYPE")}
    assert reply.headers["content-type"].startswith("text/plain")
    assert names >= {
        "predictions_total",
        "prediction_latency_seconds",
        "event_loop_lag_seconds",
        "unusable_total",
        "halted",
        "outbox_depth",
        "errors_total",
        "swaps_total",
        "stream_lag_seconds",
    }
