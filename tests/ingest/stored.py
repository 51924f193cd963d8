"""What ClickHouse holds after loads, as plain values for comparison."""

import struct
from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl
from clickhouse_connect.driver.client import Client

from atlas.ingest import Batch, batch_of_frame
from atlas.market import interval_of

MINUTE = interval_of("1m")
START = datetime(2024, 1, 1, tzinfo=UTC)
NOW = START + timedelta(days=1)
SOUND = {"open": 10.0, "high": 12.0, "low": 9.0, "close": 11.0, "volume": 5.0}


def close(minute: int) -> datetime:
    """The close of the bar that opens so many minutes after the start."""
    return START + timedelta(minutes=minute + 1)


def bar(minute: int, *, symbol: str = "BTC_USDT", **changed: Any) -> dict[str, Any]:
    """A sound bar but for what is said."""
    return {"symbol": symbol, "event_timestamp": close(minute)} | SOUND | changed


def batch(*rows: dict[str, Any], source: str = "test") -> Batch:
    """Rows as one load."""
    frame = pl.DataFrame(
        rows,
        schema={
            "symbol": pl.String,
            "event_timestamp": pl.Datetime("us", "UTC"),
            **dict.fromkeys(SOUND, pl.Float64),
        },
    )
    return batch_of_frame(frame, MINUTE, source=source)


def bits(number: float) -> bytes:
    return struct.pack("<d", number)


def rows(client: Client, sql: str) -> list[tuple[Any, ...]]:
    """A query's rows; the driver gives UTC times without their zone."""
    return [
        tuple(value.replace(tzinfo=UTC) if isinstance(value, datetime) else value for value in row)
        for row in client.query(sql).result_rows
    ]


def bars(client: Client, table: str = "bars_1m") -> list[tuple[Any, ...]]:
    """Every version of every bar, with the bits of its values."""
    columns = "symbol, event_timestamp, known_at, open, high, low, close, volume, load_id"
    found = rows(client, f"SELECT {columns} FROM {table}")
    return sorted((*row[:3], *map(bits, row[3:8]), row[8]) for row in found)


def closes(client: Client) -> list[tuple[Any, ...]]:
    """Every version's close's time, when it was known, and its closing price."""
    return rows(
        client,
        "SELECT event_timestamp, known_at, close FROM bars_1m "
        "ORDER BY symbol, event_timestamp, known_at",
    )


def quarantined(client: Client) -> list[tuple[Any, ...]]:
    """Every row in quarantine."""
    columns = "load_id, source, table_name, row_number, reason, row"
    return sorted(rows(client, f"SELECT {columns} FROM quarantine"))


def ledger(client: Client) -> list[tuple[Any, ...]]:
    """Every row of the ledger."""
    return sorted(
        rows(
            client,
            "SELECT load_id, source, table_name, rows_read, inserted, corrected, unchanged, "
            "quarantined, first_event, last_event FROM loads",
        )
    )


def everything(client: Client) -> tuple[list[tuple[Any, ...]], ...]:
    """All that loads leave behind, but for the time of writing."""
    return bars(client), quarantined(client), ledger(client)
