"""What the regime service asks of ClickHouse: which models speak, and rows that Redis lacks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import TypeVar

import numpy as np
import polars as pl
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError
from urllib3.exceptions import HTTPError

from atlas.clickhouse.values import frame_of, moment
from atlas.clock import from_micros
from atlas.errors import StoreUnavailable
from atlas.features import RegimeSet
from atlas.regimes import Rows

__all__ = ["RegimeHistory"]

Answer = TypeVar("Answer")


class RegimeHistory:
    """Reads the offline store, and opens it anew when it was away.

    Parameters
    ----------
    connect : callable
        Opens a client of the database.
    """

    def __init__(self, regimes: RegimeSet, connect: Callable[[], Client]) -> None:
        self._regimes = regimes
        self._connect = connect
        self._client: Client | None = None

    def versions(self) -> dict[str, str]:
        """Return the stamp of the newest refit of each symbol that has one.

        Raises
        ------
        StoreUnavailable
            If ClickHouse does not answer.
        """
        return self._ask(self._versions)

    def rows(self, after_us: Mapping[str, int]) -> dict[str, Rows]:
        """Return the stored rows of symbols after a moment of each, newest versions, in order.

        Raises
        ------
        StoreUnavailable
            If ClickHouse does not answer.
        """
        frame = self._ask(lambda client: self._versions_of_rows(client, after_us))
        newest = frame.sort("symbol", "event_timestamp", "known_at").unique(
            ["symbol", "event_timestamp"], keep="last", maintain_order=True
        )
        found = {}
        for (symbol,), part in newest.group_by("symbol", maintain_order=True):
            rows = Rows(
                part["event_timestamp"].dt.timestamp("us").to_numpy(),
                part["known_at"].dt.timestamp("us").to_numpy(),
                part.select(pl.col(self._regimes.recipe.names).fill_null(np.nan)).to_numpy(),
            )
            found[str(symbol)] = rows.after(after_us[str(symbol)], before=2**62)
        return found

    def close(self) -> None:
        """Close the client."""
        if self._client is not None:
            self._client.close()
            self._client = None

    def _versions(self, client: Client) -> dict[str, str]:
        view = self._regimes.view
        if not int(str(client.command(f"EXISTS TABLE `{view}`"))):
            return {}
        found = client.query(
            f"SELECT symbol, max(model_version) FROM `{view}` WHERE model_version IS NOT NULL "
            "GROUP BY symbol ORDER BY symbol"
        ).result_rows
        return {str(symbol): str(version) for symbol, version in found}

    def _versions_of_rows(self, client: Client, after_us: Mapping[str, int]) -> pl.DataFrame:
        names = ", ".join(f"`{name}`" for name in self._regimes.recipe.names)
        first: datetime = from_micros(min(after_us.values()))
        table = client.query_arrow(
            f"SELECT symbol, event_timestamp, known_at, {names} "
            f"FROM `{self._regimes.source.view}` WHERE symbol IN {{symbols:Array(String)}} "
            "AND event_timestamp > {after:DateTime64(6, 'UTC')}",
            parameters={"symbols": list(after_us), "after": moment(first)},
            use_strings=True,
        )
        return frame_of(table)

    def _ask(self, question: Callable[[Client], Answer]) -> Answer:
        try:
            if self._client is None:
                self._client = self._connect()
            return question(self._client)
        except (ClickHouseError, HTTPError, OSError) as error:
            self._client = None
            raise StoreUnavailable(
                f"Expected ClickHouse to answer about {self._regimes.view}; found: "
                f"{str(error)[:300]}. Start it, or look at logs/clickhouse.log."
            ) from error
