"""Whether a feature saw the future: rows of training, computed again from what was known then.

A feature that looks one bar ahead shines in every backtest, passes every statistic, and has nothing
to say live. No gate on returns can tell it from skill, but its definition can: over a tail of bars
that ends at the decision it gives another value than over the whole of history.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from atlas.features import FeatureSet
from atlas.training.frame import TrainingFrame

__all__ = ["Audit", "audit_features"]

_KEY = ["symbol", "event_timestamp"]


@dataclass(frozen=True, slots=True)
class Audit:
    """How many rows were computed again, and which features then came out otherwise."""

    rows: int
    leaked: tuple[str, ...]


def audit_features(
    features: FeatureSet,
    frame: TrainingFrame,
    bars: pl.DataFrame,
    *,
    n_moments: int = 24,
    seed: int = 0,
) -> Audit:
    """Compute the features of some decisions again, each from the bars known at its time alone.

    Both must agree to the last bit. Rows whose bars were corrected or arrived later are passed
    over: they were trained on as known then, and their bars are only kept as known now.

    Parameters
    ----------
    bars : DataFrame
        Columns `atlas.market.BAR_COLUMNS`, by symbol and time.
    n_moments : int
        Moments drawn from the frame; every symbol's decision at them is audited.
    """
    moments = frame.rows["event_timestamp"].unique().sort()
    drawn = np.random.default_rng(seed).permutation(len(moments))[:n_moments]
    audited, leaked = 0, set()
    for moment in moments.gather(np.sort(drawn)):
        window = bars.filter(
            pl.col("event_timestamp") <= moment,
            pl.col("event_timestamp") > moment - features.lookback,
        )
        late = window.filter(pl.col("known_at") > moment)["symbol"].unique()
        known = window.filter(~pl.col("symbol").is_in(late.implode()))
        there = frame.rows.filter(pl.col("event_timestamp") == moment)
        if known.is_empty():
            continue
        again = features.compute(known.lazy(), since=moment).collect()
        pairs = there.join(again, on=_KEY, how="inner", suffix="_again")
        audited += pairs.height
        for name in frame.features:
            if not pairs[name].equals(pairs[f"{name}_again"].alias(name), null_equal=True):
                leaked.add(name)
    return Audit(audited, tuple(name for name in frame.features if name in leaked))
