"""Where engines learn: a GPU when present, the processor otherwise, and never part of a model."""

from typing import Any

import numpy as np
import pytest
from engines_under_test import LSTM, TREES, market

from atlas.engines import LSTMEngine, XGBoostEngine, predict_rows
from atlas.engines.device import has_gpu
from atlas.errors import InvalidInput


def can_use_a_gpu() -> bool:
    import xgboost

    return bool(xgboost.build_info()["USE_CUDA"]) and has_gpu()


def test_without_a_gpu_it_learns_on_the_processor_the_same_bytes() -> None:
    if can_use_a_gpu():
        pytest.skip("There is a GPU here.")
    dataset = market()
    found = XGBoostEngine(**TREES).fit(dataset)
    assert found.hyperparameters["device"] == "auto"
    assert found.dump() == XGBoostEngine(**TREES, device="cpu").fit(dataset).dump()


def test_a_gpu_that_is_not_there_is_not_taken_for_one() -> None:
    if can_use_a_gpu():
        pytest.skip("There is a GPU here.")
    with pytest.raises(InvalidInput, match="Expected a GPU and a build of XGBoost that uses it"):
        XGBoostEngine(**TREES, device="cuda").fit(market())


def test_a_gpu_learns_the_same_within_tolerance() -> None:
    if not can_use_a_gpu():
        pytest.skip("There is no GPU here that XGBoost could use.")
    dataset = market()
    here = predict_rows(XGBoostEngine(**TREES, device="cpu").fit(dataset), dataset)
    there = predict_rows(XGBoostEngine(**TREES, device="cuda").fit(dataset), dataset)
    np.testing.assert_allclose(there, here, rtol=0, atol=0.05)


@pytest.mark.parametrize("device", ["gpu", "cuda:0", "", "CPU"])
@pytest.mark.parametrize(
    "build",
    [lambda **given: XGBoostEngine(**TREES, **given), lambda **given: LSTMEngine(**LSTM, **given)],
    ids=["xgboost", "lstm"],
)
def test_a_device_that_is_none_is_refused(build: Any, device: str) -> None:
    with pytest.raises(InvalidInput, match="device to be auto, cpu or cuda"):
        build(device=device).fit(market())


def test_the_device_is_no_part_of_the_model() -> None:
    data = XGBoostEngine(**TREES, device="cpu").fit(market()).dump()
    assert b"device" not in data
    assert XGBoostEngine.load(data).device == "auto"
