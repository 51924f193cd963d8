"""However its numbers are held, a statistic is the same; what are no numbers it refuses."""

import numpy as np
import pandas as pd
import polars as pl
import pytest

from atlas.errors import InvalidInput, NotEnoughData
from atlas.stats import (
    always_valid_p,
    automatic_block,
    breach_probability,
    max_drawdown,
    overfitting_study,
    psi,
    sharpe_difference,
    sharpe_difference_bootstrap,
    sharpe_ratio,
    skew_and_kurtosis,
    triple_barrier,
    walk_forward_efficiency,
)

RETURNS = np.random.default_rng(0).normal(0.001, 0.01, 300)
OTHERS = np.random.default_rng(1).normal(0.0005, 0.02, 300)
TRIALS = np.random.default_rng(2).normal(0.001, 0.01, (67, 5))

# Of one series, which is positive, so that it may also be prices.
SERIES = np.abs(RETURNS) + 0.001

STATISTICS = {
    "sharpe_ratio": sharpe_ratio,
    "skew_and_kurtosis": skew_and_kurtosis,
    "max_drawdown": max_drawdown,
    "automatic_block": automatic_block,
    "breach_probability": lambda x: breach_probability(x, limit=0.2, horizon=40, n_paths=200),
    "sharpe_difference": lambda x: sharpe_difference(x, OTHERS),
    "sharpe_difference, second": lambda x: sharpe_difference(OTHERS, x),
    "sharpe_difference_bootstrap": lambda x: sharpe_difference_bootstrap(
        x, OTHERS, mean_block=5, n_resamples=49, seed=0
    ),
    "always_valid_p": lambda x: always_valid_p(x, tau=0.01).tolist(),
    "psi, reference": lambda x: psi(x, RETURNS),
    "psi, current": lambda x: psi(RETURNS, x),
    "walk_forward_efficiency, in": lambda x: walk_forward_efficiency([x], [OTHERS]),
    "walk_forward_efficiency, out": lambda x: walk_forward_efficiency([SERIES], [x]),
    "triple_barrier": lambda x: triple_barrier(x, [0, 7], up=0.5, down=0.5, horizon=9).rows(),
}

HOLDERS = {
    "list": np.ndarray.tolist,
    "tuple": tuple,
    "every other value": lambda x: np.repeat(x, 2)[::2],
    "backwards twice": lambda x: x[::-1].copy()[::-1],
    "big endian": lambda x: x.astype(">f8"),
    "objects": lambda x: x.astype(object),
    "pandas": lambda x: pd.Series(x, index=range(9, 9 + len(x))),
    "nullable pandas": lambda x: pd.Series(x, dtype="Float64"),
    "polars": pl.Series,
    "masked, with nothing masked": np.ma.array,
}

THIRD = np.arange(len(SERIES)) == 3

NO_SERIES = {
    "NaN": np.where(THIRD, np.nan, SERIES),
    "infinite": np.where(THIRD, -np.inf, SERIES),
    "masked": np.ma.array(SERIES, mask=THIRD),
    "null in polars": pl.Series([None, *SERIES[1:]]),
    "null in pandas": pd.Series([pd.NA, *SERIES[1:]]),
    "text": SERIES.astype(str),
    "text as objects": SERIES.astype(str).astype(object),
    "complex": SERIES + 0j,
    "time spans": np.arange(300).astype("m8[s]"),
    "instants": np.arange(300).astype("M8[s]"),
    "one column": SERIES[:, None],
    "frame": pd.DataFrame({"x": SERIES}),
    "a number": 1.0,
    "a mapping": {},
    "nothing": None,
    "ragged": [[1.0], [1.0, 2.0]],
}


@pytest.fixture(scope="module", params=STATISTICS)
def statistic(request):
    return STATISTICS[request.param]


@pytest.mark.parametrize("holder", HOLDERS)
def test_the_holder_of_the_numbers_does_not_matter(statistic, holder):
    assert statistic(HOLDERS[holder](SERIES)) == statistic(SERIES)


@pytest.mark.parametrize("spoilt", NO_SERIES)
def test_what_is_no_series_of_numbers_is_refused(statistic, spoilt):
    with pytest.raises(InvalidInput):
        statistic(NO_SERIES[spoilt])


def test_an_empty_series_is_refused(statistic):
    with pytest.raises(NotEnoughData):
        statistic([])


def test_the_series_passed_is_left_as_it_was(statistic):
    passed = SERIES.copy()
    passed.setflags(write=False)
    statistic(passed)
    assert (passed == SERIES).all()


@pytest.mark.parametrize(
    "holder",
    [np.asfortranarray, pd.DataFrame, pl.DataFrame, np.ndarray.tolist, lambda x: x[::-1][::-1]],
)
def test_the_holder_of_the_trials_does_not_matter(holder):
    assert overfitting_study(holder(TRIALS), n_blocks=6) == overfitting_study(TRIALS, n_blocks=6)


@pytest.mark.parametrize(
    "spoilt",
    [
        TRIALS[0],
        TRIALS[None],
        np.ma.masked_greater(TRIALS, 0.02),
        TRIALS.astype(str),
        pd.DataFrame(TRIALS).mask(TRIALS > 0.02),
    ],
)
def test_what_is_no_matrix_of_numbers_is_refused(spoilt):
    with pytest.raises(InvalidInput):
        overfitting_study(spoilt, n_blocks=6)


@pytest.mark.parametrize("kind", [np.int8, np.int64, np.uint16, np.float32])
def test_whole_numbers_are_taken_as_they_are(kind):
    whole = np.random.default_rng(3).integers(1, 5, 200)
    exact, held = whole.astype(float), whole.astype(kind)
    assert sharpe_ratio(held) == sharpe_ratio(exact)
    assert sharpe_difference(held, exact[::-1]) == sharpe_difference(exact, exact[::-1])
    assert psi(held, held[:40]) == psi(exact, exact[:40])
    assert always_valid_p(held, tau=1.0).tolist() == always_valid_p(exact, tau=1.0).tolist()
