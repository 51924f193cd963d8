"""A model keeps to the symbols that it was trained and judged on."""

from dataclasses import replace

from serving_desk import MODEL, eventually

from atlas.serving import Stage


def test_a_model_is_silent_about_symbols_it_was_not_trained_on(desk, worker):
    desk.permit()
    own = replace(desk.manifest(1, Stage.LIVE), symbols=("A", "C"))
    desk.route(1, own, replace(desk.manifest(2, Stage.SHADOW), symbols=()))
    eventually(worker.leads)
    desk.feed_now(["A", "B", "C"])
    eventually(lambda: len(desk.signals(Stage.SHADOW)) == 3)
    assert [signal.symbol for signal in desk.signals()] == ["A", "C"]


def test_a_question_about_another_symbol_is_refused_in_one_sentence(desk, worker):
    desk.route(1, replace(desk.manifest(1, Stage.LIVE), symbols=("A",)))
    eventually(worker.leads)
    desk.feed_now(["A", "B"])
    answer = worker.http.post("/predict", json={"model": MODEL, "symbols": ["B"]})
    assert answer.status_code == 404
    assert answer.json()["error"] == f"{MODEL}/1 was trained on A; it says nothing of B."
