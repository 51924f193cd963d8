"""The point-in-time join: for each entity row, the view's latest row known at that moment.

A view's row matches when `t - ttl <= event <= t`, both ends included; of those the latest by
(event, creation) wins. Since the limit of age only cuts old rows, "the latest, or nothing if it is
too old" is the same answer, and that is what ClickHouse's ASOF join gives in one pass.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from atlas.clickhouse import sql
from atlas.clickhouse.column_types import bare, has_missing_value, readable
from atlas.offline.entity_rows import ROW, TIME

__all__ = ["Feature", "Key", "ViewJoin", "found_column", "point_in_time_query"]

_NANOS = 1_000


@dataclass(frozen=True, slots=True)
class Key:
    """A column of the entity rows, and the source's column that it must equal."""

    entity_column: str
    source_column: str
    source_type: str


@dataclass(frozen=True, slots=True)
class Feature:
    """A column of the source, and its name in the answer."""

    source_column: str
    source_type: str
    output: str


@dataclass(frozen=True, slots=True)
class ViewJoin:
    """All that the join needs to know of one feature view."""

    source: str
    keys: tuple[Key, ...]
    event: str
    event_type: str
    created: str | None
    created_type: str
    features: tuple[Feature, ...]
    ttl: timedelta | None


def found_column(index: int) -> str:
    """Return the name of the column that says whether a view had a value for the row."""
    return f"__atlas_found_{index}"


def point_in_time_query(
    entity_table: str,
    selections: Sequence[str],
    joins: Sequence[ViewJoin],
    span: tuple[datetime | None, datetime | None],
    *,
    as_known_then: bool,
) -> str:
    """Return the SELECT that gives one row for each entity row, in order.

    Parameters
    ----------
    entity_table : str
        Quoted table with `ROW`, `TIME` and the key columns.
    selections : sequence of str
        Expressions over the entity rows, under the alias `e`, to bring back.
    span : (first, last)
        Bounds of the entity rows' times; rows outside cannot match and are not read.
    as_known_then : bool
        Hide versions of a row that were created after the entity row's time (bitemporal).
    """
    columns = list(selections)
    left = ["*"] if selections else [ROW, TIME]
    tables = []
    for index, join in enumerate(joins):
        bitemporal = as_known_then and join.created is not None
        left += _left_columns(index, join)
        tables.append(_asof(index, join, entity_table, span, bitemporal=bitemporal))
        columns.append(_found(index, join))
        columns += _feature_columns(index, join)
    joined = "\n".join(tables)
    return (
        f"SELECT {', '.join(columns)}\n"
        f"FROM (SELECT {', '.join(left)} FROM {entity_table}) AS e\n{joined}\n"
        f"ORDER BY e.{ROW}"
    )


def _left_columns(index: int, join: ViewJoin) -> list[str]:
    columns = [
        # A value that the source's type cannot hold equals none of its keys.
        f"accurateCastOrNull({sql.name(key.entity_column)}, {sql.text(bare(key.source_type))}) "
        f"AS {_key(index, position)}"
        for position, key in enumerate(join.keys)
    ]
    if not join.keys:
        # ASOF wants an equality even where a view has no entity.
        columns.append(f"toNullable(toUInt8(1)) AS {_key(index, 0)}")
    return columns


def _asof(
    index: int,
    join: ViewJoin,
    entity_table: str,
    span: tuple[datetime | None, datetime | None],
    *,
    bitemporal: bool,
) -> str:
    event = sql.ticks(sql.name(join.event), bare(join.event_type))
    created = sql.ticks(sql.name(join.created), bare(join.created_type)) if join.created else None
    values = [sql.name(feature.source_column) for feature in join.features]
    keys = [sql.name(key.source_column) for key in join.keys] or ["toUInt8(1)"]
    if bitemporal:
        # A row that came when a later one was already visible is never the answer. Without
        # those, rows become visible in their own order, and the last visible one is the latest.
        since = f"greatest({event}, {created})"
        order = sql.row_order(event, created, values)
        window = f"{since} RANGE BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW"
    else:
        # Of the versions of one event only the last counts. ASOF itself does not define which
        # of two rows of the same time it takes.
        since = event
        order = sql.version_order(created, values)
        # By the column as it is: ClickHouse need not sort what the table has in this order.
        window = f"{sql.name(join.event)} RANGE BETWEEN CURRENT ROW AND CURRENT ROW"
    partition = f"PARTITION BY {', '.join(keys)} " if join.keys else ""
    order_name, last_name = f"__atlas_order_{index}", f"__atlas_last_{index}"
    columns = [
        *(f"{column} AS {_key(index, position)}" for position, column in enumerate(keys)),
        f"assumeNotNull({event}) AS {_event(index)}",
        f"assumeNotNull({since}) AS {_since(index)}",
        *(
            f"{readable(sql.name(feature.source_column), feature.source_type)} "
            f"AS {_value(index, position)}"
            for position, feature in enumerate(join.features)
        ),
        f"{order} AS {order_name}",
        f"max({order_name}) OVER ({partition}ORDER BY {window}) AS {last_name}",
    ]
    where = " AND ".join(_conditions(join, entity_table, span, bitemporal=bitemporal))
    rows = (
        f"SELECT * FROM (SELECT {', '.join(columns)} FROM {join.source} WHERE {where}) "
        f"WHERE {order_name} = {last_name}"
    )
    equal = " AND ".join(
        f"e.{_key(index, position)} = v{index}.{_key(index, position)}"
        for position in range(len(keys))
    )
    return (
        f"ASOF LEFT JOIN ({rows}) AS v{index} ON {equal} AND e.{TIME} >= v{index}.{_since(index)}"
    )


def _conditions(
    join: ViewJoin,
    entity_table: str,
    span: tuple[datetime | None, datetime | None],
    *,
    bitemporal: bool,
) -> list[str]:
    event = sql.name(join.event)
    # A version whose creation is not told cannot be shown to have been known.
    dated = [event, sql.name(join.created)] if bitemporal and join.created else [event]
    conditions = [f"{time} IS NOT NULL" for time in dated]
    first, last = span
    if last is not None and (bound := sql.moment(last)):
        conditions += [f"{time} <= {bound}" for time in dated]
    if join.ttl and first is not None and (bound := _earliest(first, join.ttl)):
        conditions.append(f"{event} >= {bound}")
    if join.keys:
        # Only the keys asked about: the join holds its right side in memory.
        asked = ", ".join(
            f"accurateCastOrNull({sql.name(key.entity_column)}, {sql.text(bare(key.source_type))})"
            for key in join.keys
        )
        sources = ", ".join(sql.name(key.source_column) for key in join.keys)
        conditions.append(f"({sources}) IN (SELECT DISTINCT {asked} FROM {entity_table})")
    return conditions


def _earliest(first: datetime, ttl: timedelta) -> str | None:
    try:
        return sql.moment(first - ttl)
    except OverflowError:
        return None


def _found(index: int, join: ViewJoin) -> str:
    event = f"v{index}.{_event(index)}"
    if not join.ttl:
        return f"isNotNull({event}) AS {found_column(index)}"
    nanos = join.ttl // timedelta(microseconds=1) * _NANOS
    # Int128: times lie up to 585 years apart, which Int64 nanoseconds do not hold.
    return (
        f"ifNull(toInt128(e.{TIME}) - {event} <= toInt128('{nanos}'), 0) AS {found_column(index)}"
    )


def _feature_columns(index: int, join: ViewJoin) -> list[str]:
    columns = []
    for position, feature in enumerate(join.features):
        value = f"v{index}.{_value(index, position)}"
        if has_missing_value(feature.source_type):
            value = f"if({found_column(index)}, {value}, NULL)"
        columns.append(f"{value} AS {sql.name(feature.output)}")
    return columns


def _key(index: int, position: int) -> str:
    return f"__atlas_key_{index}_{position}"


def _since(index: int) -> str:
    return f"__atlas_since_{index}"


def _event(index: int) -> str:
    return f"__atlas_event_{index}"


def _value(index: int, position: int) -> str:
    return f"__atlas_value_{index}_{position}"
