"""Rows that Feast writes to a view's own table: checked, then appended."""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
from clickhouse_connect.driver.client import Client
from feast import FeatureView, RepoConfig

from atlas.clickhouse import insert_once
from atlas.clickhouse.clients import client_of
from atlas.clickhouse.column_types import has_missing_value
from atlas.clickhouse.quarantine import Border, admit
from atlas.errors import InvalidInput
from atlas.features import StoredView, stored_views
from atlas.offline.exact_casts import exact
from atlas.offline.feast_internals import DUMMY_ENTITY_ID
from atlas.offline.missing_containers import is_mark, mark_of
from atlas.offline.refusals import told
from atlas.offline.source import ClickHouseSource
from atlas.schemas import find_faults

__all__ = ["write_rows"]

_BLOCK_ROWS = 100_000
# pandas keeps a frame's order in such a column, and Feast's local engine sends it along.
_PANDAS_INDEX = re.compile(r"__index_level_\d+__")


@dataclass(frozen=True, slots=True)
class _Column:
    type: str
    has_default: bool
    is_computed: bool

    @property
    def may_be_left_out(self) -> bool:
        return self.has_default or self.type.startswith(("Nullable(", "LowCardinality(Nullable("))


def write_rows(
    config: RepoConfig,
    view: FeatureView,
    source: ClickHouseSource,
    rows: pa.Table,
    progress: Callable[[int], Any] | None,
) -> None:
    """Append rows to a view's table.

    Nothing is written unless every value fits its column exactly. Rows of one of Atlas's own
    views pass its schema first: the bad ones go to quarantine, the others are written.

    If the source has a creation column, an equal block is the same versions, and a table that
    deduplicates keeps it once. Without one it may take a correction back, so it is always
    written: a retry then doubles rows, which changes no answer.

    Parameters
    ----------
    rows : pa.Table
        Under the table's column names, or the features' own. Nullable columns, and those with a
        default, may be left out.

    Raises
    ------
    InvalidInput
        If the source is a query, or the rows do not fit its table.
    StoreUnavailable
        If ClickHouse does not answer.
    """
    if not source.table:
        raise InvalidInput(
            f"Expected the source of view {view.name} to be a table, to write to it; found a "
            "query. Give ClickHouseSource(table=…)."
        )
    client = client_of(config.offline_store)
    columns = _columns(client, source, config)
    named = _named(rows, source, columns)
    _check_columns(named, view, source, columns)
    fitted = _fitted(named, source, columns)
    features = next((known for known in stored_views() if known.view == view.name), None)
    for start in range(0, fitted.num_rows, _BLOCK_ROWS):
        block = fitted.slice(start, _BLOCK_ROWS)
        good = _admitted(client, features, block) if features else block
        with told(f"the write to {source.where}"):
            if source.created_timestamp_column:
                insert_once(client, source.get_table_query_string(), good)
            elif good.num_rows:
                _insert_always(client, source.get_table_query_string(), good)
        if progress:
            progress(block.num_rows)


def _insert_always(client: Client, table: str, block: pa.Table) -> None:
    # Without a token ClickHouse would drop a block that it has seen.
    client.insert_arrow(table, block, settings={"insert_deduplication_token": uuid.uuid4().hex})


def _columns(client: Client, source: ClickHouseSource, config: RepoConfig) -> dict[str, _Column]:
    source.column_types(config)  # a table that is not there is told in one sentence
    described = client.query(f"DESCRIBE TABLE {source.get_table_query_string()}").result_rows
    return {
        row[0]: _Column(
            row[1], has_default=bool(row[2]), is_computed=row[2] in ("MATERIALIZED", "ALIAS")
        )
        for row in described
    }


def _named(rows: pa.Table, source: ClickHouseSource, columns: dict[str, _Column]) -> pa.Table:
    kept = [
        name
        for name in rows.column_names
        if not _PANDAS_INDEX.fullmatch(name) and name != DUMMY_ENTITY_ID
    ]
    return rows.select(kept).rename_columns(
        [name if name in columns else source.column_of(name) for name in kept]
    )


def _check_columns(
    rows: pa.Table, view: FeatureView, source: ClickHouseSource, columns: dict[str, _Column]
) -> None:
    given = rows.column_names
    writable = [name for name, column in columns.items() if not column.is_computed]
    if unknown := [name for name in given if name not in writable]:
        raise InvalidInput(
            f"Expected columns of {source.where} ({', '.join(writable)}); found also "
            f"{', '.join(unknown)}. Leave them out, or add them to the table."
        )
    if twice := sorted({name for name in given if given.count(name) > 1}):
        raise InvalidInput(
            f"Expected each column of {source.where} once; found {', '.join(twice)} more than "
            "once, perhaps under a feature's name too. Leave one out."
        )
    keys = [
        source.column_of(entity.name)
        for entity in view.entity_columns
        if entity.name != DUMMY_ENTITY_ID
    ]
    times = [source.timestamp_field, source.created_timestamp_column]
    needed = {*keys, *(source.column_of(time) for time in times if time)}
    absent = [
        name
        for name in writable
        if name not in given and (name in needed or not columns[name].may_be_left_out)
        if not is_mark(name)
    ]
    if absent:
        raise InvalidInput(
            f"Expected rows for {source.where} to have the columns {', '.join(absent)}; found "
            f"{', '.join(given)}. Add them: a column that is not Nullable would be filled with "
            "zeros."
        )


def _fitted(rows: pa.Table, source: ClickHouseSource, columns: dict[str, _Column]) -> pa.Table:
    for name in rows.column_names:
        values, kind = rows[name], columns[name].type
        if not has_missing_value(kind) and mark_of(name) in columns:
            rows = rows.append_column(mark_of(name), pc.is_null(values))
            if pa.types.is_null(values.type):
                # A column of nothing but nulls has no type that a container could be made of.
                rows = rows.drop_columns([name])
                continue
            kind = f"Nullable({kind})"
        try:
            chunks = [exact(chunk, kind) for chunk in values.chunks]
        except InvalidInput as error:
            raise InvalidInput(
                f"Expected column {name!r} for {source.where} to hold {kind}; found {error}."
            ) from error
        if chunks:
            place = rows.column_names.index(name)
            rows = rows.set_column(place, name, pa.chunked_array(chunks))
    return rows


def _admitted(client: Client, features: StoredView, block: pa.Table) -> pa.Table:
    expected = list(features.schema.to_schema().columns)
    if absent := [name for name in expected if name not in block.column_names]:
        raise InvalidInput(
            f"Expected rows of {features.view} to have all its columns, to judge them; "
            f"{', '.join(absent)} not found. Add them."
        )
    rows = pl.from_arrow(block.select(expected))
    assert isinstance(rows, pl.DataFrame)
    run = f"push {features.view}"
    split = admit(client, features.schema, rows, view=features.view, border=Border.OFFLINE, run=run)
    if split.bad.is_empty():
        return block
    return block.filter(find_faults(features.schema, rows).is_null().to_arrow())
