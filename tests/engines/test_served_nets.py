"""The nets as they are served: equal to a slow computation, to torch, and step by step."""

from typing import Any

import net_oracle
import numpy as np
import pytest
from engines_under_test import LSTM, TRANSFORMER, market, needs_torch
from hypothesis import given, settings
from hypothesis import strategies as st
from untrained import FEATURES, SMALL, SMALL_LSTM, SMALL_TRANSFORMER, market_windows, untrained

from atlas.engines import LSTMEngine, TransformerEngine, load_engine, predict_rows
from atlas.errors import FeatureMismatch, InvalidInput


def log_odds(probabilities: Any) -> Any:
    wide = probabilities.astype(np.float64)
    return np.log(wide) - np.log1p(-wide)


def test_the_lstm_is_that_of_a_slow_computation() -> None:
    engine, weights = untrained(LSTMEngine, **SMALL_LSTM)
    windows = market_windows(20, 7, 3)
    slow = [net_oracle.lstm(weights, (6, 4), window) for window in windows]
    np.testing.assert_allclose(log_odds(engine.score(windows)), slow, rtol=0, atol=3e-6)


def test_the_transformer_is_that_of_a_slow_computation() -> None:
    engine, weights = untrained(TransformerEngine, **SMALL_TRANSFORMER)
    windows = market_windows(20, 7, 3)
    slow = [net_oracle.transformer(weights, 2, 2, window) for window in windows]
    np.testing.assert_allclose(log_odds(engine.score(windows)), slow, rtol=0, atol=3e-6)


def test_one_cell_by_hand() -> None:
    # One feature, one cell, one row: all gates open half way, so the output is
    # 0.5 * tanh(0.5 * tanh(1)) for the input 1, and the head doubles it.
    engine = LSTMEngine(sequence=1, units=(1,), task="return")
    engine._features = ("a",)
    net = engine._net(1)
    weights = {name: np.zeros(shape, np.float32) for name, shape in net.shapes().items()}
    weights["scale"][:] = 1.0
    weights["input_0"][0, 3, 0] = 1.0  # the cell gate, last in ONNX's order
    weights["head"][:] = 2.0
    loaded = LSTMEngine.load(engine._encode(net, weights))
    score = loaded.step(np.array([[1.0]], np.float32))[0]
    np.testing.assert_allclose(score, 2 * 0.5 * np.tanh(0.5 * np.tanh(1.0)), rtol=1e-6)


@needs_torch
@pytest.mark.parametrize(
    ("build", "given"),
    [*SMALL, (LSTMEngine, {}), (TransformerEngine, {})],
    ids=["lstm", "transformer", "lstm-defaults", "transformer-defaults"],
)
def test_what_is_served_is_what_torch_computed(build: Any, given: dict[str, Any]) -> None:
    import torch

    # Wide nets with large weights are chaotic: the last bit of a float would grow by the row.
    engine, weights = untrained(build, noise=0.3 if given else 0.02, **given)
    windows = market_windows(8, engine.window, 3)
    with torch.no_grad():
        tensors = {name: torch.from_numpy(weight) for name, weight in weights.items()}
        net = engine._net(3)
        said = torch.sigmoid(net.forward(tensors, torch.from_numpy(windows), lambda x: x)).numpy()
    np.testing.assert_allclose(engine.score(windows), said, rtol=0, atol=1e-6)


@settings(max_examples=25, deadline=None)
@given(n_streams=st.integers(1, 140), which=st.sampled_from(SMALL), seed=st.integers(0, 9))
def test_steps_end_where_the_window_does(n_streams: int, which: Any, seed: int) -> None:
    build, given_ = which
    engine, _ = untrained(build, **given_)
    windows = np.random.default_rng(seed).normal(size=(n_streams, 7, 3)).astype(np.float32)
    state = None
    for t in range(7):
        scores, state = engine.step(windows[:, t], state)
    np.testing.assert_array_equal(scores, engine.score(windows))


def test_the_memory_of_an_lstm_may_be_kept_and_taken_up_elsewhere() -> None:
    engine, _ = untrained(LSTMEngine, **SMALL_LSTM)
    again = LSTMEngine.load(engine.dump())
    rows = market_windows(3, 40, 3)
    state = None
    for t in range(20):
        _, state = engine.step(rows[:, t], state)
    kept = np.frombuffer(state.tobytes(), np.float32).reshape(3, -1)
    for t in range(20, 40):
        ours, state = engine.step(rows[:, t], state)
        theirs, kept = again.step(rows[:, t], kept)
    np.testing.assert_array_equal(ours, theirs)
    np.testing.assert_array_equal(state, kept)


def test_a_longer_memory_is_that_of_a_longer_window() -> None:
    engine, weights = untrained(LSTMEngine, **SMALL_LSTM)
    longer = LSTMEngine(**{**SMALL_LSTM, "sequence": 40})
    longer._features = FEATURES
    longer = LSTMEngine.load(longer._encode(longer._net(3), weights))
    rows = market_windows(3, 40, 3)
    state = None
    for t in range(40):
        scores, state = engine.step(rows[:, t], state)
    np.testing.assert_array_equal(scores, longer.score(rows))


@pytest.mark.parametrize(("build", "given_"), SMALL)
def test_a_state_of_another_form_is_refused(build: Any, given_: Any) -> None:
    engine, _ = untrained(build, **given_)
    rows = np.zeros((2, 3), np.float32)
    with pytest.raises(InvalidInput, match="a state of shape"):
        engine.step(rows, np.zeros((2, 5), np.float32))
    with pytest.raises(FeatureMismatch):
        engine.step(np.zeros((2, 4), np.float32))


@pytest.mark.parametrize(("build", "given_"), SMALL)
def test_the_number_of_threads_changes_no_score(build: Any, given_: Any) -> None:
    engine, _ = untrained(build, **given_)
    windows = market_windows(200, 7, 3)
    two = build.load(engine.dump(), n_threads=2)
    np.testing.assert_array_equal(two.score(windows), engine.score(windows))


@needs_torch
@pytest.mark.parametrize("name", ["xgboost", "lstm", "transformer"])
def test_a_regressor_tells_the_return(name: str) -> None:
    from atlas.engines import engine_class

    quick = {
        "xgboost": {"n_rounds": 40, "max_depth": 3, "learning_rate": 0.1},
        "lstm": LSTM,
        "transformer": TRANSFORMER,
    }[name]
    dataset, unseen = market(), market(seed=1)
    engine = engine_class(name)(**quick, task="return").fit(dataset)
    said = predict_rows(engine, unseen)
    assert said.shape == (len(unseen), 1)
    error, spread = ((said[:, 0] - unseen.returns) ** 2).mean(), unseen.returns.var()
    assert error < 0.95 * spread
    again = load_engine(name, engine.dump(), task="return")
    np.testing.assert_array_equal(predict_rows(again, unseen), said)
    # Whoever asks for a direction must not take a return for a probability.
    with pytest.raises(InvalidInput, match="tells the direction; found one that tells the return"):
        load_engine(name, engine.dump())
    with pytest.raises(InvalidInput, match="return of every label"):
        engine.fit(market_without_returns())


def market_without_returns() -> Any:
    from atlas.engines import Dataset

    full = market(60)
    return Dataset(
        full.X, full.y, features=full.features, intervals=full.intervals, symbols=full.symbols
    )


@pytest.mark.parametrize("name", ["xgboost", "lstm", "transformer"])
def test_an_unknown_task_is_refused(name: str) -> None:
    from atlas.engines import engine_class

    with pytest.raises(InvalidInput, match="direction or return; found 'odds'"):
        engine_class(name)(task="odds").fit(market(60))
