"""The last rows of each key for sequence models, brought online beside the latest one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
from clickhouse_connect.driver.client import Client
from redis import Redis

from atlas.clickhouse import sql
from atlas.online.materialisation.arrow_values import micros, refuse_bent
from atlas.online.materialisation.batch import Judge, pieces
from atlas.online.materialisation.claim import Claim
from atlas.online.materialisation.key_ranges import KeyRange, key_ranges
from atlas.online.materialisation.latest_rows import (
    Scope,
    Survey,
    conditions,
    shown_columns,
    ticks,
    version,
)
from atlas.online.materialisation.view_plan import ViewPlan
from atlas.online.sequence import SequenceWriter

__all__ = ["bring_sequences"]

_ROWS_PER_QUERY = 200_000
# The writer orders times that Lua's doubles hold; an unknown creation comes before all of them.
_UNKNOWN = 1 - (1 << 53)


def bring_sequences(
    client: Client,
    redis: Redis,
    claim: Claim,
    plan: ViewPlan,
    scope: Scope,
    seen: Survey,
    judge: Judge | None,
    settings: dict[str, Any],
) -> int:
    """Keep each key's last `plan.depth` events of a scope, and return how many rows changed.

    Raises
    ------
    TooManyBadRows
        If more rows break the view's schema than allowed.
    ViewBusy
        If the claim is lost.
    StoreUnavailable
        If Redis does not answer.
    """
    writer = SequenceWriter(
        redis, plan.read_plan, restates=True, seconds_to_live=plan.seconds_to_live
    )
    changed = 0
    for batch in _batches(client, plan, scope, seen, settings):
        for piece in pieces(batch):
            claim.check()
            good = judge.passed(piece) if judge else piece
            if good.num_rows:
                changed += _write(writer, plan, good)
    return changed


def _write(writer: SequenceWriter, plan: ViewPlan, batch: pa.RecordBatch) -> int:
    n_keys, n_features = len(plan.keys), len(plan.features)
    columns = batch.columns
    keys = [column.to_pylist() for column in columns[:n_keys]] or [[""] * batch.num_rows]
    found = columns[n_keys : n_keys + n_features]
    for feature, column in zip(plan.features, found, strict=True):
        refuse_bent(feature.name, column, feature.type_name, where=plan.where(feature))
    values = [
        column.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False) for column in found
    ]
    event_us = micros(columns[n_keys + n_features], missing=0)
    known_us = micros(columns[-1], missing=_UNKNOWN) if plan.created else event_us
    return writer.write(
        keys[0] if len(keys) == 1 else list(zip(*keys, strict=True)),
        event_us,
        known_us,
        np.column_stack(values),
    )


def _batches(
    client: Client, plan: ViewPlan, scope: Scope, seen: Survey, settings: dict[str, Any]
) -> Iterator[pa.RecordBatch]:
    if not seen.rows:
        return
    taken = _rows_to_take(client, plan, scope, settings)
    parts = -(-seen.keys * plan.depth // _ROWS_PER_QUERY)
    where = " AND ".join(conditions(plan, scope))
    for keys in key_ranges(client, plan, where, seen.keys, parts, settings):
        query = _last_rows_query(plan, scope, taken, keys)
        with client.query_arrow_stream(query, settings=settings) as stream:
            yield from stream


def _rows_to_take(client: Client, plan: ViewPlan, scope: Scope, settings: dict[str, Any]) -> int:
    """Return how many of a key's newest rows hold enough events, however often corrected."""
    taken = 2 * plan.depth
    while True:
        newest = f"groupArraySorted({taken})({_backwards(plan)})"
        short = client.query(
            "SELECT count() FROM "
            f"(SELECT {newest} AS newest FROM {plan.source} AS r "
            f"WHERE {' AND '.join(conditions(plan, scope))} GROUP BY {_keys(plan) or 'tuple()'} "
            f"HAVING length(newest) = {taken} AND length(arrayDistinct(newest)) < {plan.depth})",
            settings=settings,
        ).result_rows[0][0]
        if not short:
            return taken
        taken *= 4


def _last_rows_query(plan: ViewPlan, scope: Scope, taken: int, keys_wanted: KeyRange) -> str:
    """Return the SELECT of each key's last events, each in its latest version."""
    keys = [sql.name(key.column) for key in plan.keys]
    where = [*conditions(plan, scope), *keys_wanted.conditions(plan)]
    events = f"arrayDistinct(groupArraySorted({taken})({_backwards(plan)}))"
    since = (
        f"SELECT {''.join(f'r.{key} AS {key}, ' for key in keys)}"
        f"arrayElement({events}, least({plan.depth}, length({events}))) AS __atlas_since "
        f"FROM {plan.source} AS r WHERE {' AND '.join(where)} GROUP BY {_keys(plan) or 'tuple()'}"
    )
    on = " AND ".join(f"r.{key} = s.{key}" for key in keys)
    join = f"INNER JOIN ({since}) AS s ON {on}" if keys else f"CROSS JOIN ({since}) AS s"
    rows = ", ".join([*(f"r.{key}" for key in keys), _backwards(plan)])
    return (
        f"SELECT {shown_columns(plan)} FROM {plan.source} AS r {join} "
        f"WHERE {' AND '.join(where)} AND {_backwards(plan)} <= s.__atlas_since "
        f"ORDER BY {rows}, {version(plan)} DESC LIMIT 1 BY {rows}"
    )


def _keys(plan: ViewPlan) -> str:
    return ", ".join(f"r.{sql.name(key.column)}" for key in plan.keys)


def _backwards(plan: ViewPlan) -> str:
    return f"assumeNotNull(-{ticks(plan, plan.event)})"
