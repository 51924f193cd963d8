"""The point-in-time join: for each entity row, the view's latest row known at that moment.

A view's row matches when `t - ttl <= event <= t`, both ends included; of those the latest by
(event, creation) wins. Since the limit of age only cuts old rows, "the latest, or nothing if it is
too old" is the same answer, and that is what ClickHouse's ASOF join gives in one pass.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from atlas.clickhouse import sql
from atlas.clickhouse.column_types import bare, has_missing_value, readable
from atlas.offline.key_equality import Key, asked_key, source_key
from atlas.offline.missing_containers import mark_of

__all__ = [
    "ASKED",
    "FOUND",
    "ROW",
    "TIME",
    "Feature",
    "Scope",
    "ViewJoin",
    "asked_column",
    "candidates_query",
    "view_query",
]

ASKED = "__atlas_asked"
"""The table with `ROW`, `TIME` (nanoseconds) and the keys of some entity rows."""
ROW = "__atlas_row"
TIME = "__atlas_time"
FOUND = "__atlas_found"

_UNTIL, _SINCE, _EVENT = "__atlas_until", "__atlas_since", "__atlas_event"
_ORDER, _LAST = "__atlas_order", "__atlas_last"
_NANOS = 1_000


@dataclass(frozen=True, slots=True)
class Feature:
    """A column of the source, and its name in the answer.

    `mark` is the source's column that says where an array, map or tuple is missing, if it has one.
    """

    source_column: str
    source_type: str
    output: str
    mark: str | None = None


@dataclass(frozen=True, slots=True)
class ViewJoin:
    """All that the join needs to know of one feature view."""

    view: str
    where: str
    source: str
    keys: tuple[Key, ...]
    event: str
    event_type: str
    created: str | None
    created_type: str
    features: tuple[Feature, ...]
    ties: tuple[str, ...]
    """The source's columns that settle which of two rows of one (event, creation) is the later.

    All of the view's features in the order of their names, whichever are asked for: every request
    must take its values from the same row.
    """
    ttl: timedelta | None


@dataclass(frozen=True, slots=True)
class Scope:
    """Which entity rows a query is about.

    Attributes
    ----------
    first, last : datetime or None
        Bounds of their times; None if there are none.
    slice_of_key : bool
        Whether they are a slice in time, before which a key may have more rows than memory holds.
    as_known_then : bool
        Hide versions of a row that were created after the entity row's time (bitemporal).
    """

    first: datetime | None
    last: datetime | None
    slice_of_key: bool = False
    as_known_then: bool = False


def asked_column(position: int) -> str:
    """Return the name of a key's column in `ASKED`."""
    return f"__atlas_asked_{position}"


def view_query(join: ViewJoin, scope: Scope) -> str:
    """Return the SELECT with one row for each of `ASKED`: its `ROW`, `FOUND`, and the features.

    What is not found is NULL; a type that cannot be has a column beside that marks it.
    """
    bitemporal = scope.as_known_then and join.created is not None
    until = TIME if bitemporal else sql.latest_bound(TIME)
    # ASOF wants an equality even where a view has no entity.
    left = [f"{asked_key(key, asked_column(p))} AS {_key(p)}" for p, key in enumerate(join.keys)]
    left = left or [f"toNullable(toUInt8(1)) AS {_key(0)}"]
    equal = " AND ".join(f"__atlas_e.{_key(p)} = __atlas_v.{_key(p)}" for p in range(len(left)))
    columns = [f"__atlas_e.{ROW} AS {ROW}", f"{_found(join)} AS {FOUND}", *_feature_columns(join)]
    candidates = _unmasked(join, scope) if bitemporal else _candidates(join, scope)
    return (
        f"SELECT {', '.join(columns)}\n"
        f"FROM (SELECT {ROW}, {TIME}, {', '.join(left)}, {until} AS {_UNTIL} FROM {ASKED}) "
        f"AS __atlas_e\nASOF LEFT JOIN (\n{candidates}\n) AS __atlas_v "
        f"ON {equal} AND __atlas_e.{_UNTIL} >= __atlas_v.{_SINCE}"
    )


def candidates_query(join: ViewJoin, scope: Scope) -> str:
    """Return the SELECT of the source's rows that `view_query` has to read."""
    return f"SELECT * FROM {join.source} WHERE {' AND '.join(_conditions(join, scope))}"


def _candidates(join: ViewJoin, scope: Scope) -> str:
    """Order rows and their versions by one number, so that ASOF has no two to choose from.

    ASOF itself does not define which of two rows of the same time it takes.
    """
    order = sql.row_order(_event(join), _created(join), _values(join))
    return (
        f"SELECT {', '.join(_right_columns(join))}, {order} AS {_SINCE} "
        f"FROM {join.source} WHERE {' AND '.join(_conditions(join, scope))}"
    )


def _unmasked(join: ViewJoin, scope: Scope) -> str:
    """Leave out the rows that came when a later one was already visible.

    They are never the answer, and without them rows become visible in their own order: the last
    visible one is the latest.
    """
    order = sql.row_order(_event(join), _created(join), _values(join))
    since = f"assumeNotNull(greatest({_event(join)}, {_created(join)}))"
    partition = f"PARTITION BY {', '.join(map(source_key, join.keys))} " if join.keys else ""
    window = f"{partition}ORDER BY {_SINCE} RANGE BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW"
    columns = [
        *_right_columns(join),
        f"{since} AS {_SINCE}",
        f"{order} AS {_ORDER}",
        f"max({_ORDER}) OVER ({window}) AS {_LAST}",
    ]
    return (
        f"SELECT * FROM (SELECT {', '.join(columns)} "
        f"FROM {join.source} WHERE {' AND '.join(_conditions(join, scope))}) "
        f"WHERE {_ORDER} = {_LAST}"
    )


def _right_columns(join: ViewJoin) -> list[str]:
    keys = [f"{source_key(key)} AS {_key(p)}" for p, key in enumerate(join.keys)]
    return [
        *(keys or [f"toUInt8(1) AS {_key(0)}"]),
        f"assumeNotNull({_event(join)}) AS {_EVENT}",
        *(
            f"{readable(sql.name(feature.source_column), feature.source_type)} AS {_value(p)}"
            for p, feature in enumerate(join.features)
        ),
        *(
            f"{sql.name(feature.mark)} AS {_mark(p)}"
            for p, feature in enumerate(join.features)
            if feature.mark
        ),
    ]


def _conditions(join: ViewJoin, scope: Scope) -> list[str]:
    event = sql.name(join.event)
    created = sql.name(join.created) if scope.as_known_then and join.created else None
    # A version whose creation is not told cannot be shown to have been known.
    dated = [event, created] if created else [event]
    conditions = [f"{time} IS NOT NULL" for time in dated]
    if scope.last is None:
        # Without a time to ask about nothing matches, and nothing need be read.
        return ["0"]
    if bound := sql.moment(scope.last):
        conditions += [f"{time} <= {bound}" for time in dated]
    if join.keys:
        # Only the keys asked about: the join holds its right side in memory.
        sources = ", ".join(map(source_key, join.keys))
        asked = ", ".join(asked_key(key, asked_column(p)) for p, key in enumerate(join.keys))
        conditions.append(f"({sources}) IN (SELECT DISTINCT {asked} FROM {ASKED})")
    if scope.first is None:
        return conditions
    if join.ttl and (bound := _earliest(scope.first, join.ttl)):
        conditions.append(f"{event} >= {bound}")
    if scope.slice_of_key and (bound := sql.moment(scope.first)):
        conditions.append(_not_overtaken(join, dated, conditions, bound))
    return conditions


def _not_overtaken(join: ViewJoin, dated: list[str], conditions: list[str], first: str) -> str:
    """Keep what becomes visible in the slice, and of what was visible before it the latest."""
    event = sql.name(join.event)
    keys = [source_key(key) for key in join.keys]
    before = " AND ".join([*conditions, *(f"{time} <= {first}" for time in dated)])
    grouped = f" GROUP BY {', '.join(keys)}" if keys else ""
    latest = (
        f"SELECT {', '.join([*keys, f'assumeNotNull(max({event}))'])} FROM {join.source} "
        f"WHERE {before}{grouped}"
    )
    visible_later = " OR ".join(f"{time} >= {first}" for time in dated)
    return f"({visible_later} OR ({', '.join([*keys, event])}) IN ({latest}))"


def _earliest(first: datetime, ttl: timedelta) -> str | None:
    try:
        return sql.moment(first - ttl)
    except OverflowError:
        return None


def _found(join: ViewJoin) -> str:
    if not join.ttl:
        return f"isNotNull(__atlas_v.{_EVENT})"
    nanos = join.ttl // timedelta(microseconds=1) * _NANOS
    # Int128: times lie up to 585 years apart, which Int64 nanoseconds do not hold.
    return f"ifNull(toInt128(__atlas_e.{TIME}) - __atlas_v.{_EVENT} <= toInt128('{nanos}'), 0)"


def _feature_columns(join: ViewJoin) -> list[str]:
    columns = []
    for position, feature in enumerate(join.features):
        value, output = f"__atlas_v.{_value(position)}", sql.name(feature.output)
        if has_missing_value(feature.source_type):
            columns.append(f"if({FOUND}, {value}, NULL) AS {output}")
            continue
        missing = f"NOT {FOUND} OR __atlas_v.{_mark(position)}" if feature.mark else f"NOT {FOUND}"
        marked = f"ifNull(toBool({missing}), true) AS {sql.name(mark_of(feature.output))}"
        columns += [f"{value} AS {output}", marked]
    return columns


def _event(join: ViewJoin) -> str:
    return sql.ticks(sql.name(join.event), bare(join.event_type))


def _created(join: ViewJoin) -> str | None:
    return sql.ticks(sql.name(join.created), bare(join.created_type)) if join.created else None


def _values(join: ViewJoin) -> list[str]:
    return [sql.name(column) for column in join.ties]


def _key(position: int) -> str:
    return f"__atlas_key_{position}"


def _value(position: int) -> str:
    return f"__atlas_value_{position}"


def _mark(position: int) -> str:
    return f"__atlas_mark_{position}"
