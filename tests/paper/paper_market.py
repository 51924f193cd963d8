"""A small market on a paper desk: bars in ClickHouse, signals in Redis, versions in the log."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta

import polars as pl
from clickhouse_connect.driver.client import Client

from atlas.clickhouse import insert_once
from atlas.clock import to_micros
from atlas.fills import Costs
from atlas.market import bars_table, interval_of
from atlas.registry import DeploymentLog
from atlas.serving import Manifest, ReadPlan, Signal, Stage, feature_hash

MINUTE = interval_of("1m")
START = datetime(2024, 1, 1, tzinfo=UTC)
COSTS = Costs(fee_bps=5.0, half_spread_bps=1.0, slippage_bps=1.0)
MODEL = "direction_ohlcv_1m"
EVERY = 5


def at(minute: int) -> int:
    """Return the close of a bar, in microseconds."""
    return to_micros(START + timedelta(minutes=minute))


def bars(closes: Mapping[int, float] | list[float], symbol: str = "A") -> pl.DataFrame:
    """Return bars by the minute at which they close; a list begins with minute 1."""
    known = dict(enumerate(closes, 1)) if isinstance(closes, list) else dict(closes)
    moments = pl.Series(
        [START + timedelta(minutes=m) for m in known], dtype=pl.Datetime("us", "UTC")
    )
    prices = pl.Series(list(known.values()), dtype=pl.Float64)
    return pl.DataFrame(
        {
            "symbol": [symbol] * len(known),
            "event_timestamp": moments,
            "known_at": moments,
            "open": prices,
            "high": prices,
            "low": prices,
            "close": prices,
            "volume": prices,
        },
        schema_overrides={"symbol": pl.String},
    )


def signal(
    minute: int, side: int, symbol: str = "A", *, stage: Stage = Stage.LIVE, version: int = 1
) -> Signal:
    return Signal(
        model=MODEL,
        version=version,
        stage=stage,
        symbol=symbol,
        event_us=at(minute),
        score=0.5 + side * 0.2,
        side=side,
        decides=minute % EVERY == 0,
        feature_hash="h",
        generation=1,
    )


def store(client: Client, frames: Iterable[pl.DataFrame]) -> None:
    """Write bars where the broker looks for them."""
    rows = pl.concat(frames).with_columns(load_id=pl.lit("test"))
    insert_once(client, bars_table(MINUTE), rows.to_arrow(compat_level=pl.CompatLevel.oldest()))


def register(log: DeploymentLog, *versions: int) -> None:
    """Enter versions that trade on bars of a minute."""
    plan = ReadPlan("atlas", "ohlcv_1m", ("symbol",), ("rsi_14",), 600_000_000)
    for version in versions:
        manifest = Manifest(
            model=MODEL,
            version=version,
            stage=Stage.REGISTERED,
            generation=0,
            engine="xgboost",
            blob=f"{version:064x}",
            plan=plan,
            feature_hash=feature_hash(plan.view, plan.features),
            interval="1m",
            threshold=0.05,
            decision_bars=EVERY,
        )
        log.register(manifest, passed=True, report="report.html", who="ada", why="")
