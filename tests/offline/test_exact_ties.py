"""Rows that tie to the last digit: one of them wins everywhere, whatever is asked."""

from collections.abc import Callable
from datetime import UTC, datetime

import pandas as pd
from clickhouse_connect.driver.client import Client
from feast import FeatureStore, FeatureView

from atlas.offline import ClickHouseOfflineStore
from atlas.online.materialisation.key_ranges import KeyRange
from atlas.online.materialisation.latest_rows import Scope, Survey, latest_rows_query
from atlas.online.materialisation.view_plan import Column, ViewPlan

DAY = datetime(2021, 1, 1, tzinfo=UTC)


def test_every_request_the_pull_and_the_engine_take_the_same_row(
    store: FeatureStore,
    prices: FeatureView,
    clickhouse: Client,
    asked: Callable[..., pd.DataFrame],
) -> None:
    clickhouse.command("TRUNCATE TABLE prices")
    clickhouse.command(
        "INSERT INTO prices SELECT concat('S', toString(number % 40)), '2021-01-01', "
        "'2021-01-01', number, number + 0.5 FROM numbers(1000)"
    )
    symbols = [f"S{number}" for number in range(40)]
    frame = asked(*((symbol, "00:01:00") for symbol in symbols))

    def history(*features: str, known: bool = False) -> dict[str, float]:
        refs = [f"prices:{feature}" for feature in features]
        job = store.get_historical_features(frame, refs, filter_by_created_timestamp=known)
        table = job.to_arrow()
        shifts = {"close": 0.0, "volume": 0.5}
        first, *others = (
            [value - shifts[name] for value in table[name].to_pylist()] for name in features
        )
        assert all(other == first for other in others)
        return dict(zip(symbols, first, strict=True))

    def pull(*features: str) -> dict[str, float]:
        rows = ClickHouseOfflineStore.pull_latest_from_table_or_query(
            store.config,
            prices.batch_source,
            ["symbol"],
            list(features),
            "event_timestamp",
            "known_at",
            DAY,
            DAY,
        ).to_arrow()
        return dict(zip(rows["symbol"].to_pylist(), rows["close"].to_pylist(), strict=True))

    def engine(*features: str) -> dict[str, float]:
        plan = ViewPlan(
            project="desk",
            name="prices",
            stored_name="prices",
            source="prices",
            types=prices.batch_source.column_types(store.config),
            keys=(Column("symbol", "symbol", "STRING"),),
            features=tuple(Column(name, name, "DOUBLE") for name in features),
            event="event_timestamp",
            created="known_at",
            written=None,
        )
        seen = Survey(1000, 40, None, None, None, None)
        query = latest_rows_query(plan, Scope(DAY), seen, KeyRange(), settles_ties=True)
        place = 1 + features.index("close")
        return {row[0]: row[place] for row in clickhouse.query(query).result_rows}

    winners = history("close", "volume")
    assert len(set(winners.values())) == 40
    for others in (
        history("close"),
        history("volume"),
        history("volume", "close"),
        history("volume", known=True),
        history("close", "volume", known=True),
        pull("close", "volume"),
        pull("volume", "close"),
        engine("close", "volume"),
        engine("volume", "close"),
    ):
        assert others == winners
