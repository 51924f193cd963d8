"""What every engine promises, checked on each in the list of `conftest`."""

import dataclasses
import inspect
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from atlas.engines import ENGINES, Dataset, Engine, load_engine
from atlas.errors import ArtifactCorrupt, AtlasError, FeatureMismatch, InvalidInput, NotEnoughData


def rows_of(dataset: Dataset) -> Any:
    return dataset.X.astype(np.float32)


def with_arrays(dataset: Dataset, **changes: Any) -> Dataset:
    fields = {field.name: getattr(dataset, field.name) for field in dataclasses.fields(dataset)}
    return Dataset(**{**fields, **changes})


def test_the_engine_is_in_the_table_under_its_own_name(kind: Any) -> None:
    assert ENGINES[kind.new().name] is kind.build


def test_hyperparameters_are_kept_unchanged_also_by_learning(kind: Any, dataset: Dataset) -> None:
    names = {
        name
        for name, parameter in inspect.signature(kind.build).parameters.items()
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY
    }
    engine = kind.new()
    before = dict(engine.hyperparameters)
    assert set(before) == names
    assert {name: getattr(engine, name) for name in kind.quick} == kind.quick
    assert dict(engine.fit(dataset).hyperparameters) == before
    assert dict(kind.build(**before).hyperparameters) == before


def test_equal_data_and_seed_give_equal_bytes_whatever_the_threads(
    kind: Any, dataset: Dataset
) -> None:
    dumps = {kind.new(n_threads=n).fit(dataset).dump() for n in (1, 2, 1)}
    assert len(dumps) == 1


def test_another_seed_gives_another_model(kind: Any, dataset: Dataset) -> None:
    assert kind.new(seed=1).fit(dataset).dump() != kind.new(seed=2).fit(dataset).dump()


def test_learning_changes_nothing_of_the_data(kind: Any, dataset: Dataset) -> None:
    names = ("X", "y", "weights", "intervals")
    given = with_arrays(dataset, **{name: getattr(dataset, name).copy() for name in names})
    for name in names:
        getattr(given, name).flags.writeable = False
    kind.new().fit(given)
    for name in names:
        np.testing.assert_array_equal(getattr(given, name), getattr(dataset, name))


def test_probabilities_are_of_down_and_up_and_sum_to_one(kind: Any, dataset: Dataset) -> None:
    engine = kind.new().fit(dataset)
    probabilities = engine.predict(dataset.X)
    assert probabilities.shape == (len(dataset), 2)
    assert probabilities.dtype == np.float64
    assert ((probabilities >= 0) & (probabilities <= 1)).all()
    np.testing.assert_allclose(probabilities.sum(axis=1), 1.0, rtol=0, atol=1e-12)
    up = probabilities[:, 1]
    assert up[dataset.y > 0].mean() > 0.5 > up[dataset.y < 0].mean()


def test_it_learns_what_can_be_learned(kind: Any, dataset: Dataset, unseen: Dataset) -> None:
    right = (kind.new().fit(dataset).predict(unseen.X)[:, 1] > 0.5) == (unseen.y > 0)
    # The signal allows 78 %; half would be chance, with a deviation of 2.5 %.
    assert right.mean() > 0.65


def test_the_quick_score_is_the_second_column_to_the_bit(kind: Any, dataset: Dataset) -> None:
    engine = kind.new().fit(dataset)
    scores = engine.score(rows_of(dataset))
    assert scores.shape == (len(dataset),)
    np.testing.assert_array_equal(engine.predict(dataset.X)[:, 1], scores.astype(np.float64))


@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    rows=arrays(
        np.float32,
        st.tuples(st.integers(1, 40), st.just(5)),
        elements=st.floats(width=32, allow_nan=True, allow_infinity=False),
    ),
    data=st.data(),
)
def test_a_score_depends_on_its_own_row_only(
    kind: Any, dataset: Dataset, rows: Any, data: st.DataObject
) -> None:
    engine = _fitted(kind, dataset)
    together = engine.score(rows)
    order = np.array(data.draw(st.permutations(range(len(rows)))))
    np.testing.assert_array_equal(engine.score(rows[order]), together[order])
    one = data.draw(st.integers(0, len(rows) - 1))
    assert engine.score(rows[one : one + 1])[0] == together[one]
    # Whatever lies behind in time changes nothing either: the future is other rows.
    np.testing.assert_array_equal(engine.score(rows[: one + 1]), together[: one + 1])


@pytest.mark.parametrize("layout", ["columns", "strided", "double"])
def test_the_layout_of_the_rows_changes_no_score(kind: Any, dataset: Dataset, layout: str) -> None:
    engine, rows = _fitted(kind, dataset), rows_of(dataset)
    other = {
        "columns": np.asfortranarray(rows),
        "strided": np.repeat(rows, 2, axis=0)[::2],
        "double": rows.astype(np.float64),
    }[layout]
    np.testing.assert_array_equal(engine.score(other), engine.score(rows))


def test_nulls_have_a_score_and_may_be_all_there_is(kind: Any, dataset: Dataset) -> None:
    engine = _fitted(kind, dataset)
    assert np.isfinite(engine.score(np.full((2, 5), np.nan, np.float32))).all()


def test_no_rows_give_no_scores(kind: Any, dataset: Dataset) -> None:
    engine = _fitted(kind, dataset)
    assert engine.score(np.empty((0, 5), np.float32)).shape == (0,)
    assert engine.predict(np.empty((0, 5))).shape == (0, 2)


def test_rows_without_weight_teach_nothing(kind: Any, dataset: Dataset) -> None:
    weights = np.where(np.arange(len(dataset)) < 200, dataset.weights, 0.0)
    silenced = np.where(weights > 0, dataset.y, -dataset.y)
    given = with_arrays(dataset, weights=weights)
    flipped = with_arrays(dataset, weights=weights, y=silenced)
    assert kind.new().fit(given).dump() == kind.new().fit(flipped).dump()


def test_what_was_dumped_is_loaded_whole(kind: Any, dataset: Dataset) -> None:
    engine = kind.new().fit(dataset)
    loaded = load_engine(engine.name, engine.dump(), features=dataset.features, n_threads=2)
    assert loaded.dump() == engine.dump()
    assert loaded.features_ == dataset.features
    assert dict(loaded.hyperparameters) == {**engine.hyperparameters, "n_threads": 2}
    np.testing.assert_array_equal(loaded.score(rows_of(dataset)), engine.score(rows_of(dataset)))


def test_learning_again_starts_afresh(kind: Any, dataset: Dataset) -> None:
    engine = kind.new().fit(dataset)
    first = engine.dump()
    half = dataset.take(np.arange(200))
    assert engine.fit(half).dump() != first
    assert engine.fit(dataset).dump() == first


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"",
        lambda data: b"{",
        lambda data: b"{}",
        lambda data: b"not a model",
        lambda data: b"\x80\x04\x95" + data,
        lambda data: data[: len(data) // 2],
        lambda data: data[:-1],
        lambda data: data + b"{}",
    ],
    ids=["empty", "brace", "braces", "text", "pickle", "half", "short", "long"],
)
def test_bytes_that_are_no_model_are_refused(kind: Any, dataset: Dataset, damage: Any) -> None:
    engine = _fitted(kind, dataset)
    with pytest.raises(ArtifactCorrupt, match=r"Expected .* found"):
        load_engine(engine.name, damage(engine.dump()))


@pytest.mark.parametrize("width", [4, 6])
def test_rows_of_another_width_are_refused(kind: Any, dataset: Dataset, width: int) -> None:
    engine = _fitted(kind, dataset)
    with pytest.raises(FeatureMismatch, match=rf"on 5 features.*\(3, {width}\)"):
        engine.score(np.zeros((3, width), np.float32))
    with pytest.raises(FeatureMismatch):
        engine.predict(np.zeros((3, width)))


def test_a_single_row_must_still_be_a_table(kind: Any, dataset: Dataset) -> None:
    with pytest.raises(FeatureMismatch):
        _fitted(kind, dataset).score(np.zeros(5, np.float32))


def test_an_engine_that_learned_nothing_says_so(kind: Any) -> None:
    with pytest.raises(AtlasError, match="learned nothing"):
        kind.new().score(np.zeros((1, 5), np.float32))
    with pytest.raises(AtlasError, match="learned nothing"):
        kind.new().dump()


def test_one_label_alone_teaches_nothing(kind: Any, dataset: Dataset) -> None:
    with pytest.raises(NotEnoughData, match="both labels"):
        kind.new().fit(dataset.take(dataset.y > 0))
    with pytest.raises(NotEnoughData, match="both labels"):
        kind.new().fit(with_arrays(dataset, weights=np.where(dataset.y > 0, 1.0, 0.0)))


def test_an_unknown_engine_is_refused(kind: Any) -> None:
    with pytest.raises(InvalidInput, match="Expected an engine among"):
        load_engine("os.system", b"")


_CACHE: dict[str, Engine] = {}


def _fitted(kind: Any, dataset: Dataset) -> Engine:
    name = kind.new().name
    if name not in _CACHE:
        _CACHE[name] = kind.new().fit(dataset)
    return _CACHE[name]
