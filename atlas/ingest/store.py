"""How a load tells that ClickHouse did not take it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from clickhouse_connect.driver.exceptions import ClickHouseError

from atlas.errors import StoreUnavailable

__all__ = ["reaching"]


@contextmanager
def reaching(what: str) -> Iterator[None]:
    """Turn every error of ClickHouse inside the block into `StoreUnavailable`."""
    try:
        yield
    except (ClickHouseError, OSError) as error:
        found = (str(error).strip() or type(error).__name__).splitlines()[0][:300]
        raise StoreUnavailable(
            f"Expected ClickHouse to take {what}; found: {found}. Nothing is lost: load again when "
            "it answers."
        ) from error
