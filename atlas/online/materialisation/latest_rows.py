"""The SELECTs of a run: what there is to look at, and each key's latest row of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import pyarrow as pa
from clickhouse_connect.driver.client import Client

from atlas.clickhouse import sql
from atlas.clickhouse.column_types import bare, is_time, readable
from atlas.clock import from_micros
from atlas.online.materialisation.key_ranges import KeyRange
from atlas.online.materialisation.view_plan import ViewPlan

__all__ = [
    "Scope",
    "Since",
    "Survey",
    "conditions",
    "has_ties",
    "latest_rows_query",
    "shown_columns",
    "survey",
    "ticks",
    "version",
]

_NS_PER_US = 1_000
_NEVER = "toInt128('-9223372036854775808')"


@dataclass(frozen=True, slots=True)
class Since:
    """A row is new if any of its times is at or after these microseconds; None: does not say."""

    event_us: int
    created_us: int | None
    written_us: int | None


@dataclass(frozen=True, slots=True)
class Scope:
    """Which rows a run looks at: events in `[start, end]`, and new ones only if `since` is set."""

    end: datetime
    start: datetime | None = None
    since: Since | None = None


@dataclass(frozen=True, slots=True)
class Survey:
    """What there is to look at; times in microseconds, None where there is none."""

    rows: int
    keys: int
    """Roughly."""
    first_event_us: int | None
    last_event_us: int | None
    last_created_us: int | None
    last_written_us: int | None


def survey(client: Client, plan: ViewPlan, scope: Scope, settings: dict[str, object]) -> Survey:
    """Count the rows of a scope and find the ends of their times."""
    event = ticks(plan, plan.event)
    keys = ", ".join(f"r.{sql.name(key.column)}" for key in plan.keys)
    columns = [
        "count()",
        f"uniq({keys})" if keys else "toUInt64(count() > 0)",
        f"min({event})",
        f"max({event})",
        f"max({ticks(plan, plan.created)})" if plan.created else "NULL",
        f"max({ticks(plan, plan.written)})" if _has_written(plan) else "NULL",
    ]
    query = (
        f"SELECT {', '.join(columns)} FROM {plan.source} AS r "
        f"WHERE {' AND '.join(conditions(plan, scope))}"
    )
    [(rows, n_keys, *ends)] = client.query(query, settings=settings).result_rows
    found = [end // _NS_PER_US if rows and end is not None else None for end in ends]
    return Survey(int(rows), int(n_keys), *found)


def latest_rows_query(
    plan: ViewPlan, scope: Scope, seen: Survey, keys: KeyRange, *, settles_ties: bool
) -> str:
    """Return the SELECT of each key's latest row, for a range of the keys.

    The columns are the keys, the features, the event and the creation (if the view has one), in
    the plan's order. A first look reads times only and finds each key's newest (event, creation);
    the features are then read of those rows alone.

    Parameters
    ----------
    settles_ties : bool
        Whether rows that tie are ordered by their values, so that one is left; that costs a sort.
    """
    names = [f"r.{sql.name(key.column)}" for key in plan.keys]
    order = _order(plan)
    bounds = [f"r.{sql.name(plan.event)} IS NOT NULL", *keys.conditions(plan)]
    for side, micros in ((">=", seen.first_event_us), ("<=", seen.last_event_us)):
        moment = _bound(plan, micros, after=side == "<=")
        if moment:
            bounds.append(f"r.{sql.name(plan.event)} {side} {moment}")
    # Both looks have the same bounds: a row that has come since the survey must not be a key's
    # newest in the one and absent from the other.
    newest = (
        f"SELECT {', '.join([*names, f'max({order})'])} FROM {plan.source} AS r "
        f"WHERE {' AND '.join([*conditions(plan, scope), *bounds])} "
        f"GROUP BY {', '.join(names) if names else 'tuple()'}"
    )
    query = (
        f"SELECT {shown_columns(plan)} FROM {plan.source} AS r "
        f"WHERE {' AND '.join(bounds)} AND ({', '.join([*names, order])}) IN ({newest})"
    )
    if not settles_ties:
        return query
    by = f" BY {', '.join(names)}" if names else ""
    return f"{query} ORDER BY {_values_hash(plan)} DESC LIMIT 1{by}"


def has_ties(plan: ViewPlan, rows: pa.Table) -> bool:
    """Say whether a key has several rows."""
    names = rows.column_names[: len(plan.keys)]
    keys = rows.select(names).group_by(names).aggregate([]).num_rows if names else 1
    return bool(rows.num_rows > keys)


def conditions(plan: ViewPlan, scope: Scope) -> list[str]:
    """Return what a row of the scope meets; rows are called r."""
    event = f"r.{sql.name(plan.event)}"
    # A key that is null matches nothing, here as in a join with history.
    found = [f"{event} IS NOT NULL"]
    found += [f"r.{sql.name(key.column)} IS NOT NULL" for key in plan.keys]
    for side, when in ((">=", scope.start), ("<=", scope.end)):
        bound = sql.moment(when) if when else None
        if bound:
            found.append(f"{event} {side} {bound}")
    if scope.since:
        found.append(_is_new(plan, scope.since))
    return found


def shown_columns(plan: ViewPlan) -> str:
    """Write the keys, the features, the event and the creation (if there is one) for Arrow."""
    columns = [column.column for column in (*plan.keys, *plan.features)]
    columns += [plan.event, *([plan.created] if plan.created else [])]
    return ", ".join(
        f"{readable('r.' + sql.name(column), plan.types[column])} AS {sql.name(f'c{at}')}"
        for at, column in enumerate(columns)
    )


def version(plan: ViewPlan) -> str:
    """Write the number by which one of two versions of an event is the later."""
    created = ticks(plan, plan.created) if plan.created else None
    return sql.version_order(created, _values(plan))


def ticks(plan: ViewPlan, column: str | None) -> str:
    """Write one of the plan's times as nanoseconds since 1970."""
    assert column is not None
    return sql.ticks(f"r.{sql.name(column)}", bare(plan.types[column]))


def _is_new(plan: ViewPlan, since: Since) -> str:
    times: Sequence[tuple[str | None, int | None]] = (
        (plan.event, since.event_us),
        (plan.created, since.created_us),
        (plan.written if _has_written(plan) else None, since.written_us),
    )
    ways = [
        f"r.{sql.name(column)} >= {sql.moment(from_micros(micros))}"
        for column, micros in times
        if column and micros is not None and sql.moment(from_micros(micros))
    ]
    return f"({' OR '.join(ways)})"


def _bound(plan: ViewPlan, micros: int | None, *, after: bool) -> str | None:
    """Write an end of the events; they may have nanoseconds beyond the microsecond."""
    if micros is None:
        return None
    return sql.moment(from_micros(micros + (1 if after else 0)))


def _order(plan: ViewPlan) -> str:
    """Write the number by which one of two rows of a key is the later; no creation comes first."""
    created = f"ifNull(toInt128({ticks(plan, plan.created)}), {_NEVER})" if plan.created else _NEVER
    event = ticks(plan, plan.event)
    return f"assumeNotNull(bitShiftLeft(toInt128({event}), 64) + {created})"


def _values(plan: ViewPlan) -> list[str]:
    # In the order of the source's names, as history and pulls have them: one row wins everywhere.
    columns = sorted({feature.column for feature in plan.features})
    return [f"r.{sql.name(column)}" for column in columns] or ["1"]


def _values_hash(plan: ViewPlan) -> str:
    return sql.version_order(None, _values(plan))


def _has_written(plan: ViewPlan) -> bool:
    return plan.written is not None and is_time(plan.types[plan.written])
