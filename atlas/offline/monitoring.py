"""Statistics of a source's columns, computed inside ClickHouse: two passes, in bounded memory.

A number that is not finite is no value: it is left out of the statistics, though it is not null.
Percentiles are of ranks that are off by at most one in ten thousand. Of arrays, maps and tuples
only the rows are counted.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
from clickhouse_connect.driver.client import Client

from atlas.clickhouse import sql
from atlas.clickhouse.column_types import bare, family, has_missing_value, readable
from atlas.offline.feast_internals import empty_categorical_metric, empty_numeric_metric
from atlas.offline.refusals import told
from atlas.offline.time_spans import within

__all__ = ["Watched", "newest", "statistics"]

_PERCENTILES = {"p50": 0.5, "p75": 0.75, "p90": 0.9, "p95": 0.95, "p99": 0.99}
_RANKS = 10_000
# Beyond it a count of distinct values goes on on disk.
_SPILL = {"max_bytes_before_external_group_by": 256 << 20}


@dataclass(frozen=True)
class Watched:
    """Rows of a source, in a span of time.

    Attributes
    ----------
    source : str
        What stands after FROM.
    types : mapping
        The source's column types.
    """

    source: str
    where: str
    types: Mapping[str, str]
    event: str
    start: datetime | None = None
    end: datetime | None = None

    def rows(self) -> str:
        """Return the FROM and WHERE of a SELECT."""
        conditions = within(f"__atlas_r.{sql.name(self.event)}", self.start, self.end)
        return f"FROM {self.source} AS __atlas_r WHERE {' AND '.join(conditions)}"


def newest(client: Client, watched: Watched, settings: Mapping[str, Any]) -> datetime | None:
    """Return the last moment of the rows, rounded up to the microsecond; None of no rows."""
    ticks = sql.ticks(f"__atlas_r.{sql.name(watched.event)}", bare(watched.types[watched.event]))
    with told(f"the newest moment of {watched.where}"):
        found = client.query(f"SELECT maxOrNull({ticks}) {watched.rows()}", settings=dict(settings))
    nanos = found.result_rows[0][0]
    if nanos is None:
        return None
    seconds, micros = divmod(-(-nanos // 1_000), 1_000_000)
    return datetime.fromtimestamp(seconds, UTC).replace(microsecond=micros)


def statistics(
    client: Client,
    watched: Watched,
    features: Sequence[tuple[str, str, str]],
    settings: Mapping[str, Any],
    *,
    bins: int,
    top: int,
) -> list[dict[str, Any]]:
    """Return Feast's metrics of each feature, in the order given.

    Parameters
    ----------
    features : sequence of (name, column, kind)
        The kind is "numeric" or "categorical".
    bins : int
        Of equal width, in a numeric feature's histogram.
    top : int
        Most frequent values of a categorical feature that are told; equally frequent ones in
        their own order.
    """
    metrics = {
        name: empty_numeric_metric(name) if kind == "numeric" else empty_categorical_metric(name)
        for name, _, kind in features
    }
    with told(f"statistics of {watched.where}"):
        for name, found in _counts(client, watched, features, settings):
            metrics[name].update(found)
        numbers = [
            (name, column)
            for name, column, kind in features
            if kind == "numeric" and has_missing_value(watched.types[column])
        ]
        for name, found in _numeric(client, watched, numbers, settings):
            metrics[name].update(found)
        spread = {
            name: (column, metrics[name]["min_val"], metrics[name]["max_val"])
            for name, column in numbers
            if metrics[name]["min_val"] is not None
        }
        for name, histogram in _histograms(client, watched, spread, settings, bins):
            metrics[name]["histogram"] = histogram
        for name, column, kind in features:
            if kind == "categorical" and has_missing_value(watched.types[column]):
                values = metrics[name]["row_count"] - metrics[name]["null_count"]
                if values:
                    metrics[name]["histogram"] = _most_frequent(
                        client, watched, column, settings, values, top
                    )
    return list(metrics.values())


Found = Iterator[tuple[str, dict[str, Any]]]


def _counts(
    client: Client,
    watched: Watched,
    features: Sequence[tuple[str, str, str]],
    settings: Mapping[str, Any],
) -> Found:
    nulls = [f"countIf(__atlas_r.{sql.name(column)} IS NULL)" for _, column, _ in features]
    query = f"SELECT {', '.join(['count()', *nulls])} {watched.rows()}"
    (rows, *missing), *_ = client.query(query, settings=dict(settings)).result_rows
    for (name, _, _), null_count in zip(features, missing, strict=True):
        yield (
            name,
            {
                "row_count": rows,
                "null_count": null_count,
                "null_rate": null_count / rows if rows else 0.0,
            },
        )


def _numeric(
    client: Client,
    watched: Watched,
    numbers: Sequence[tuple[str, str]],
    settings: Mapping[str, Any],
) -> Found:
    if not numbers:
        return
    levels = ", ".join(map(str, _PERCENTILES.values()))
    columns = []
    for _, column in numbers:
        value = _finite(column, watched.types[column])
        columns += [
            f"count({value})",
            f"avg({value})",
            f"stddevSamp({value})",
            f"min({value})",
            f"max({value})",
            f"quantilesGK({_RANKS}, {levels})({value})",
        ]
    query = f"SELECT {', '.join(columns)} {watched.rows()}"
    (found, *_) = client.query(query, settings=dict(settings)).result_rows
    for place, (name, _) in enumerate(numbers):
        count, mean, deviation, low, high, percentiles = found[6 * place : 6 * place + 6]
        if count:
            yield (
                name,
                {
                    "mean": _told(mean),
                    "stddev": _told(deviation) if count > 1 else None,
                    "min_val": _told(low),
                    "max_val": _told(high),
                    **dict(zip(_PERCENTILES, map(_told, percentiles), strict=True)),
                },
            )


def _histograms(
    client: Client,
    watched: Watched,
    spread: Mapping[str, tuple[str, float, float]],
    settings: Mapping[str, Any],
    bins: int,
) -> Found:
    """Count each feature's values in bins of equal width between its least and its greatest."""
    if not spread:
        return
    edges = {
        # As numpy has it, a single value lies in the middle of a span of one.
        name: np.linspace(*((low, high) if low < high else (low - 0.5, high + 0.5)), bins + 1)
        for name, (_, low, high) in spread.items()
    }
    columns = []
    for name, (column, _, _) in spread.items():
        value = _finite(column, watched.types[column])
        first, last = (repr(float(edge)) for edge in (edges[name][0], edges[name][-1]))
        share = f"({value} - {first}) / ({last} - {first})"
        # What is behind a null may be any number, which must not stop the conversion.
        place = f"least({bins - 1}, accurateCastOrDefault(floor({share} * {bins}), 'UInt32'))"
        columns.append(f"sumMapIf([assumeNotNull({place})], [toUInt64(1)], isNotNull({value}))")
    query = f"SELECT {', '.join(columns)} {watched.rows()}"
    (found, *_) = client.query(query, settings=dict(settings)).result_rows
    for name, (places, counts) in zip(spread, found, strict=True):
        counted = dict(zip(places, counts, strict=True))
        yield (
            name,
            {
                "bins": edges[name].tolist(),
                "counts": [int(counted.get(place, 0)) for place in range(bins)],
                "bin_width": float(edges[name][1] - edges[name][0]),
            },
        )


def _most_frequent(
    client: Client,
    watched: Watched,
    column: str,
    settings: Mapping[str, Any],
    values: int,
    top: int,
) -> dict[str, Any]:
    value = readable(f"__atlas_r.{sql.name(column)}", watched.types[column])
    query = (
        f"SELECT __atlas_value, __atlas_times, count() OVER () "
        f"FROM (SELECT {value} AS __atlas_value, count() AS __atlas_times "
        f"{watched.rows()} AND __atlas_r.{sql.name(column)} IS NOT NULL GROUP BY __atlas_value) "
        f"ORDER BY __atlas_times DESC, __atlas_value LIMIT {top}"
    )
    found = client.query(query, settings={**settings, **_SPILL}).result_rows
    return {
        "values": [{"value": value, "count": times} for value, times, _ in found],
        "other_count": values - sum(times for _, times, _ in found),
        "unique_count": found[0][2],
    }


def _finite(column: str, column_type: str) -> str:
    name = f"__atlas_r.{sql.name(column)}"
    text = family(column_type) in ("String", "FixedString")
    number = f"toFloat64OrNull(toString({name}))" if text else f"toFloat64({name})"
    return f"if(isFinite({number}), {number}, NULL)"


def _told(value: Any) -> float | None:
    return None if value is None or not np.isfinite(value) else float(value)
