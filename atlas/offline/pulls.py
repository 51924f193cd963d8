"""The rows that are pulled from a source for materialisation: each key's latest, or all."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import pyarrow as pa
from clickhouse_connect.driver.client import Client

from atlas.clickhouse import sql
from atlas.clickhouse.column_types import bare, family, is_time, readable
from atlas.errors import InvalidInput
from atlas.offline.exact_integers import kept_integers
from atlas.offline.feast_internals import DUMMY_ENTITY_ID, DUMMY_ENTITY_VAL
from atlas.offline.missing_containers import mark_of, marks_of, without_marks
from atlas.offline.retrieval import Pull
from atlas.offline.time_spans import within

__all__ = ["Pulled", "PulledRows", "all_rows", "latest_rows"]

_FOUND = "__atlas_latest"
# Doubles hold these only up to 2^53.
_LONG_INTEGERS = {"Int64": "Int64", "UInt64": "UInt64"}


@dataclass(frozen=True)
class PulledRows:
    """What to pull.

    Attributes
    ----------
    source : str
        What stands after FROM.
    where : str
        The source's name in a message.
    types : mapping
        The source's column types.
    event : str
        The column with each row's moment.
    """

    source: str
    where: str
    types: Mapping[str, str]
    keys: Sequence[str]
    features: Sequence[str]
    event: str
    created: str | None = None
    start: datetime | None = None
    end: datetime | None = None

    def __post_init__(self) -> None:
        absent = [column for column in self.columns if column not in self.types]
        if absent:
            raise InvalidInput(
                f"Expected {self.where} to have the columns {', '.join(absent)}; found "
                f"{', '.join(self.types)}. Add them, or correct the view and run `feast apply`."
            )
        if not is_time(self.types[self.event]):
            raise InvalidInput(
                f"Expected the column {self.event!r} of {self.where} to hold moments; found "
                f"{self.types[self.event]}. Name another timestamp_field, or convert it in a query."
            )

    @property
    def columns(self) -> list[str]:
        """All columns that are asked for, each once."""
        created = [self.created] if self.created else []
        return list(dict.fromkeys([*self.keys, *self.features, self.event, *created]))


@dataclass(frozen=True)
class Pulled(Pull):
    """One SELECT of a source's rows."""

    pandas_types: Mapping[str, str] = field(default_factory=dict)

    def answers(self, client: Client, settings: dict[str, Any]) -> Iterator[pa.Table]:
        """Yield the rows; what is marked as missing is null."""
        for rows in super().answers(client, settings):
            # Feast's local engine takes the rows through pandas. It drops what the schema says if
            # the source has a field mapping.
            yield kept_integers(without_marks(rows), self.pandas_types)


def all_rows(rows: PulledRows) -> Pulled:
    """Ask for every row whose event lies in `[start, end]` and whose keys are not null."""
    marks = marks_of(rows.columns, rows.types)
    columns = [
        *(
            _readable(f"__atlas_r.{sql.name(name)}", name, rows.types)
            for name in [*rows.columns, *marks]
        ),
        *([] if rows.keys else [_dummy()]),
    ]
    where = _conditions(rows)
    query = (
        f"SELECT {', '.join(columns)} FROM {rows.source} AS __atlas_r WHERE {' AND '.join(where)}"
    )
    return Pulled(query, _pandas_types(rows))


def latest_rows(rows: PulledRows) -> Pulled:
    """Ask for each key's latest row whose event lies in `[start, end]`; not for null keys."""
    time = f"__atlas_r.{sql.name(rows.event)}"
    order = sql.row_order(
        sql.ticks(time, bare(rows.types[rows.event])),
        sql.ticks(f"__atlas_r.{sql.name(rows.created)}", bare(rows.types[rows.created]))
        if rows.created
        else None,
        # In the order of their names, as history does, whatever order they are asked in.
        [f"__atlas_r.{sql.name(feature)}" for feature in sorted(set(rows.features))],
    )
    keys = list(dict.fromkeys(rows.keys))
    carried = [name for name in rows.columns if name not in keys]
    carried += marks_of(rows.columns, rows.types)
    latest = ", ".join(f"__atlas_r.{sql.name(column)}" for column in carried)
    where = _conditions(rows)
    by = ", ".join(f"__atlas_r.{sql.name(key)}" for key in keys)
    selected = [
        *(f"__atlas_r.{sql.name(key)} AS {sql.name(key)}" for key in keys),
        f"argMax(tuple({latest}), {order}) AS {_FOUND}",
    ]
    grouped = (
        f"SELECT {', '.join(selected)} FROM {rows.source} AS __atlas_r WHERE {' AND '.join(where)} "
        # Without keys an aggregate of nothing would still be one row.
        f"GROUP BY {by or 'tuple()'}"
    )
    columns = [
        *(_readable(f"__atlas_g.{sql.name(key)}", key, rows.types) for key in keys),
        *(
            _readable(f"tupleElement(__atlas_g.{_FOUND}, {position})", column, rows.types)
            for position, column in enumerate(carried, start=1)
        ),
        *([] if keys else [_dummy()]),
    ]
    return Pulled(f"SELECT {', '.join(columns)} FROM ({grouped}) AS __atlas_g", _pandas_types(rows))


def _conditions(rows: PulledRows) -> list[str]:
    """Return what a row meets: a key that is null matches nothing, here as in history."""
    return [
        *within(f"__atlas_r.{sql.name(rows.event)}", rows.start, rows.end),
        *(f"__atlas_r.{sql.name(key)} IS NOT NULL" for key in dict.fromkeys(rows.keys)),
    ]


def _readable(value: str, column: str, types: Mapping[str, str]) -> str:
    if family(types[column]) == "Map" and mark_of(column) not in types:
        # Feast's own engine knows maps as dictionaries or as JSON, and Arrow's are neither.
        return f"toJSONString({value}) AS {sql.name(column)}"
    return f"{readable(value, types[column])} AS {sql.name(column)}"


def _dummy() -> str:
    return f"{sql.text(DUMMY_ENTITY_VAL)} AS {sql.name(DUMMY_ENTITY_ID)}"


def _pandas_types(rows: PulledRows) -> dict[str, str]:
    return {
        column: _LONG_INTEGERS[family(rows.types[column])]
        for column in rows.columns
        if "Nullable(" in rows.types[column] and family(rows.types[column]) in _LONG_INTEGERS
    }
