"""The gates at their production thresholds, on twenty simulated markets: skill in, trap out."""

from concurrent.futures import ProcessPoolExecutor

import polars as pl
import pytest

from atlas.features import feature_set
from atlas.gates import judge
from atlas.ingest import MarketRecipe, simulate
from atlas.training import SearchPlan, candidate_for, join_features, label_events, train

# What the demo trains on: it holds back the last two of its 47 days.
DAYS = 45


def passes(seed: int, view: str) -> bool:
    """Search, judge, and say whether every gate passed."""
    bars = simulate(MarketRecipe(days=DAYS, seed=seed))
    features = feature_set(view)
    candidate = candidate_for(features, search=SearchPlan(seed=seed))
    rows = features.compute(bars.lazy()).collect()

    def join(_: str, keys: pl.DataFrame) -> object:
        return keys.join(
            rows, on=["symbol", "event_timestamp"], how="left", maintain_order="left"
        ).to_arrow()

    events = label_events(bars, features.interval, candidate.target)
    frame = join_features(events, candidate, join, min_rows=1_000)  # type: ignore[arg-type]
    return judge(train(candidate, frame).evidence).passed


@pytest.mark.slow
def test_the_honest_candidate_passes_on_sixteen_of_twenty_seeds_and_the_trap_on_none() -> None:
    work = [(seed, view) for seed in range(20) for view in ("ohlcv_1m", "lunar_1m")]
    with ProcessPoolExecutor(2) as pool:
        found = list(pool.map(passes, *zip(*work, strict=True)))
    verdicts = dict(zip(work, found, strict=True))
    assert sum(verdicts[seed, "ohlcv_1m"] for seed in range(20)) >= 16, verdicts
    assert not any(verdicts[seed, "lunar_1m"] for seed in range(20)), verdicts
