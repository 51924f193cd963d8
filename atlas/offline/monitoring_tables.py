"""Where Feast's monitoring keeps what it found: each result a row, of which the last one counts.

Nothing is updated in place. A row written anew under the same key has a later version, and readers
take the last, whether or not ClickHouse has merged the former away.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from typing import Any

from clickhouse_connect.driver.client import Client

from atlas.clickhouse import sql
from atlas.errors import InvalidInput
from atlas.offline.feast_internals import monitoring_table_meta, normalize_monitoring_row

__all__ = ["clear_baseline", "create_tables", "query_metrics", "save_metrics"]

_KINDS = ("feature", "feature_view", "feature_service", "job")
_VERSION = "version"
_MOMENT = "Nullable(DateTime64(6, 'UTC'))"
_DATES = ("metric_date",)
_MOMENTS = ("computed_at", "max_event_timestamp", "started_at", "completed_at")
_COUNTS = (
    "row_count",
    "null_count",
    "total_row_count",
    "total_features",
    "features_with_nulls",
    "total_feature_views",
)
_NUMBERS = (
    *("null_rate", "mean", "stddev", "min_val", "max_val", "p50", "p75", "p90", "p95", "p99"),
    *("avg_null_rate", "max_null_rate"),
)


def create_tables(client: Client) -> None:
    """Create the tables that are not there yet, and add columns that an older one lacks."""
    for kind in _KINDS:
        table, columns, key = monitoring_table_meta(kind)
        types = {column: _column_type(column, key) for column in columns}
        declared = ", ".join(f"{sql.name(name)} {type_}" for name, type_ in types.items())
        client.command(
            f"CREATE TABLE IF NOT EXISTS {sql.name(table)} ({declared}, {_VERSION} UInt64) "
            f"ENGINE = ReplacingMergeTree({_VERSION}) ORDER BY ({_names(key)})"
        )
        added = ", ".join(
            f"ADD COLUMN IF NOT EXISTS {sql.name(name)} {type_}" for name, type_ in types.items()
        )
        client.command(f"ALTER TABLE {sql.name(table)} {added}")


def save_metrics(client: Client, kind: str, metrics: Sequence[Mapping[str, Any]]) -> None:
    """Store results; one with the key of a former result takes its place."""
    table, columns, _ = monitoring_table_meta(kind)
    version = time.time_ns()
    rows = [
        [*(_stored(column, metric.get(column)) for column in columns), version]
        for metric in metrics
    ]
    if rows:
        client.insert(table, rows, column_names=[*columns, _VERSION])


def query_metrics(
    client: Client,
    project: str,
    kind: str,
    filters: Mapping[str, Any] | None,
    start: date | None,
    end: date | None,
) -> list[dict[str, Any]]:
    """Return the results that match, oldest first.

    Parameters
    ----------
    project : str
        Every project's, if empty.
    filters : mapping
        From columns to values; None matches all.
    start, end : date
        Of the results' own dates, both ends included.

    Raises
    ------
    InvalidInput
        If a filter names no column.
    """
    table, columns, key = monitoring_table_meta(kind)
    conditions, parameters = _matching({"project_id": project or None, **(filters or {})}, columns)
    for side, bound in ((">=", start), ("<=", end)):
        if bound is not None:
            name = f"date_{len(parameters)}"
            conditions.append(f"metric_date {side} {{{name}:Date32}}")
            parameters[name] = _day(bound)
    last = f"SELECT * FROM {sql.name(table)} ORDER BY {_VERSION} DESC LIMIT 1 BY {_names(key)}"
    query = (
        f"SELECT {_names(columns)} FROM ({last}) WHERE {' AND '.join(conditions) or '1'} "
        f"ORDER BY metric_date, {_names(key)}"
    )
    found = client.query(query, parameters=parameters)
    return [
        normalize_monitoring_row(dict(zip(columns, map(_in_utc, row), strict=True)))
        for row in found.result_rows
    ]


def clear_baseline(client: Client, filters: Mapping[str, Any]) -> None:
    """Say of the matching features' baselines that they are none any more."""
    table, columns, key = monitoring_table_meta("feature")
    conditions, parameters = _matching({**filters, "is_baseline": True}, columns)
    kept = ", ".join("false" if column == "is_baseline" else sql.name(column) for column in columns)
    last = f"SELECT * FROM {sql.name(table)} ORDER BY {_VERSION} DESC LIMIT 1 BY {_names(key)}"
    client.command(
        f"INSERT INTO {sql.name(table)} ({_names(columns)}, {_VERSION}) "
        # A version of the clock's, but after the one that it takes the place of.
        f"SELECT {kept}, greatest({_VERSION} + 1, {{now:UInt64}}) FROM ({last}) "
        f"WHERE {' AND '.join(conditions)}",
        parameters={**parameters, "now": time.time_ns()},
    )


def _matching(
    filters: Mapping[str, Any], columns: Sequence[str]
) -> tuple[list[str], dict[str, Any]]:
    if unknown := [name for name in filters if name not in columns]:
        raise InvalidInput(
            f"Expected filters on the columns {', '.join(columns)}; found {', '.join(unknown)}."
        )
    conditions, parameters = [], {}
    for name, value in filters.items():
        if value is None:
            continue
        if isinstance(value, bool):
            conditions.append(f"{sql.name(name)} = {'true' if value else 'false'}")
        else:
            conditions.append(f"toString({sql.name(name)}) = {{{name}:String}}")
            parameters[name] = str(value)
    return conditions, parameters


def _column_type(column: str, key: Sequence[str]) -> str:
    if column in _DATES:
        return "Date32" if column in key else "Nullable(Date32)"
    if column in _MOMENTS:
        return _MOMENT
    if column in _COUNTS:
        return "Nullable(Int64)"
    if column in _NUMBERS:
        return "Nullable(Float64)"
    if column == "is_baseline":
        return "Bool"
    return "String" if column in key else "Nullable(String)"


def _stored(column: str, value: Any) -> Any:
    if column == "is_baseline":
        return bool(value)
    if value is None:
        return None
    if column in _DATES:
        return date.fromisoformat(_day(value))
    if column in _MOMENTS:
        moment = datetime.fromisoformat(value) if isinstance(value, str) else value
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment
    if column in _COUNTS:
        return int(value)
    if column in _NUMBERS:
        return float(value)
    return value if isinstance(value, str) else json.dumps(value)


def _in_utc(value: Any) -> Any:
    # The driver gives moments of a UTC column without their zone.
    return value.replace(tzinfo=UTC) if isinstance(value, datetime) else value


def _day(value: date | str) -> str:
    """Return a date as text; of a moment its day."""
    return str(value)[:10]


def _names(columns: Sequence[str]) -> str:
    return ", ".join(map(sql.name, columns))
