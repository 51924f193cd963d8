"""What every engine promises, checked on each in the list of `conftest`."""

import dataclasses
import inspect
import re
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from atlas.engines import Dataset, Engine, engine_class, load_engine, predict_rows
from atlas.errors import ArtifactCorrupt, AtlasError, FeatureMismatch, InvalidInput, NotEnoughData

OWN = ("own_engine:BetweenMeans",)


def rows_of(engine: Engine, dataset: Dataset) -> Any:
    """What the engine scores: rows, or windows of them."""
    rows = dataset.X if engine.window == 1 else dataset.windows(engine.window)[:]
    return rows.astype(np.float32)


def shape_of(engine: Engine, n_rows: int, n_features: int = 5) -> tuple[int, ...]:
    return (n_rows, *((engine.window,) if engine.window > 1 else ()), n_features)


def loaded(engine: Engine, data: bytes, **options: Any) -> Engine:
    return load_engine(engine.name, data, trusted=(engine.name, *OWN), **options)


def with_arrays(dataset: Dataset, **changes: Any) -> Dataset:
    fields = {field.name: getattr(dataset, field.name) for field in dataclasses.fields(dataset)}
    return Dataset(**{**fields, **changes})


def test_the_engine_is_found_under_its_own_name(kind: Any) -> None:
    assert engine_class(kind.new().name) is kind.build


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
    dumps = {kind.new(n_threads=n).fit(dataset).dump() for n in (1, 2)}
    assert dumps == {_fitted(kind, dataset).dump()}


def test_another_seed_gives_another_model(kind: Any, dataset: Dataset) -> None:
    if "seed" not in kind.new().hyperparameters:
        pytest.skip("It draws nothing.")
    assert kind.new(seed=1).fit(dataset).dump() != _fitted(kind, dataset).dump()


def test_learning_changes_nothing_of_the_data(kind: Any, dataset: Dataset) -> None:
    names = ("X", "y", "weights", "intervals")
    given = with_arrays(dataset, **{name: getattr(dataset, name).copy() for name in names})
    for name in names:
        getattr(given, name).flags.writeable = False
    assert kind.new().fit(given).dump() == _fitted(kind, dataset).dump()
    for name in names:
        np.testing.assert_array_equal(getattr(given, name), getattr(dataset, name))


def test_probabilities_are_of_down_and_up_and_sum_to_one(kind: Any, dataset: Dataset) -> None:
    engine = _fitted(kind, dataset)
    probabilities = predict_rows(engine, dataset)
    assert probabilities.shape == (len(dataset), 2)
    assert probabilities.dtype == np.float64
    assert ((probabilities >= 0) & (probabilities <= 1)).all()
    np.testing.assert_allclose(probabilities.sum(axis=1), 1.0, rtol=0, atol=1e-12)
    up = probabilities[:, 1]
    assert up[dataset.y > 0].mean() > 0.5 > up[dataset.y < 0].mean()


def test_it_learns_what_can_be_learned(kind: Any, dataset: Dataset, unseen: Dataset) -> None:
    right = (predict_rows(_fitted(kind, dataset), unseen)[:, 1] > 0.5) == (unseen.y > 0)
    # The signal allows 78 %; half would be chance, with a deviation of 2.5 %.
    assert right.mean() > 0.65


def test_the_quick_score_is_the_second_column_to_the_bit(kind: Any, dataset: Dataset) -> None:
    engine = _fitted(kind, dataset)
    scores = engine.score(rows_of(engine, dataset))
    assert (scores.shape, scores.dtype) == ((len(dataset),), np.float32)
    said = predict_rows(engine, dataset)
    np.testing.assert_array_equal(said[:, 1], scores.astype(np.float64))


@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_a_score_depends_on_what_it_looks_at_only(
    kind: Any, dataset: Dataset, data: st.DataObject
) -> None:
    engine = _fitted(kind, dataset)
    n_rows = data.draw(st.integers(1, 40))
    floats = st.floats(width=32, allow_nan=True, allow_infinity=False)
    rows = data.draw(arrays(np.float32, shape_of(engine, n_rows), elements=floats))
    together = engine.score(rows)
    order = np.array(data.draw(st.permutations(range(len(rows)))))
    np.testing.assert_array_equal(engine.score(rows[order]), together[order])
    one = data.draw(st.integers(0, len(rows) - 1))
    assert engine.score(rows[one : one + 1])[0] == together[one]
    np.testing.assert_array_equal(engine.score(rows[: one + 1]), together[: one + 1])


def test_a_score_stays_as_it_was_when_time_goes_on(kind: Any, dataset: Dataset) -> None:
    engine = _fitted(kind, dataset)
    until = np.arange(len(dataset)) < 250
    later = with_arrays(
        dataset,
        X=np.where(until[:, None], dataset.X, 1e6),
        y=np.where(until, dataset.y, -dataset.y),
        history=None,
        at=None,
    )
    known = predict_rows(engine, with_arrays(dataset.take(until), history=None, at=None))
    np.testing.assert_array_equal(predict_rows(engine, dataset)[until], known)
    np.testing.assert_array_equal(predict_rows(engine, later)[until], known)


def test_a_score_does_not_look_at_other_symbols(kind: Any, dataset: Dataset) -> None:
    engine = _fitted(kind, dataset)
    bitcoin = dataset.symbols == "BTC_USDT"
    alone = with_arrays(dataset.take(bitcoin), history=None, at=None)
    np.testing.assert_array_equal(
        predict_rows(engine, dataset)[bitcoin], predict_rows(engine, alone)
    )


def test_a_fold_scores_its_rows_as_the_whole_does(kind: Any, dataset: Dataset) -> None:
    engine = _fitted(kind, dataset)
    fold = np.random.default_rng(0).permutation(len(dataset))[:100]
    np.testing.assert_array_equal(
        predict_rows(engine, dataset.take(fold)), predict_rows(engine, dataset)[fold]
    )


def test_the_order_of_the_rows_teaches_nothing(kind: Any, dataset: Dataset) -> None:
    if "xgboost" in repr(kind):
        pytest.skip("XGBoost draws the rows of each tree by their place.")
    shuffled = dataset.take(np.random.default_rng(0).permutation(len(dataset)))
    np.testing.assert_allclose(
        predict_rows(kind.new().fit(shuffled), dataset),
        predict_rows(_fitted(kind, dataset), dataset),
        rtol=0,
        atol=1e-6,
    )


@pytest.mark.parametrize("layout", ["columns", "strided", "double"])
def test_the_layout_of_the_rows_changes_no_score(kind: Any, dataset: Dataset, layout: str) -> None:
    engine = _fitted(kind, dataset)
    rows = rows_of(engine, dataset)
    other = {
        "columns": np.asfortranarray(rows),
        "strided": np.repeat(rows, 2, axis=0)[::2],
        "double": rows.astype(np.float64),
    }[layout]
    np.testing.assert_array_equal(engine.score(other), engine.score(rows))


def test_nulls_have_a_score_and_may_be_all_there_is(kind: Any, dataset: Dataset) -> None:
    engine = _fitted(kind, dataset)
    assert np.isfinite(engine.score(np.full(shape_of(engine, 2), np.nan, np.float32))).all()


def test_no_rows_give_no_scores(kind: Any, dataset: Dataset) -> None:
    engine = _fitted(kind, dataset)
    assert engine.score(np.empty(shape_of(engine, 0), np.float32)).shape == (0,)
    assert engine.predict(np.empty(shape_of(engine, 0))).shape == (0, 2)
    assert predict_rows(engine, dataset.take(np.arange(0))).shape == (0, 2)


def test_rows_without_weight_teach_nothing(kind: Any, dataset: Dataset) -> None:
    weights = np.where(np.arange(len(dataset)) < 200, dataset.weights, 0.0)
    silenced = np.where(weights > 0, dataset.y, -dataset.y)
    given = with_arrays(dataset, weights=weights)
    flipped = with_arrays(dataset, weights=weights, y=silenced)
    assert kind.new().fit(given).dump() == kind.new().fit(flipped).dump()


def test_what_was_dumped_is_loaded_whole(kind: Any, dataset: Dataset) -> None:
    engine = _fitted(kind, dataset)
    again = loaded(engine, engine.dump(), features=dataset.features, n_threads=2)
    assert again.dump() == engine.dump()
    assert again.features_ == dataset.features
    assert (again.window, again.task) == (engine.window, engine.task)
    assert dict(again.hyperparameters) == {**engine.hyperparameters, "n_threads": 2}
    rows = rows_of(engine, dataset)
    np.testing.assert_array_equal(again.score(rows), engine.score(rows))


def test_other_features_than_those_learned_are_named(kind: Any, dataset: Dataset) -> None:
    engine = _fitted(kind, dataset)
    given = ("feature_0", "feature_1", "feature_9", "feature_3", "feature_4")
    with pytest.raises(FeatureMismatch, match=r"Missing: feature_2\. Unknown: feature_9"):
        loaded(engine, engine.dump(), features=given)


def test_a_forecast_is_not_taken_for_another_thing(kind: Any, dataset: Dataset) -> None:
    engine = _fitted(kind, dataset)
    with pytest.raises(InvalidInput, match="tells the return; found one that tells the direction"):
        loaded(engine, engine.dump(), task="return")


def test_learning_again_starts_afresh(kind: Any, dataset: Dataset) -> None:
    engine = kind.new().fit(dataset.take(np.arange(200)))
    first = engine.dump()
    assert first != _fitted(kind, dataset).dump()
    assert engine.fit(dataset).dump() == _fitted(kind, dataset).dump()


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
        loaded(engine, damage(engine.dump()))


@pytest.mark.parametrize("width", [4, 6])
def test_rows_of_another_width_are_refused(kind: Any, dataset: Dataset, width: int) -> None:
    engine = _fitted(kind, dataset)
    shape = shape_of(engine, 3, width)
    with pytest.raises(FeatureMismatch, match=rf"on 5 features.*{re.escape(str(shape))}"):
        engine.score(np.zeros(shape, np.float32))
    with pytest.raises(FeatureMismatch):
        engine.predict(np.zeros(shape))


def test_rows_of_another_shape_are_refused(kind: Any, dataset: Dataset) -> None:
    engine = _fitted(kind, dataset)
    wrong = [(5,), (3, engine.window + 1, 5), (3, 5, 1, 1)]
    wrong.append((3, 5) if engine.window > 1 else (3, 1, 5))
    for shape in wrong:
        with pytest.raises(FeatureMismatch):
            engine.score(np.zeros(shape, np.float32))


def test_an_engine_that_learned_nothing_says_so(kind: Any) -> None:
    with pytest.raises(AtlasError, match="learned nothing"):
        kind.new().score(np.zeros(shape_of(kind.new(), 1), np.float32))
    with pytest.raises(AtlasError, match="learned nothing"):
        kind.new().dump()


def test_one_label_alone_teaches_nothing(kind: Any, dataset: Dataset) -> None:
    with pytest.raises(NotEnoughData, match="both labels"):
        kind.new().fit(dataset.take(dataset.y > 0))
    with pytest.raises(NotEnoughData, match="both labels"):
        kind.new().fit(with_arrays(dataset, weights=np.where(dataset.y > 0, 1.0, 0.0)))


_CACHE: dict[str, Engine] = {}


def _fitted(kind: Any, dataset: Dataset) -> Engine:
    key = repr(kind)
    if key not in _CACHE:
        _CACHE[key] = kind.new().fit(dataset)
    return _CACHE[key]
