"""Retrieval without entity rows: each (keys, event) that the views have in a range, once."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from clickhouse_connect.driver.client import Client
from feast import FeatureView

from atlas.clickhouse import sql
from atlas.clickhouse.column_types import bare, family
from atlas.errors import InvalidInput
from atlas.offline.asof import ViewJoin
from atlas.offline.entity_rows import EntityQuery
from atlas.offline.feast_internals import compute_non_entity_date_range
from atlas.offline.key_equality import Key
from atlas.offline.time_spans import bound_of

__all__ = ["rows_of_range"]

_TIME = "event_timestamp"


def rows_of_range(
    joins: Sequence[ViewJoin],
    views: Sequence[FeatureView],
    start: datetime | None,
    end: datetime | None,
    client: Client,
    settings: dict[str, Any],
) -> EntityQuery:
    """Return the entity rows of a range: keys and `event_timestamp`, ordered by time, then keys.

    Both ends are included, and naive ones are UTC. Without an end it is now, without a start the
    longest TTL before the end, or 30 days. Rows without a key or without a time are not among
    them. Views without entities add rows only where no view has any; else they are joined to the
    others' rows.

    Raises
    ------
    InvalidInput
        If the views have different keys, so that a row of one says nothing of another's key, or
        hold a key in types that have none in common; or if an end is no moment.
    """
    first, last = compute_non_entity_date_range(
        list(views), bound_of("start_date", start), bound_of("end_date", end)
    )
    if first > last:
        raise InvalidInput(
            f"Expected start_date before end_date; found {first.isoformat()} and "
            f"{last.isoformat()}. Exchange them."
        )
    keyed = [join for join in joins if join.keys] or list(joins)
    names = list(dict.fromkeys(key.entity_column for key in keyed[0].keys))
    for join in keyed:
        if {key.entity_column for key in join.keys} != set(names):
            raise InvalidInput(
                "Expected views with the same keys, to retrieve a range without entity rows; found "
                f"{_keys_of(keyed[0])} and {_keys_of(join)}. Give entity rows, or ask for one of "
                "them at a time."
            )
    for name in names:
        _refuse_unlike_types(name, keyed)
    exact = any(_is_exact(join.event_type) for join in keyed)
    time = f"fromUnixTimestamp64Nano({_ROW_TIME}, 'UTC')"
    # Where no source has them, the answer need not have nanoseconds either.
    time = time if exact else f"toDateTime64({time}, 6, 'UTC')"
    columns = [f"{_row_key(p)} AS {sql.name(name)}" for p, name in enumerate(names)]
    places = ", ".join([_ROW_TIME, *(_row_key(p) for p in range(len(names)))])
    events = "\nUNION ALL\n".join(_events(join, names, first, last) for join in keyed)
    query = (
        f"SELECT {', '.join([*columns, f'{time} AS {_TIME}'])}\n"
        f"FROM (\n{events}\n)\nGROUP BY {places}\nORDER BY {places}"
    )
    return EntityQuery(query, client, settings, span=(first, last))


def _refuse_unlike_types(name: str, joins: Sequence[ViewJoin]) -> None:
    found = [(join, key) for join in joins for key in join.keys if key.entity_column == name]
    (first, of_first), *others = found
    for join, key in others:
        if not _alike(of_first.source_type, key.source_type):
            told = f"{_typed_key(first, of_first)} and {_typed_key(join, key)}"
            raise InvalidInput(
                f"Expected the key {name!r} in one type, to retrieve a range of several views; "
                f"found {told}. Cast one of them in a query: ClickHouseSource(query='SELECT …')."
            )


def _alike(one: str, other: str) -> bool:
    """Say whether values of both types fit into one column as they are."""
    kinds = {family(one), family(other)}
    if len(kinds) == 1 or all(kind == "String" or kind.startswith("Enum") for kind in kinds):
        return True
    signed = [int(kind[3:]) for kind in kinds if kind.startswith("Int")]
    unsigned = [int(kind[4:]) for kind in kinds if kind.startswith("UInt")]
    if len(signed) + len(unsigned) < len(kinds):
        return False
    # Int64 is what holds UInt32 and Int8; nothing that ClickHouse takes holds UInt64 and Int64.
    return not (signed and unsigned) or unsigned[0] < max(64, signed[0])


def _typed_key(join: ViewJoin, key: Key) -> str:
    return f"{join.view} ({key.source_column} {key.source_type})"


_ROW_TIME = "__atlas_event"


def _row_key(position: int) -> str:
    return f"__atlas_key_{position}"


def _events(join: ViewJoin, names: Sequence[str], first: datetime, last: datetime) -> str:
    event = sql.name(join.event)
    sources = {key.entity_column: sql.name(key.source_column) for key in join.keys}
    bounds = [(">=", sql.moment(first)), ("<=", sql.moment(last))]
    conditions = [
        *(f"{column} IS NOT NULL" for column in [event, *sources.values()]),
        *(f"{event} {sign} {bound}" for sign, bound in bounds if bound),
    ]
    columns = [
        *(f"{sources[name]} AS {_row_key(p)}" for p, name in enumerate(names)),
        f"assumeNotNull({sql.ticks(event, bare(join.event_type))}) AS {_ROW_TIME}",
    ]
    return f"SELECT {', '.join(columns)} FROM {join.source} WHERE {' AND '.join(conditions)}"


def _is_exact(event_type: str) -> bool:
    kind = bare(event_type)
    return kind.startswith("DateTime64(") and int(kind[11]) > 6


def _keys_of(join: ViewJoin) -> str:
    return f"{join.view} ({', '.join(key.entity_column for key in join.keys)})"
