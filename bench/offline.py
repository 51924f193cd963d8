"""The point-in-time join through Feast, against the raw ASOF query with its fetch."""

from __future__ import annotations

import warnings
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import numpy as np
import polars as pl

from atlas.clickhouse import insert_once
from atlas.features import feature_set
from atlas.runtime.installation import Installation
from bench.measure import Measured, by_turns

__all__ = ["point_in_time_join"]

_START = datetime(2024, 1, 1, tzinfo=UTC)
_VIEW = feature_set("lunar_1m")


def point_in_time_join(installation: Installation) -> list[Measured]:
    """50 k entity rows over 72 k feature rows, TTL five minutes."""
    client = installation.clickhouse
    rng = np.random.default_rng(0)
    moments = [_START + timedelta(minutes=i + 1) for i in range(7_200)]
    for symbol in "ABCDEFGHIJ":
        frame = pl.DataFrame(
            {
                "symbol": [symbol] * 7_200,
                "event_timestamp": moments,
                "known_at": moments,
                **{name: rng.normal(size=7_200) for name in _VIEW.features},
            }
        ).with_columns(pl.col("event_timestamp", "known_at").cast(pl.Datetime("us", "UTC")))
        insert_once(client, _VIEW.view, frame.to_arrow())
    entities = pl.DataFrame(
        {
            "symbol": rng.choice(list("ABCDEFGHIJ"), 50_000),
            "event_timestamp": [
                _START + timedelta(seconds=float(s)) for s in rng.uniform(0, 432_000, 50_000)
            ],
        }
    ).with_columns(pl.col("event_timestamp").cast(pl.Datetime("us", "UTC")))
    insert = entities.with_row_index("row")
    client.command(
        "CREATE TABLE bench_rows (row UInt32, symbol String, "
        "event_timestamp DateTime64(6, 'UTC')) ENGINE = Memory"
    )
    client.insert_arrow("bench_rows", insert.to_arrow())
    columns = ", ".join(f"f.{name} AS {name}" for name in _VIEW.features)
    raw = (
        f"SELECT e.row AS row, {columns} FROM bench_rows AS e ASOF LEFT JOIN {_VIEW.view} AS f "
        "ON e.symbol = f.symbol AND e.event_timestamp >= f.event_timestamp ORDER BY row"
    )
    store, pandas = _store(installation), entities.to_pandas()
    names = [f"{_VIEW.view}:{name}" for name in _VIEW.features]

    def join(bitemporal: bool) -> Any:
        job = store.get_historical_features(
            entity_df=pandas, features=names, filter_by_created_timestamp=bitemporal
        )
        return job.to_arrow()

    results = []
    for label, bitemporal in (("point-in-time join", False), ("same, as known", True)):
        ours, baseline = by_turns(
            partial(join, bitemporal),
            lambda: client.query_arrow(raw),
            times=5,
        )
        work = f"{label}, 50 k x 72 k"
        results.append(Measured(work, ours, baseline, "raw ASOF and fetch", ""))
    return results


def _store(installation: Installation) -> Any:
    import os

    from atlas.runtime import environment

    os.environ.update(environment(installation.settings))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from feature_repo.definitions import services, symbol, views

        store = installation.feast
        store.apply([symbol, *views.values(), *services.values()])
    return store
