"""The embedded ClickHouse server: chDB in one owner process, behind ClickHouse's HTTP interface."""

from atlas.clickhouse.server.limits import Limits
from atlas.clickhouse.server.process import serve

__all__ = ["Limits", "serve"]
