"""What judging rows costs beside the write that it guards."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime

import numpy as np
import polars as pl
from clickhouse_connect.driver.client import Client

from atlas.clickhouse import create_feature_table, insert_once
from atlas.clickhouse.quarantine import Border, admit
from atlas.features import feature_set
from bench.measure import Measured, by_turns

__all__ = ["validation"]

_VIEW = feature_set("ohlcv_1m")
_MINUTE_US = 60_000_000


def validation(client: Client) -> Measured:
    """Judge half a million good feature rows; the baseline is their insert alone."""
    n = 500_000
    create_feature_table(client, _VIEW.view, _VIEW.features)
    rng = np.random.default_rng(0)
    values = {name: rng.uniform(0.01, 0.9, n) for name in _VIEW.features}
    starts = itertools.count()

    def rows() -> pl.DataFrame:
        # Other times in every round: an equal block would not be written again.
        first = int(datetime(2020, 1, 1, tzinfo=UTC).timestamp()) * 1_000_000
        micros = first + (next(starts) * n + np.arange(n)) * _MINUTE_US
        times = pl.Series(micros).cast(pl.Datetime("us", "UTC"))
        return pl.DataFrame(
            {"symbol": ["BTC_USDT"] * n, "event_timestamp": times, "known_at": times, **values}
        )

    judged = rows()
    blocks = [rows().to_arrow() for _ in range(4)]
    ours, write = by_turns(
        lambda: admit(
            client, _VIEW.schema, judged, view=_VIEW.view, border=Border.OFFLINE, run="bench"
        ),
        lambda: insert_once(client, _VIEW.view, blocks.pop()),
        times=3,
    )
    return Measured("validation, 500 k x 19", ours, write, "the insert that it guards", "<= 0.1 x")
