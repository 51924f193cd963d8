"""The stream of a jump model: one row at a time, for ever, through restarts."""

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atlas.engines import JumpModel
from atlas.engines.jump_paths import follow
from atlas.errors import ArtifactCorrupt, FeatureMismatch, InvalidInput


def walk(n_rows: int, *, seed: int = 0) -> Any:
    random = np.random.default_rng(seed)
    X = random.normal(size=(n_rows, 3)) + np.repeat(random.normal(size=(n_rows // 10, 3)), 10, 0)
    X[random.random(X.shape) < 0.1] = np.nan
    return X


@pytest.fixture(scope="module")
def model() -> JumpModel:
    return JumpModel(3, 3.0, n_starts=5).fit(walk(400))


@pytest.mark.parametrize("warm", [True, False])
def test_row_by_row_gives_the_states_of_the_whole(model: JumpModel, warm: bool) -> None:
    X, stream = walk(500, seed=1), model.stream(warm=warm)
    assert [stream.update(row) for row in X] == model.filter(X, warm=warm).tolist()


@settings(max_examples=25, deadline=None)
@given(cuts=st.lists(st.integers(0, 100), max_size=4), warm=st.booleans())
def test_restarts_change_nothing(model: JumpModel, cuts: list[int], warm: bool) -> None:
    X, stream, found = walk(100, seed=2), model.stream(warm=warm), []
    other = JumpModel.load(model.dump())
    for t, row in enumerate(X):
        for _ in range(cuts.count(t)):
            stream = other.resume(stream.snapshot())
        found.append(stream.update(row))
    assert found == model.filter(X, warm=warm).tolist()


def test_a_stream_does_not_move_its_model(model: JumpModel) -> None:
    before, stream = model.stream().snapshot(), model.stream()
    for row in walk(50, seed=3):
        stream.update(row)
    stream.values[:] = 7.0
    assert model.stream().snapshot() == before
    assert stream.values.min() == 0.0


def test_what_it_remembers_stays_small_and_exact_over_ten_million_rows(model: JumpModel) -> None:
    X, out = walk(10_000, seed=4), np.empty(10_000, np.int32)
    X.flags.writeable = False
    values, state = np.zeros(3), -1
    after = []
    for _ in range(1_000):
        assert follow(X, model.centroids_, 3.0, values, state, out) == len(X)
        state = int(out[-1])
        after.append((values.tolist(), state))
    # Every pass over the same rows ends in the same bits: the past is forgotten, not accumulated.
    assert after == [after[0]] * 1_000
    assert values.max() < 100.0


def test_the_values_are_those_of_sums_that_never_round(model: JumpModel) -> None:
    # Quarters and integer arithmetic: the naive recursion without re-basing, in exact numbers.
    random = np.random.default_rng(6)
    quarters = random.integers(-12, 13, size=(20_000, 2)) + np.repeat(
        random.integers(-12, 13, size=(200, 2)), 100, axis=0
    )
    train = np.repeat([[-2.0, 1.0], [2.0, -1.0], [3.0, 3.0]], [30, 20, 10], axis=0)
    exact = JumpModel(3, 5.0).fit(train)
    centroids = (exact.centroids_ * 4).astype(int).tolist()
    total, expected = [0, 0, 0], []
    for t, row in enumerate(quarters.tolist()):
        losses = [sum((x - m) ** 2 for x, m in zip(row, c, strict=True)) for c in centroids]
        into = [v if t == 0 else min(v, min(total) + 5 * 32) for v in total]
        total = [v + each for v, each in zip(into, losses, strict=True)]
        expected.append(total.index(min(total)))
    stream = exact.stream(warm=False)
    assert [stream.update(row) for row in quarters / 4] == expected
    assert stream.values.tolist() == [(v - min(total)) / 32 for v in total]


def test_a_huge_row_is_soon_forgotten(model: JumpModel) -> None:
    X = walk(200, seed=5)
    struck = model.stream()
    struck.update([1e12, -1e12, 1e12])
    calm = model.stream()
    for row in X:
        struck.update(row), calm.update(row)
    assert struck.snapshot() == calm.snapshot()


def test_a_row_of_nulls_changes_nothing(model: JumpModel) -> None:
    stream = model.stream(warm=False)
    assert stream.update([np.nan] * 3) == stream.state == -1
    stream.update([0.0, 1.0, np.nan])
    before = stream.snapshot()
    assert stream.update([np.nan] * 3) == stream.state
    assert stream.snapshot() == before


@pytest.mark.parametrize("bad", [np.inf, -np.inf, 1e200])
def test_a_refused_row_changes_nothing(model: JumpModel, bad: float) -> None:
    stream = model.stream()
    before = stream.snapshot()
    with pytest.raises(InvalidInput, match="finite"):
        stream.update([0.0, bad, np.nan])
    for row in ([0.0, 1.0], [0.0] * 4, [[0.0] * 3], 0.0):
        with pytest.raises(FeatureMismatch, match="3 features"):
            stream.update(row)
    assert stream.snapshot() == before


def test_rows_of_any_layout_and_kind_are_read(model: JumpModel) -> None:
    table = np.asfortranarray(walk(20, seed=7))
    table.flags.writeable = False
    states = model.filter(table).tolist()
    for rows in (table, table.astype(np.float64).tolist(), [tuple(row) for row in table]):
        stream = model.stream()
        assert [stream.update(row) for row in rows] == states


def test_a_state_without_rows_is_never_entered() -> None:
    model = JumpModel(2, 100.0).fit([[0.0], [1.0], [0.0], [1.0]])
    stream = model.resume(model.stream().snapshot())
    assert [stream.update([x]) for x in (5.0, np.nan, -50.0, 0.0)] == [0] * 4
    assert stream.values.tolist() == [0.0, np.inf]


def test_a_snapshot_of_another_model_is_refused(model: JumpModel) -> None:
    snapshot = model.stream().snapshot()
    others = (
        JumpModel(3, 3.0, n_starts=5).fit(walk(400, seed=9)),
        JumpModel(3, 3.5, n_starts=5).fit(walk(400)),
        JumpModel(2, 3.0, n_starts=5).fit(walk(400)),
    )
    for other in others:
        with pytest.raises(InvalidInput, match="Start from the training end"):
            other.resume(snapshot)


@pytest.mark.parametrize(
    "damage",
    [
        lambda s: b"",
        lambda s: b"{}",
        lambda s: b"[]",
        lambda s: b"\x80\x04\x95",
        lambda s: s[:-1],
        lambda s: _with(s, format="atlas-jump-filter/2"),
        lambda s: _with(s, model=3),
        lambda s: _with(s, state=3),
        lambda s: _with(s, state=-2),
        lambda s: _with(s, state=True),
        lambda s: _with(s, values=[0.0, 1.0]),
        lambda s: _with(s, values=[0.0, 1.0, None]),
        lambda s: _with(s, values=[0.0, 1.0, float("nan")]),
        lambda s: _with(s, values=[0.0, -1.0, 1.0]),
        lambda s: _with(s, values=[1.0, 1.0, 1.0]),
        lambda s: _with(s, values="0"),
        lambda s: _with(s, values=None),
    ],
)
def test_bytes_that_are_no_snapshot_are_refused(model: JumpModel, damage: Any) -> None:
    stream = model.stream()
    before = stream.snapshot()
    with pytest.raises(ArtifactCorrupt, match="Start from the training end"):
        stream.restore(damage(before))
    assert stream.snapshot() == before


def _with(snapshot: bytes, **changes: Any) -> bytes:
    return json.dumps({**json.loads(snapshot), **changes}).encode()
