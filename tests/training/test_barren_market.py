"""Where nothing can be foretold, a whole search finds nothing that the gates let through."""

from concurrent.futures import ProcessPoolExecutor

import polars as pl
import pytest

from atlas.features import feature_set
from atlas.gates import Report, judge
from atlas.ingest import MarketRecipe, simulate
from atlas.training import SearchPlan, candidate_for, join_features, label_events, train

SEEDS = range(4)


def searched(seed: int) -> Report:
    """Search honest features on a market without drift, and judge the winner."""
    bars = simulate(MarketRecipe(days=45, seed=seed, drift_bps_per_hour=0.0))
    features = feature_set("ohlcv_1m")
    candidate = candidate_for(features, search=SearchPlan(seed=seed))
    rows = features.compute(bars.lazy()).collect()

    def join(_: str, keys: pl.DataFrame) -> object:
        return keys.join(
            rows, on=["symbol", "event_timestamp"], how="left", maintain_order="left"
        ).to_arrow()

    events = label_events(bars, features.interval, candidate.target)
    frame = join_features(events, candidate, join, min_rows=1_000)  # type: ignore[arg-type]
    return judge(train(candidate, frame).evidence)


@pytest.mark.slow
def test_the_best_of_a_search_on_noise_fails_at_accuracy_win_rate_and_sharpe() -> None:
    with ProcessPoolExecutor(2) as pool:
        reports = list(pool.map(searched, SEEDS))
    for name in ("accuracy", "win_rate", "sharpe"):
        assert [report[name].passed for report in reports] == [False] * len(SEEDS), name
    assert [abs(report["accuracy"].value - 0.5) < 0.03 for report in reports] == [True] * len(SEEDS)
