"""A view's keys in ranges of roughly equal size, so that a part of them can be read alone.

Ranges rather than hashes: a table that is sorted by its keys then reads each of its rows for one
part only.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from clickhouse_connect.driver.client import Client

from atlas.clickhouse import sql
from atlas.clickhouse.column_types import bare
from atlas.online.materialisation.view_plan import ViewPlan

__all__ = ["KeyRange", "key_ranges"]

# Keys from which the ends of the ranges are taken: a range is then some percent off its size.
_SAMPLED = 20_000


@dataclass(frozen=True, slots=True)
class KeyRange:
    """Keys from `low`, included, to `high`, left out; None is no end. Values as ClickHouse's text.

    The text of a value reads back as that value in its column's type.
    """

    low: tuple[str, ...] | None = None
    high: tuple[str, ...] | None = None

    def conditions(self, plan: ViewPlan) -> list[str]:
        """Return what a row of the range meets; rows are called r."""
        keys = _tuple([f"r.{sql.name(key.column)}" for key in plan.keys])
        return [
            f"{keys} {side} {_tuple(_literals(plan, end))}"
            for side, end in ((">=", self.low), ("<", self.high))
            if end is not None
        ]


def key_ranges(
    client: Client, plan: ViewPlan, where: str, n_keys: int, parts: int, settings: dict[str, Any]
) -> list[KeyRange]:
    """Cut the keys of the rows that meet a condition into so many ranges, or fewer.

    Together they hold every key there is, also those that come after the cut was made.
    """
    if parts <= 1 or not plan.keys:
        return [KeyRange()]
    keys = [f"r.{sql.name(key.column)}" for key in plan.keys]
    one_of = max(1, n_keys // _SAMPLED)
    sampled = client.query(
        f"SELECT {', '.join(f'toString({key})' for key in keys)} FROM {plan.source} AS r "
        f"WHERE {where} AND cityHash64({', '.join(keys)}) % {one_of} = 0 "
        f"GROUP BY {', '.join(keys)} ORDER BY {', '.join(keys)}",
        settings=settings,
    ).result_rows
    ends = [tuple(sampled[len(sampled) * part // parts]) for part in range(1, parts) if sampled]
    bounds = [None, *dict.fromkeys(ends), None]
    return [KeyRange(low, high) for low, high in pairwise(bounds)]


def _literals(plan: ViewPlan, end: tuple[str, ...]) -> list[str]:
    return [
        f"CAST({sql.text(value)} AS {bare(plan.types[key.column])})"
        for key, value in zip(plan.keys, end, strict=True)
    ]


def _tuple(items: list[str]) -> str:
    return items[0] if len(items) == 1 else f"({', '.join(items)})"
