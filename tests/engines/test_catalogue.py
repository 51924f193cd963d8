"""How engines are found by name, and which of them may be loaded."""

from typing import Any

import pytest

from atlas.engines import ENGINES, Dataset, engine_class, load_engine, profile_of
from atlas.errors import InvalidInput

OWN = "own_engine:BetweenMeans"


@pytest.mark.parametrize("name", ["os.system", "os:system", "lightgbm", "", "a b:C", "../x:Y"])
def test_an_unknown_engine_is_not_loaded(name: str) -> None:
    with pytest.raises(InvalidInput, match="Expected an engine among xgboost"):
        load_engine(name, b"")


def test_an_engine_of_ones_own_is_loaded_only_where_it_is_trusted(dataset: Dataset) -> None:
    data = engine_class(OWN)().fit(dataset).dump()
    with pytest.raises(InvalidInput, match="must be named as trusted"):
        load_engine(OWN, data)
    assert load_engine(OWN, data, trusted=[OWN]).dump() == data


def test_an_ensemble_brings_in_no_engine_that_is_not_trusted(dataset: Dataset) -> None:
    members = ((OWN, {}), ("xgboost", {"n_rounds": 2}))
    data = ENGINES["ensemble"](members=members, n_splits=2).fit(dataset).dump()
    with pytest.raises(InvalidInput, match="must be named as trusted"):
        load_engine("ensemble", data)
    assert load_engine("ensemble", data, trusted=[OWN]).dump() == data


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("lightgbm", "found 'lightgbm'"),
        ("no_such_package:Engine", "No module named 'no_such_package'"),
        ("own_engine:Missing", "no attribute 'Missing'"),
        ("own_engine:NoEngine", "lacks fit, predict, score, dump, load"),
        ("own_engine:Misnamed", "found 'own_engine:BetweenMeans'"),
        ("os:system", "lacks fit"),
    ],
)
def test_what_is_no_engine_is_refused_by_name(name: str, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        engine_class(name)


def test_the_requirements_defaults_are_the_engines() -> None:
    lstm = ENGINES["lstm"]().hyperparameters
    transformer = ENGINES["transformer"]().hyperparameters
    asked = ("sequence", "dropout", "learning_rate", "batch_size", "epochs")
    assert [lstm[name] for name in (*asked, "units")] == [60, 0.2, 1e-3, 32, 100, (128, 64, 32)]
    assert [transformer[name] for name in asked[:3]] == [100, 0.1, 1e-4]
    sizes = ("embed", "heads", "feed_forward", "layers")
    assert [transformer[name] for name in sizes] == [128, 8, 256, 4]


@pytest.mark.parametrize("name", ENGINES)
def test_the_verify_profile_is_bounded_and_the_full_one_changes_nothing(name: str) -> None:
    assert profile_of(name, "full") == {}
    changes = profile_of(name, "verify")
    engine: Any = ENGINES[name](**changes)
    nets = [engine] if name != "ensemble" else engine._new_members()
    for net in nets:
        given = net.hyperparameters
        assert given.get("epochs", 0) <= 8
        if "epochs" in given:
            assert given["max_windows"] <= 10_000
