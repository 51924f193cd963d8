"""Feature rows that are good or bad on purpose, and what ClickHouse holds of them."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl
from clickhouse_connect.driver.client import Client

from atlas.clickhouse.values import frame_of
from atlas.features import feature_set

VIEW = feature_set("ohlcv_1m")
START = datetime(2024, 1, 1, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
KEY = ["symbol", "event_timestamp", "known_at"]


def feature_row(minute: int, symbol: str = "BTC_USDT", **changed: Any) -> dict[str, Any]:
    """A sound row but for what is said; half of its features are null."""
    close = START + minute * MINUTE
    values = {
        name: None if number % 2 else 0.1 + minute / 1e7
        for number, name in enumerate(VIEW.features)
    }
    row = {"symbol": symbol, "event_timestamp": close, "known_at": close, **values}
    return row | {"rsi_14": 50.0} | changed


def feature_rows(*rows: dict[str, Any]) -> pl.DataFrame:
    """Rows with the schema's types."""
    kinds = {"symbol": pl.String(), **dict.fromkeys(KEY[1:], pl.Datetime("us", "UTC"))}
    return pl.DataFrame(rows, schema=kinds | dict.fromkeys(VIEW.features, pl.Float64()))


def stored(client: Client) -> pl.DataFrame:
    """Every version of every row of the view."""
    names = ", ".join((*KEY, *VIEW.features))
    table = client.query_arrow(f"SELECT {names} FROM {VIEW.view} ORDER BY {', '.join(KEY)}")
    return frame_of(table)


def held(client: Client) -> list[tuple[Any, ...]]:
    """Every refusal: border, view, symbol, time, run, reason, and the row itself."""
    found = client.query(
        "SELECT border, table_name, symbol, event_timestamp, load_id, reason, row FROM quarantine "
        "ORDER BY border, symbol, event_timestamp, reason, row",
        tz_mode="aware",
    ).result_rows
    return [(*row[:6], json.loads(row[6])) for row in found]


def left(client: Client) -> list[tuple[Any, ...]]:
    """Every row that has left the quarantine: border, view, outcome."""
    return client.query(
        "SELECT border, table_name, outcome FROM readmissions ORDER BY border, table_name, row_id"
    ).result_rows
