"""One ClickHouse client for each address and process."""

from __future__ import annotations

import os
from functools import lru_cache
from typing import Any

from clickhouse_connect.driver.client import Client

from atlas.clickhouse.connection import connect

__all__ = ["client_of", "query_settings"]


def client_of(config: Any) -> Client:
    """Return the client of an offline store's config; safe to share between threads.

    The config decides: two stores in one process never meet on one client. The process is part of
    the key, since a forked server must not write into its parent's sockets.
    """
    return _client(
        config.host,
        config.port,
        config.database,
        config.user,
        config.password,
        config.secure,
        os.getpid(),
    )


@lru_cache(maxsize=16)
def _client(
    host: str, port: int, database: str, user: str, password: str, secure: bool, process: int
) -> Client:
    return connect(
        host=host, port=port, database=database, user=user, password=password, secure=secure
    )


def query_settings(config: Any, timeout_s: float | None = None) -> dict[str, Any]:
    """Return the settings of a reading query; those of the config win, save what answers need."""
    return {
        **config.settings,
        **({"max_execution_time": timeout_s} if timeout_s else {}),
        # ClickHouse fills unmatched rows with 0, which is a valid feature.
        "join_use_nulls": 1,
        "session_timezone": "UTC",
        # An entity query's own ORDER BY is the order of the answer.
        "query_plan_remove_redundant_sorting": 0,
        "output_format_arrow_string_as_string": 1,
        "output_format_arrow_low_cardinality_as_dictionary": 0,
        # Within a machine, packing costs more than it saves.
        "output_format_arrow_compression_method": "none" if _is_near(config) else "lz4_frame",
    }


def _is_near(config: Any) -> bool:
    return config.host in ("127.0.0.1", "::1", "localhost")
