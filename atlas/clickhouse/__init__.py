"""ClickHouse: the client, the tables, the rows in them, and the embedded server.

Names load when first used: a client of the tables need not pay for frames (polars, pandera), and
nobody but the server's process pays for the engine (220 MB).
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from atlas.clickhouse.bars import closing_prices, read_bars
    from atlas.clickhouse.connection import connect
    from atlas.clickhouse.feature_rows import Computed, stored_features, write_features
    from atlas.clickhouse.server import serve
    from atlas.clickhouse.tables import (
        content_token,
        create_feature_table,
        insert_once,
        latest_bars,
        migrate,
    )

__all__ = [
    "Computed",
    "closing_prices",
    "connect",
    "content_token",
    "create_feature_table",
    "insert_once",
    "latest_bars",
    "migrate",
    "read_bars",
    "serve",
    "stored_features",
    "write_features",
]

_MODULES = {
    "Computed": "feature_rows",
    "closing_prices": "bars",
    "connect": "connection",
    "content_token": "tables",
    "create_feature_table": "tables",
    "insert_once": "tables",
    "latest_bars": "tables",
    "migrate": "tables",
    "read_bars": "bars",
    "stored_features": "feature_rows",
    "serve": "server",
    "write_features": "feature_rows",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'atlas.clickhouse' has no attribute {name!r}")
    return getattr(import_module(f"atlas.clickhouse.{_MODULES[name]}"), name)
