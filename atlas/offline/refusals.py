"""What ClickHouse's errors during a retrieval mean to who asked: one sentence each."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from clickhouse_connect.driver.exceptions import ClickHouseError
from urllib3.exceptions import HTTPError

from atlas.clickhouse.reasons import reason_of
from atlas.errors import InvalidInput, StoreUnavailable

__all__ = ["out_of_memory", "told"]

# ClickHouse's own codes.
_MEMORY = (241, 191)  # MEMORY_LIMIT_EXCEEDED, SET_SIZE_LIMIT_EXCEEDED
_TIME = (159, 160)  # TIMEOUT_EXCEEDED, TOO_SLOW
_BUSY = (202, 210, 236, 394)  # TOO_MANY_SIMULTANEOUS_QUERIES, NETWORK_ERROR, ABORTED, CANCELLED


def out_of_memory(error: ClickHouseError) -> bool:
    """Say whether less data at once would help."""
    return getattr(error, "code", None) in _MEMORY


@contextmanager
def told(what: str) -> Iterator[None]:
    """Turn ClickHouse's errors into a sentence about `what`, which reads as its subject.

    Raises
    ------
    StoreUnavailable
        If ClickHouse does not answer, or not within its limits: the same may work later.
    InvalidInput
        If what is asked cannot be answered.
    """
    try:
        yield
    except (ClickHouseError, HTTPError, OSError) as error:
        code = getattr(error, "code", None)
        account = reason_of(error)
        if code in _MEMORY:
            raise StoreUnavailable(
                f"Expected {what} to fit into ClickHouse's memory; found: {account}. Raise "
                "max_memory_usage or the server's share, or ask for fewer features."
            ) from error
        if code in _TIME:
            raise StoreUnavailable(
                f"Expected {what} to be answered in time; found: {account}. Ask for fewer rows, "
                "or give a longer timeout."
            ) from error
        if code is None or code in _BUSY:
            raise StoreUnavailable(
                f"Expected ClickHouse to answer {what}; found: {account}. Try again once it runs."
            ) from error
        raise InvalidInput(
            f"Expected {what} to run in ClickHouse; found: {account}. Correct it, or the table "
            "behind it, and run `feast apply` if a view has changed."
        ) from error
