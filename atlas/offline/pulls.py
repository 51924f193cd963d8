"""The SELECTs that pull a source's rows for materialisation: each key's latest, or all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from atlas.clickhouse import sql
from atlas.clickhouse.column_types import bare, readable
from atlas.offline.feast_internals import DUMMY_ENTITY_ID, DUMMY_ENTITY_VAL

__all__ = ["all_rows_query", "latest_rows_query"]


def all_rows_query(
    source: str,
    types: Mapping[str, str],
    keys: Sequence[str],
    features: Sequence[str],
    event: str,
    created: str | None,
    start: datetime | None,
    end: datetime | None,
) -> str:
    """Return the SELECT of every row whose event lies in `[start, end]`."""
    columns = _columns(types, keys, features, event, created)
    where = [f"r.{sql.name(event)} IS NOT NULL", *_window(event, start, end)]
    return f"SELECT {columns} FROM {source} AS r WHERE {' AND '.join(where)}"


def latest_rows_query(
    source: str,
    types: Mapping[str, str],
    keys: Sequence[str],
    features: Sequence[str],
    event: str,
    created: str | None,
    start: datetime,
    end: datetime,
) -> str:
    """Return the SELECT of each key's latest row whose event lies in `[start, end]`.

    A start after the source's newest row is taken as no start.
    """
    time = sql.name(event)
    order = sql.row_order(
        sql.ticks(f"r.{time}", bare(types[event])),
        sql.ticks(f"r.{sql.name(created)}", bare(types[created])) if created else None,
        [f"r.{sql.name(feature)}" for feature in features],
    )
    carried = [*features, event, *([created] if created else [])]
    latest = ", ".join(f"r.{sql.name(column)}" for column in carried)
    where = [f"r.{time} IS NOT NULL", *_window(event, None, end)]
    if since := sql.moment(start):
        where.append(f"(r.{time} >= {since} OR (SELECT max({time}) FROM {source}) < {since})")
    groups = [f"r.{sql.name(key)} AS {sql.name(key)}" for key in keys]
    by = ", ".join(f"r.{sql.name(key)}" for key in keys)
    rows = (
        f"SELECT {', '.join([*groups, f'argMax(tuple({latest}), {order}) AS __atlas_latest'])} "
        f"FROM {source} AS r WHERE {' AND '.join(where)}"
        # Without keys an aggregate of nothing would still be one row.
        f" GROUP BY {by if by else 'tuple()'}"
    )
    columns = [
        *(f"{readable('g.' + sql.name(key), types[key])} AS {sql.name(key)}" for key in keys),
        *(
            f"{readable(f'tupleElement(g.__atlas_latest, {position})', types[column])} "
            f"AS {sql.name(column)}"
            for position, column in enumerate(carried, start=1)
        ),
        *([] if keys else [_dummy()]),
    ]
    return f"SELECT {', '.join(columns)} FROM ({rows}) AS g"


def _columns(
    types: Mapping[str, str],
    keys: Sequence[str],
    features: Sequence[str],
    event: str,
    created: str | None,
) -> str:
    names = dict.fromkeys([*keys, *features, event, *([created] if created else [])])
    columns = [
        f"{readable('r.' + sql.name(column), types[column])} AS {sql.name(column)}"
        for column in names
    ]
    return ", ".join(columns if keys else [*columns, _dummy()])


def _dummy() -> str:
    return f"{sql.text(DUMMY_ENTITY_VAL)} AS {sql.name(DUMMY_ENTITY_ID)}"


def _window(event: str, start: datetime | None, end: datetime | None) -> list[str]:
    time = f"r.{sql.name(event)}"
    bounds = [
        (">=", sql.moment(start) if start else None),
        ("<=", sql.moment(end) if end else None),
    ]
    return [f"{time} {side} {bound}" for side, bound in bounds if bound]
