"""Feast's own engine on our store: nothing rounded, cut or lost between ClickHouse and online."""

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pandas as pd
import pytest
from clickhouse_connect.driver.client import Client
from feast import BatchFeatureView, Entity, FeatureStore, FeatureView, Field, RepoConfig, ValueType
from feast.repo_config import MaterializationConfig
from feast.types import Array, Bool, Float64, Int64, Map, String, UnixTimestamp, Uuid
from feast.types import Decimal as FeastDecimal

from atlas.offline import ClickHouseSource

DAY = datetime(2021, 1, 1, tzinfo=UTC)
SYMBOL = Entity(name="symbol", join_keys=["symbol"], value_type=ValueType.STRING)
LONG = 2**53 + 1


@pytest.fixture(params=[False, True], ids=["all rows", "latest rows"])
def engine(repo_config: RepoConfig, clickhouse: Client, request: Any) -> FeatureStore:
    """A store whose materialisation pulls all rows, or each key's latest."""
    repo_config.materialization_config = MaterializationConfig(pull_latest_features=request.param)
    return FeatureStore(config=repo_config)


def online(store: FeatureStore, view: str, features: list[str], *symbols: str) -> dict[str, Any]:
    found = store.get_online_features(
        [f"{view}:{name}" for name in features], [{"symbol": symbol} for symbol in symbols]
    ).to_dict()
    return {name: found[name] for name in features}


def test_each_type_arrives_online_as_it_was(engine: FeatureStore, clickhouse: Client) -> None:
    clickhouse.command(
        "CREATE TABLE rich (symbol String, at DateTime64(6, 'UTC'), long Int64, "
        "gap Nullable(Int64), exact Decimal(38, 18), nearest Decimal(18, 4), "
        "id UUID, day Date, side Enum8('buy' = 1), up Bool, path Array(Int64), "
        "counts Map(String, Int64), whole DateTime) ENGINE = MergeTree ORDER BY symbol"
    )
    clickhouse.command(
        f"INSERT INTO rich SELECT s, toDateTime64('2021-01-01', 6, 'UTC'), {LONG}, "
        f"{LONG}, '0.123456789012345678', '0.1', "
        "'61f0c404-5cb3-11e7-907b-a6006ad3dba0', '2021-01-02', 'buy', true, "
        f"[{LONG}], map('a', 1), '2021-01-01 00:00:01' FROM (SELECT arrayJoin(['A', 'B']) AS s)"
    )
    fields = {
        "long": Int64,
        "gap": Int64,
        "exact": FeastDecimal,
        "nearest": Float64,
        "id": Uuid,
        "day": UnixTimestamp,
        "side": String,
        "up": Bool,
        "path": Array(Int64),
        "counts": Map,
        "whole": UnixTimestamp,
    }
    clickhouse.command(
        "INSERT INTO rich SELECT * REPLACE (NULL AS gap, at - toIntervalHour(1) AS at) FROM rich"
    )
    view = FeatureView(
        name="rich",
        entities=[SYMBOL],
        schema=[Field(name=name, dtype=kind) for name, kind in fields.items()],
        source=ClickHouseSource(table="rich", timestamp_field="at"),
    )
    engine.apply([SYMBOL, view])
    engine.materialize(DAY - timedelta(days=1), DAY)
    found = online(engine, "rich", list(fields), "A", "B")
    found["id"] = list(map(str, found["id"]))
    assert found == {
        "long": [LONG, LONG],
        "gap": [LONG, LONG],
        "exact": [Decimal("0.123456789012345678")] * 2,
        "nearest": [0.1, 0.1],
        "id": ["61f0c404-5cb3-11e7-907b-a6006ad3dba0"] * 2,
        "day": [datetime(2021, 1, 2, tzinfo=UTC)] * 2,
        "side": ["buy", "buy"],
        "up": [True, True],
        "path": [[LONG], [LONG]],
        "counts": [{"a": 1}] * 2,
        "whole": [DAY + timedelta(seconds=1)] * 2,
    }
    assert date(2021, 1, 2) == found["day"][0].date()


def test_an_integer_that_feast_cannot_hold_is_refused(
    engine: FeatureStore, clickhouse: Client
) -> None:
    clickhouse.command(
        "CREATE TABLE big (symbol String, at DateTime, n UInt64) ENGINE = MergeTree ORDER BY symbol"
    )
    clickhouse.command("INSERT INTO big VALUES ('A', '2021-01-01', 18446744073709551615)")
    source = ClickHouseSource(table="big", timestamp_field="at")
    view = FeatureView(name="big", entities=[SYMBOL], source=source)
    engine.apply([SYMBOL, view])
    with pytest.raises((ValueError, OverflowError)):
        engine.materialize(DAY - timedelta(days=1), DAY)


def test_of_many_blocks_none_is_lost(engine: FeatureStore, clickhouse: Client) -> None:
    clickhouse.command(
        "CREATE TABLE wide (symbol String, at DateTime64(6, 'UTC'), v Float64) "
        "ENGINE = MergeTree ORDER BY symbol SETTINGS index_granularity = 100"
    )
    for part in range(4):
        clickhouse.command(
            f"INSERT INTO wide SELECT toString(number), '2021-01-01', number "
            f"FROM numbers({part * 500}, 500)"
        )
    source = ClickHouseSource(table="wide", timestamp_field="at")
    view = FeatureView(name="wide", entities=[SYMBOL], source=source)
    engine.apply([SYMBOL, view])
    engine.materialize(DAY - timedelta(days=1), DAY)
    symbols = [str(number) for number in range(2000)]
    assert online(engine, "wide", ["v"], *symbols)["v"] == [float(each) for each in symbols]


def test_an_incremental_run_goes_on_from_the_last_one_and_takes_each_version(
    engine: FeatureStore, prices: FeatureView, clickhouse: Client
) -> None:
    engine.materialize(DAY - timedelta(days=1), DAY + timedelta(seconds=30))
    first = online(engine, "prices", ["close"], "BTC", "ETH")
    clickhouse.command(
        "INSERT INTO prices VALUES ('BTC', '2021-01-01 00:00:31.5', '2021-01-01 00:00:31.5', 8, 1)"
    )
    engine.materialize_incremental(DAY + timedelta(seconds=31, microseconds=500_000))
    second = online(engine, "prices", ["close"], "BTC", "ETH")
    assert (first, second) == ({"close": [2.0, None]}, {"close": [8.0, None]})


def test_a_view_without_entities_is_materialised(engine: FeatureStore, prices: FeatureView) -> None:
    view = FeatureView(
        name="market",
        entities=[],
        schema=[Field(name="close", dtype=Float64)],
        source=prices.batch_source,
    )
    engine.apply([view])
    engine.materialize(DAY - timedelta(days=1), DAY + timedelta(minutes=5))
    found = engine.get_online_features(["market:close"], [{"__dummy_id": ""}]).to_dict()
    assert found["close"] == [3.0]


@pytest.mark.filterwarnings("ignore:Batch feature views are experimental:RuntimeWarning")
def test_a_views_transformation_gets_every_column_of_the_source(
    engine: FeatureStore, prices: FeatureView
) -> None:
    def spread(rows: pd.DataFrame) -> pd.DataFrame:
        return rows.assign(notional=rows["close"] * rows["volume"])

    view = BatchFeatureView(
        name="notionals",
        mode="pandas",
        udf=spread,
        udf_string="spread",
        entities=[SYMBOL],
        schema=[Field(name="notional", dtype=Float64)],
        source=prices.batch_source,
        online=True,
    )
    engine.apply([view])
    engine.materialize(DAY - timedelta(days=1), DAY + timedelta(minutes=5))
    assert online(engine, "notionals", ["notional"], "BTC", "ETH") == {"notional": [40.0, 90.0]}
