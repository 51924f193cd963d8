"""Jobs that Feast runs to get rows: point-in-time joins, and pulls of a source."""

# Feast has no types, so its base classes are Any.
# mypy: allow-subclassing-any

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from clickhouse_connect.driver.client import Client
from feast.errors import SavedDatasetLocationAlreadyExists

from atlas.clickhouse import sql
from atlas.clickhouse.clients import client_of, query_settings
from atlas.clickhouse.column_types import clickhouse_type, has_missing_value
from atlas.errors import InvalidInput
from atlas.offline.asof import ViewJoin, found_column, point_in_time_query
from atlas.offline.entity_rows import EntityRows
from atlas.offline.feast_internals import RetrievalJob, RetrievalMetadata
from atlas.offline.source import SavedDatasetClickHouseStorage

__all__ = ["ClickHouseRetrievalJob", "PointInTime", "Pull"]


class Question(Protocol):
    """What a job asks of ClickHouse."""

    def answers(self, client: Client, settings: dict[str, Any]) -> Iterator[pa.Table]:
        """Yield the answer in order, chunk by chunk; at least one chunk, which may be empty."""
        ...

    def text(self) -> str:
        """Return the SQL."""
        ...


@dataclass(frozen=True)
class Pull:
    """One SELECT."""

    query: str

    def answers(self, client: Client, settings: dict[str, Any]) -> Iterator[pa.Table]:
        """Yield the whole answer."""
        yield client.query_arrow(self.query, settings=settings, use_strings=True)

    def text(self) -> str:
        """Return the SQL."""
        return self.query


@dataclass(frozen=True)
class PointInTime:
    """The features of entity rows, each as known at its row's time."""

    entities: EntityRows
    joins: tuple[ViewJoin, ...]
    as_known_then: bool

    def answers(self, client: Client, settings: dict[str, Any]) -> Iterator[pa.Table]:
        """Yield entity rows and features, in the entity rows' order."""
        keys = list(dict.fromkeys(k.entity_column for join in self.joins for k in join.keys))
        for rows in self.entities.chunks:
            with self.entities.upload(client, keys, rows) as uploaded:
                query = self._query(uploaded.table, (uploaded.first, uploaded.last))
                found = client.query_arrow(query, settings=settings, use_strings=True)
            yield self.entities.attach(self._with_nulls(found), rows)

    def text(self) -> str:
        """Return the SQL; the entity rows are in a table of that name while the job runs."""
        return self._query("atlas_entity_rows", self.entities.span)

    def _query(self, table: str, span: tuple[Any, Any]) -> str:
        return point_in_time_query(
            table,
            self.entities.selections,
            self.joins,
            span,
            as_known_then=self.as_known_then,
        )

    def _with_nulls(self, table: pa.Table) -> pa.Table:
        """Drop the marks of found rows; null the arrays of the others, which SQL could not."""
        for index, join in enumerate(self.joins):
            found = table[found_column(index)].cast(pa.bool_())
            for feature in join.features:
                if not has_missing_value(feature.source_type):
                    position = table.column_names.index(feature.output)
                    values = table[feature.output]
                    nulled = pc.if_else(found, values, pa.scalar(None, values.type))
                    table = table.set_column(position, feature.output, nulled)
            table = table.drop_columns([found_column(index)])
        return table


class ClickHouseRetrievalJob(RetrievalJob):
    """A question to ClickHouse that is asked when its answer is wanted."""

    def __init__(
        self,
        config: Any,
        question: Question,
        *,
        full_feature_names: bool = False,
        on_demand_feature_views: Sequence[Any] = (),
        metadata: RetrievalMetadata | None = None,
    ) -> None:
        self._config = config
        self._question = question
        self._full_feature_names = full_feature_names
        self._on_demand_feature_views = list(on_demand_feature_views)
        self._metadata = metadata

    @property
    def full_feature_names(self) -> bool:
        """Whether columns are called `view__feature`."""
        return self._full_feature_names

    @property
    def on_demand_feature_views(self) -> list[Any]:
        """The views that Feast computes on the answer."""
        return self._on_demand_feature_views

    @property
    def metadata(self) -> RetrievalMetadata | None:
        """What was asked for: features, keys, and the span of time."""
        return self._metadata

    def to_sql(self) -> str:
        """Return the SQL."""
        return self._question.text()

    def _to_arrow_internal(self, timeout: int | None = None) -> pa.Table:
        settings = query_settings(self._config, timeout)
        return pa.concat_tables(self._question.answers(client_of(self._config), settings))

    def _to_df_internal(self, timeout: int | None = None) -> pd.DataFrame:
        return self._to_arrow_internal(timeout).to_pandas()

    def persist(
        self,
        storage: Any,
        allow_overwrite: bool = False,
        timeout: int | None = None,
    ) -> None:
        """Write the answer, on-demand features included, to a table of its own.

        Raises
        ------
        InvalidInput
            If the storage is not ClickHouse's.
        SavedDatasetLocationAlreadyExists
            If the table is there and may not be overwritten.
        """
        if not isinstance(storage, SavedDatasetClickHouseStorage):
            raise InvalidInput(
                "Expected a SavedDatasetClickHouseStorage, since the rows stay in ClickHouse; "
                f"found {type(storage).__name__}."
            )
        client = client_of(self._config)
        table = sql.table(storage.table)
        if client.command(f"EXISTS TABLE {table}") and not allow_overwrite:
            raise SavedDatasetLocationAlreadyExists(storage.table)
        rows = self.to_arrow(timeout=timeout)
        columns = ", ".join(
            f"{sql.name(field.name)} {clickhouse_type(field.type, field.name)}"
            for field in rows.schema
        )
        client.command(
            f"CREATE OR REPLACE TABLE {table} ({columns}) ENGINE = MergeTree ORDER BY tuple()"
        )
        if rows.num_rows:
            client.insert_arrow(table, rows)
