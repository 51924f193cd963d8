"""What a net is taught: which rows, how they are scaled, when it stops."""

from typing import Any

import numpy as np
import pytest
from engines_under_test import LSTM, market, needs_torch
from hypothesis import given, settings
from hypothesis import strategies as st

from atlas.engines import Dataset, LSTMEngine, TransformerEngine, predict_rows
from atlas.engines.lessons import Lessons, prepare_lessons
from atlas.errors import AtlasError, InvalidInput, NotEnoughData


def lessons_of(dataset: Dataset, **changes: Any) -> Lessons:
    usual = {
        "length": 3,
        "is_label": True,
        "validation_share": 0.2,
        "balanced": False,
        "max_windows": None,
    }
    return prepare_lessons(dataset, **{**usual, **changes})


def dataset_of(intervals: Any, **changes: Any) -> Dataset:
    n = len(intervals)
    given = {
        "X": np.arange(float(n))[:, None],
        "y": np.where(np.arange(n) % 2, 1, -1),
        "features": ("a",),
        "intervals": np.array(intervals),
        "symbols": ["S"] * n,
    }
    return Dataset(**{**given, **changes})


@settings(max_examples=100, deadline=None)
@given(
    spans=st.lists(st.integers(0, 12), min_size=20, max_size=60),
    share=st.floats(0.1, 0.5),
    seed=st.integers(0, 99),
)
def test_no_earlier_label_reaches_into_the_later_rows(
    spans: list[int], share: float, seed: int
) -> None:
    starts = np.arange(len(spans)) * 2
    intervals = np.column_stack((starts, starts + spans))
    order = np.random.default_rng(seed).permutation(len(spans))
    labels = np.where(np.arange(len(spans)) % 2, 1, -1)[order]
    dataset = dataset_of(intervals[order], y=labels)
    try:
        lessons = lessons_of(dataset, validation_share=share)
    except NotEnoughData:
        return
    first = intervals[lessons.later, 0].min()  # rows of lessons are by time
    later = {row for row in range(len(spans)) if intervals[row, 0] >= first}
    assert set(lessons.later.tolist()) == later
    assert set(lessons.earlier.tolist()) == {
        row for row in range(len(spans)) if intervals[row, 1] < first
    }


def test_numbers_are_scaled_by_the_earlier_rows_alone() -> None:
    intervals = np.column_stack([np.arange(10)] * 2)
    X = np.array([[1.0, 5.0, np.nan]] * 4 + [[3.0, 5.0, np.nan]] * 4 + [[1e9, 1e9, 1e9]] * 2)
    dataset = dataset_of(intervals, X=X, features=("varies", "constant", "null"))
    lessons = lessons_of(dataset)
    assert lessons.later.tolist() == [8, 9]
    assert lessons.fixed["mean"].tolist() == [2.0, 0.0, 0.0]
    assert lessons.fixed["scale"].tolist() == [1.0, 0.0, 0.0]


def test_values_beyond_a_32_bit_float_are_not_scaled() -> None:
    X = np.where(np.arange(10) % 3, 1e300, -1e200)[:, None]
    lessons = lessons_of(dataset_of(np.column_stack([np.arange(10)] * 2), X=X))
    assert np.isfinite([*lessons.fixed["mean"], *lessons.fixed["scale"]]).all()


def test_only_the_latest_rows_are_learned_from_where_asked() -> None:
    intervals = np.column_stack([np.arange(20)] * 2)
    lessons = lessons_of(dataset_of(intervals), max_windows=10)
    assert lessons.windows[:][:, -1, 0].tolist() == list(range(10, 20))
    # The oldest still looks back on what came before.
    assert lessons.windows[:1][0, :, 0].tolist() == [8, 9, 10]


def test_balanced_labels_weigh_alike_and_odds_come_back() -> None:
    y = np.where(np.arange(100) % 10, 1, -1)  # nine of ten up
    dataset = dataset_of(np.column_stack([np.arange(100)] * 2), y=y)
    lessons = lessons_of(dataset, balanced=True)
    up = lessons.targets[lessons.earlier] > 0
    weights = lessons.weights[lessons.earlier]
    assert weights[up].sum() == pytest.approx(weights[~up].sum(), rel=1e-6)
    assert lessons.offset == pytest.approx(np.log(9.0))
    head = {"head": np.ones((1, 1), np.float32), "head_bias": np.zeros(1, np.float32)}
    assert lessons.finish(head)["head_bias"] == pytest.approx(np.log(9.0))


def test_returns_are_learned_as_deviations_and_come_back_as_returns() -> None:
    returns = np.linspace(-0.02, 0.03, 50)
    dataset = dataset_of(np.column_stack([np.arange(50)] * 2), returns=returns)
    lessons = lessons_of(dataset, is_label=False)
    learned = lessons.targets[lessons.earlier]
    assert (learned.mean(), learned.std()) == (pytest.approx(0, abs=1e-6), pytest.approx(1))
    np.testing.assert_allclose(
        lessons.targets * lessons.factor + lessons.offset, returns, atol=1e-8
    )


def test_too_few_rows_to_part_teach_nothing() -> None:
    one_span = np.column_stack((np.arange(10), np.full(10, 100)))
    with pytest.raises(NotEnoughData, match="found 0 and 2 of 10"):
        lessons_of(dataset_of(one_span))


@pytest.mark.parametrize(
    ("build", "sizes", "message"),
    [
        (LSTMEngine, {"units": ()}, "layers to be a whole number"),
        (LSTMEngine, {"units": (8, 0)}, "units to be a whole number"),
        (TransformerEngine, {"embed": 10, "heads": 4}, "multiple of heads"),
        (TransformerEngine, {"layers": 1.5}, "layers to be a whole number"),
    ],
)
def test_impossible_nets_are_refused(build: Any, sizes: Any, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        build(**sizes).fit(market(60))


@needs_torch
def test_learning_stops_when_later_rows_are_fitted_no_better(monkeypatch: Any) -> None:
    from atlas.engines import descent

    told = iter([0.5, 0.4, 0.6, 0.45, 0.41, 0.7, 0.3])
    asked = []

    def later_loss(net: Any, weights: Any, *rest: Any) -> float:
        asked.append(weights["head"].detach().numpy().copy())
        return next(told)

    monkeypatch.setattr(descent, "_later_loss", later_loss)
    lessons = lessons_of(market(), length=3)
    net = LSTMEngine(**LSTM)._net(5)
    course = descent.Course(
        learning_rate=0.01,
        batch_size=64,
        epochs=7,
        patience=4,
        dropout=0.0,
        gradient_norm=1.0,
        seed=0,
        device="cpu",
    )
    weights = descent.descend(net, lessons, course)
    # Four epochs without gain after the second, whose weights are kept; the seventh never comes.
    assert len(asked) == 6
    np.testing.assert_array_equal(weights["head"], asked[1])


@needs_torch
def test_a_loss_that_is_no_number_is_said(monkeypatch: Any) -> None:
    from atlas.engines import descent

    monkeypatch.setattr(descent, "_later_loss", lambda *given: float("nan"))
    with pytest.raises(AtlasError, match="Expected a finite loss after an epoch; found nan"):
        LSTMEngine(**LSTM).fit(market())


@needs_torch
def test_each_step_is_that_of_the_published_algorithm() -> None:
    import torch

    from atlas.engines.descent import _Adam

    ours = torch.tensor([1.0, -2.0], requires_grad=True)
    adam = _Adam([ours], 0.1)
    x, m, v = np.array([1.0, -2.0]), np.zeros(2), np.zeros(2)
    for t in range(1, 21):
        adam.step(torch.autograd.grad((ours**4).sum(), [ours]), longest=5.0)
        g = 4 * x**3
        g = g * min(1.0, 5.0 / np.sqrt((g**2).sum()))
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
        x = x - 0.1 * (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
    np.testing.assert_allclose(ours.detach().numpy(), x, rtol=1e-4)


@needs_torch
def test_learning_leaves_torch_as_it_was() -> None:
    import torch

    torch.manual_seed(5)
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    LSTMEngine(**{**LSTM, "epochs": 1}).fit(market(120))
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.get_num_threads() == threads


@needs_torch
def test_probabilities_stay_those_of_an_uneven_market() -> None:
    random = np.random.default_rng(0)
    n = 1_500
    y = np.where(random.random(n) < 0.8, 1, -1)
    starts = np.arange(n)
    dataset = Dataset(
        random.normal(size=(n, 2)),
        y,
        features=("a", "b"),
        intervals=np.column_stack((starts, starts)),
        symbols=np.repeat("S", n),
    )
    for balanced in (True, False):
        engine = LSTMEngine(**{**LSTM, "epochs": 3, "balanced": balanced}).fit(dataset)
        assert predict_rows(engine, dataset)[:, 1].mean() == pytest.approx(0.8, abs=0.06)


@needs_torch
def test_a_gpu_learns_the_same_within_tolerance() -> None:
    import torch

    if not torch.cuda.is_available():
        pytest.skip("There is no GPU here.")
    dataset = market()
    course = {**LSTM, "epochs": 2}
    here = predict_rows(LSTMEngine(**course, device="cpu").fit(dataset), dataset)
    there = predict_rows(LSTMEngine(**course, device="cuda").fit(dataset), dataset)
    np.testing.assert_allclose(there, here, rtol=0, atol=1e-3)
