"""How Atlas opens a ClickHouse client: ordinary clickhouse-connect over HTTP, in UTC."""

from __future__ import annotations

from clickhouse_connect import get_client
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError

from atlas.clickhouse.reasons import reason_of
from atlas.errors import StoreUnavailable

__all__ = ["connect"]


def connect(
    *,
    host: str = "127.0.0.1",
    port: int = 8123,
    database: str | None = None,
    user: str = "default",
    password: str = "",
    secure: bool = False,
) -> Client:
    """Return a client of its own: not bound to a session, so any number may work side by side.

    Raises
    ------
    StoreUnavailable
        If nothing answers there, or the database does not exist.
    """
    try:
        return get_client(
            host=host,
            port=port,
            database=database or "default",
            username=user,
            password=password,
            secure=secure,
            autogenerate_session_id=False,
            query_limit=0,
            # A frame's times are UTC on every machine, whatever its own zone.
            tz_source="server",
        )
    except (ClickHouseError, OSError) as error:
        raise StoreUnavailable(
            f"Expected ClickHouse with database {database or 'default'!r} at {host}:{port}; "
            f"found: {reason_of(error)}. Start it with `make up`, or set ATLAS_CLICKHOUSE_PORT."
        ) from error
