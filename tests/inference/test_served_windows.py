"""Models that look back are served the very windows that the offline rows give."""

import functools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from serving_desk import (
    MINUTE_US,
    MODEL,
    PLAN,
    eventually,
    last_minute,
    running,
    trained,
)
from untrained import SMALL_LSTM, SMALL_TRANSFORMER, untrained

from atlas.engines import Dataset, EnsembleEngine, JumpEngine, LSTMEngine, TransformerEngine
from atlas.engines.blending import Blend
from atlas.engines.windows import History as OfflineHistory
from atlas.engines.windows import Windows
from atlas.errors import DeploymentRefused
from atlas.inference.candidate import make_ready
from atlas.inference.row_feed import Row
from atlas.inference.vector_reader import ReadHistories
from atlas.inference.vectors import Unusable
from atlas.inference.window_reader import choose_windows
from atlas.online import History, SequenceWriter, Status
from atlas.online.wire import entity_key, history_key, key_prefix
from atlas.registry import DeploymentLog
from atlas.registry.stages import Action
from atlas.serving import Stage

WINDOW = 7
DEPTH = 12
DEEP = replace(PLAN, depth=DEPTH)
N = len(PLAN.features)
SYMBOLS = ("A", "B", "C")


def lstm():
    return untrained(LSTMEngine, features=PLAN.features, **SMALL_LSTM)[0]


def transformer():
    return untrained(TransformerEngine, features=PLAN.features, **SMALL_TRANSFORMER)[0]


def ensemble():
    members = (
        ("xgboost", {"n_rounds": 20, "max_depth": 3}),
        ("lstm", SMALL_LSTM),
    )
    engine = EnsembleEngine(members=members)
    engine.members_ = (trained(1).engine, lstm())
    engine.blend_ = Blend((0.7, 0.4), 0.1)
    return engine


def jump():
    rng = np.random.default_rng(3)
    calm = np.repeat(rng.random(40) < 0.5, 20)
    X = rng.normal(size=(800, N)) + np.where(calm, -1.5, 1.5)[:, None]
    y = np.where(rng.random(800) < np.where(calm, 0.7, 0.3), 1, -1)
    dataset = Dataset(
        X,
        y,
        features=PLAN.features,
        intervals=np.column_stack([np.arange(800), np.arange(800) + 1]),
        symbols=["BTC_USDT"] * 800,
        returns=y * 0.01,
    )
    return JumpEngine(sequence=WINDOW, penalty=1.0, n_starts=2).fit(dataset)


ENGINES = {"lstm": lstm, "transformer": transformer, "ensemble": ensemble, "jump": jump}


@functools.cache
def engine_of(name):
    return ENGINES[name]()


def manifest(desk, name, *, version=9, stage=Stage.LIVE, **changes):
    engine = engine_of(name)
    golden = np.random.default_rng(0).normal(size=(2, WINDOW, N)).astype(np.float32)
    golden[0, :3] = np.nan
    return replace(
        desk.manifest(1, stage),
        **{
            "version": version,
            "engine": name,
            "blob": desk.blobs.put(engine.dump()),
            "plan": DEEP,
            "window": WINDOW,
            "golden_rows": tuple(
                tuple(None if np.isnan(v) else float(v) for v in window.ravel())
                for window in golden
            ),
            "golden_scores": tuple(map(float, engine.score(golden))),
            **changes,
        },
    )


def market(n_rows, seed=5):
    """Return rows by time and symbol, (n_rows, n_symbols, n_features), a tenth of them null."""
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(n_rows, len(SYMBOLS), N))
    rows[rng.random(rows.shape) < 0.1] = np.nan
    rows[2, 1] = np.nan
    return rows


def keep(desk, event_us, rows):
    times = [event_us] * len(SYMBOLS)
    SequenceWriter(desk.redis, DEEP).write(SYMBOLS, times, times, rows)


def feed(desk, rows, first_us, **how):
    """Store and tell of rows minute by minute, the sequences before the newest rows."""
    for i, now in enumerate(rows):
        keep(desk, first_us + i * MINUTE_US, now)
        desk.feed(SYMBOLS, first_us + i * MINUTE_US, now, **how)


def in_time(signals):
    """Put signals in the order of their rows; only a symbol's own are said in order."""
    return sorted(signals, key=lambda s: (s.event_us, s.symbol))


def offline_scores(name, rows):
    """Return the score of each row by symbol and minute, of windows cut from the offline rows."""
    n_rows, n_symbols, _ = rows.shape
    history = OfflineHistory(
        rows.reshape(-1, N),
        symbols=np.tile(SYMBOLS, n_rows),
        times=np.repeat(np.arange(n_rows), n_symbols),
    )
    windows = Windows(history, np.arange(n_rows * n_symbols), WINDOW)
    return engine_of(name).score(windows[:]).reshape(n_rows, n_symbols)


@pytest.mark.parametrize("name", ENGINES)
def test_what_is_scored_live_is_what_the_offline_windows_score(desk, worker, name):
    desk.permit()
    desk.route(1, manifest(desk, name))
    eventually(worker.leads)
    rows, first_us = market(10), last_minute()
    feed(desk, rows, first_us)
    whole = WINDOW - 1  # rows before the first whole window
    warm = len(SYMBOLS) * (len(rows) - whole)
    eventually(lambda: desk.n_signals() == warm)
    eventually(lambda: desk.unfinished() == 0)
    scores = offline_scores(name, rows)
    assert [(s.event_us, s.symbol, s.score) for s in in_time(desk.signals())] == [
        (first_us + i * MINUTE_US, symbol, float(scores[i, at]))
        for i in range(whole, len(rows))
        for at, symbol in enumerate(SYMBOLS)
    ]
    counted = {r: worker.metric(f'unusable_total{{reason="{r}"}}') for r in Unusable}
    found = {reason: n for reason, n in counted.items() if n}
    # A worker that comes to a row late cannot tell whether there were rows before the first kept.
    assert found.keys() <= {Unusable.SHORT_HISTORY, Unusable.SUPERSEDED}
    assert sum(found.values()) == whole * len(SYMBOLS)


def test_a_worker_that_was_away_serves_the_windows_of_then(desk, settings):
    desk.permit()
    desk.route(1, manifest(desk, "lstm"))
    with running(settings) as worker:
        eventually(worker.leads)
    rows, first_us = market(15), last_minute()
    feed(desk, rows, first_us)
    with running(settings) as worker:
        # Twelve rows are kept: the windows that end with the last six of them are whole.
        eventually(lambda: desk.n_signals() == 6 * len(SYMBOLS))
        eventually(lambda: desk.unfinished() == 0)
        assert worker.metric('unusable_total{reason="superseded"}') == 9 * len(SYMBOLS)
    scores = offline_scores("lstm", rows)
    assert [(s.event_us, s.symbol, s.score) for s in in_time(desk.signals())] == [
        (first_us + i * MINUTE_US, symbol, float(scores[i, at]))
        for i in range(9, 15)
        for at, symbol in enumerate(SYMBOLS)
    ]


def test_models_of_one_row_and_of_windows_are_served_side_by_side(desk, worker):
    desk.permit()
    desk.route(1, desk.manifest(1, Stage.LIVE), manifest(desk, "lstm", stage=Stage.SHADOW))
    eventually(worker.leads)
    rows = market(WINDOW)
    feed(desk, rows, last_minute())
    eventually(lambda: len(desk.signals(Stage.SHADOW)) == len(SYMBOLS))
    eventually(lambda: desk.unfinished() == 0)
    scores = offline_scores("lstm", rows)[-1]
    assert [s.score for s in in_time(desk.signals(Stage.SHADOW))] == [
        float(score) for score in scores
    ]
    assert [s.score for s in in_time(desk.signals())[-3:]] == [
        trained(1).score(row) for row in rows[-1]
    ]


def test_a_symbol_whose_sequence_is_none_costs_only_that_symbol(desk, worker):
    desk.permit()
    desk.route(1, manifest(desk, "lstm"))
    eventually(worker.leads)
    rows, first_us = market(WINDOW, seed=6), last_minute()
    for i, now in enumerate(rows):
        keep(desk, first_us + i * MINUTE_US, now)
    entity = entity_key(key_prefix(PLAN.join_keys), "B", PLAN.project)
    desk.redis.append(history_key(PLAN.view, entity), "odd")
    desk.feed(SYMBOLS, first_us + (WINDOW - 1) * MINUTE_US, rows[-1])
    eventually(lambda: desk.unfinished() == 0)
    eventually(lambda: desk.n_signals() == 2)
    assert [s.symbol for s in desk.signals()] == ["A", "C"]
    assert worker.metric('unusable_total{reason="unreadable"}') == 1


@pytest.mark.parametrize("name", ENGINES)
def test_a_question_is_answered_of_the_newest_window(desk, worker, name):
    desk.route(1, manifest(desk, name))
    eventually(worker.serving)
    rows, first_us = market(WINDOW), last_minute() - (WINDOW - 1) * MINUTE_US
    for i, now in enumerate(rows):
        keep(desk, first_us + i * MINUTE_US, now)
    reply = worker.predict("C", "A").json()
    scores = offline_scores(name, rows)[-1]
    assert [(p["symbol"], p["score"]) for p in reply["predictions"]] == [
        ("C", float(scores[2])),
        ("A", float(scores[0])),
    ]


def test_a_question_without_a_window_is_refused(desk, worker):
    desk.route(1, manifest(desk, "lstm"))
    eventually(worker.serving)
    rows, event_us = market(WINDOW), last_minute()
    writer = SequenceWriter(desk.redis, DEEP)

    def write(symbol, last_us, values):
        times = [last_us + i for i in range(1 - len(values), 1)]
        writer.write([symbol] * len(values), times, times, values)

    write("YOUNG", event_us, rows[:2, 0])
    write("OLD", event_us - 2 * PLAN.ttl_us, rows[:, 0])
    cold, wild = rows[:, 2].copy(), rows[:, 2].copy()
    cold[-1, :4], wild[0, 0] = np.nan, np.inf
    write("COLD", event_us, cold)
    write("WILD", event_us, wild)
    cases = {
        "YOUNG": (422, "one of too few"),
        "OLD": (409, "is stale"),
        "COLD": (422, "is not warm"),
        "WILD": (422, "is not finite"),
        "NOBODY": (404, "row of NOBODY"),
    }
    found = {}
    for symbol, (_, says) in cases.items():
        reply = worker.predict(symbol)
        sentence = reply.json()["error"]
        found[symbol] = (reply.status_code, says if says in sentence else sentence)
    assert found == cases


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"plan": replace(PLAN, depth=WINDOW - 1)}, "keep the 7 last rows .* it keeps 6"),
        ({"window": WINDOW + 1}, "golden rows of 48 values"),
        (
            {
                "window": 1,
                "golden_rows": ((0.0,) * N,),
                "golden_scores": (0.5,),
            },
            "look at 1 rows, .* looks at 7",
        ),
        ({"golden_scores": (0.5, 0.5)}, "difference of"),
    ],
)
def test_a_model_whose_windows_do_not_fit_is_refused(desk, changes, says):
    with pytest.raises(DeploymentRefused, match=says):
        make_ready(manifest(desk, "lstm", **changes), desk.blobs)


def test_a_version_whose_view_keeps_too_few_rows_is_never_routed(desk, tmp_path):
    log = DeploymentLog(f"sqlite:///{tmp_path / 'log.db'}")
    short = manifest(desk, "lstm", plan=PLAN)
    log.register(short, passed=True, report="", who="test", why="")
    with pytest.raises(DeploymentRefused, match=r"keep the 7 last rows .* it keeps 0"):
        log.move(MODEL, Action.STAGE, short.version, who="test", why="")


KEPT = st.lists(st.sets(st.integers(1, 9)), min_size=1, max_size=3)
TOLD = st.lists(st.tuples(st.integers(0, 3), st.integers(1, 9)), max_size=8)


def slow_window(kept, told_us, window, n_read):
    """Return the events of a window, or why there is none, one row at a time."""
    read = sorted(kept)[-n_read:]
    if not any(event >= told_us for event in read):
        return Unusable.MISSING
    if told_us not in read:
        return Unusable.SUPERSEDED
    before = [event for event in read if event <= told_us]
    if len(before) < window:
        return Unusable.SUPERSEDED if len(read) == n_read else Unusable.SHORT_HISTORY
    return before[-window:]


@settings(max_examples=150, deadline=None)
@given(kept=KEPT, told=TOLD, window=st.integers(2, 4), more=st.integers(0, 3))
def test_windows_are_those_found_one_row_at_a_time(kept, told, window, more):
    n_read = window + more
    values = np.full((len(kept), n_read, N), np.nan)
    events = np.zeros((len(kept), n_read), np.int64)
    for at, symbol in enumerate(kept):
        last = sorted(symbol)[-n_read:]
        if last:
            events[at, -len(last) :] = last
            values[at, -len(last) :] = np.array(last)[:, None] + 100.0 * at
    n_rows = np.array([min(len(symbol), n_read) for symbol in kept])
    status = np.where(n_rows > 0, np.uint8(Status.PRESENT), np.uint8(Status.MISSING))
    read = ReadHistories(
        History(values, events, n_rows, status, events), {str(at): at for at in range(len(kept))}
    )
    rows = [Row(str(at), event_us) for at, event_us in told]
    chosen = choose_windows(rows, read, window, DEEP, now_us=10)
    expected = [
        Unusable.UNREADABLE if at >= len(kept) else slow_window(kept[at], event, window, n_read)
        for at, event in told
    ]
    assert list(chosen.rows) == [
        row for row, found in zip(rows, expected, strict=True) if isinstance(found, list)
    ]
    assert chosen.values[:, :, 0].tolist() == [
        [event + 100.0 * at for event in found]
        for (at, _), found in zip(told, expected, strict=True)
        if isinstance(found, list)
    ]
    counted = [found for found in expected if isinstance(found, Unusable)]
    assert dict(chosen.unusable) == {reason: counted.count(reason) for reason in counted}


def test_a_window_is_as_old_as_the_row_that_it_ends_with():
    kept = np.arange(1, 6)[None]
    history = History(
        np.ones((1, 5, N)), kept, np.array([5]), np.array([Status.PRESENT], np.uint8), kept
    )
    read, plan = ReadHistories(history, {"A": 0}), replace(DEEP, ttl_us=10)
    rows = [Row("A", 4), Row("A", 5)]
    found = [choose_windows(rows, read, 2, plan, now_us=now) for now in (14, 15, 16)]
    assert [[row.event_us for row in chosen.rows] for chosen in found] == [[4, 5], [5], []]
    assert [dict(chosen.unusable) for chosen in found] == [
        {},
        {Unusable.STALE: 1},
        {Unusable.STALE: 2},
    ]
