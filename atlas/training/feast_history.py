"""The point-in-time join through Feast: each row sees what was known at its time, no more."""

from __future__ import annotations

from typing import Any

import polars as pl
import pyarrow as pa

from atlas.training.frame import PointInTime

__all__ = ["feast_join"]


def feast_join(store: Any) -> PointInTime:
    """Return the join of a Feast `FeatureStore`.

    Values are retrieved as known at the row's time (bitemporal): neither a backfill nor a later
    correction reaches a row from before it.
    """

    def join(service: str, keys: pl.DataFrame) -> pa.Table:
        job = store.get_historical_features(
            entity_df=keys.to_pandas(),
            features=store.get_feature_service(service),
            filter_by_created_timestamp=True,
        )
        return job.to_arrow()

    return join
