"""Feast's offline store on ClickHouse."""

# Feast has no types, so its base classes are Any.
# mypy: allow-subclassing-any

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

import pyarrow as pa
from feast import FeatureView, RepoConfig
from pydantic import Field

from atlas.clickhouse import insert_once
from atlas.clickhouse.clients import client_of, query_settings
from atlas.config import load_settings
from atlas.errors import InvalidInput
from atlas.offline.entity_rows import entity_rows
from atlas.offline.feast_internals import (
    BaseRegistry,
    FeastConfigBaseModel,
    OfflineStore,
    RetrievalJob,
    RetrievalMetadata,
    features_by_view,
    requested_on_demand_views,
)
from atlas.offline.pulls import all_rows_query, latest_rows_query
from atlas.offline.retrieval import ClickHouseRetrievalJob, PointInTime, Pull
from atlas.offline.source import ClickHouseSource
from atlas.offline.state_folder import offer_state_folder
from atlas.offline.view_joins import view_join

__all__ = ["ClickHouseOfflineStore", "ClickHouseOfflineStoreConfig"]


class ClickHouseOfflineStoreConfig(FeastConfigBaseModel):
    """Where ClickHouse is; what feature_store.yaml leaves out comes from Atlas's settings."""

    type: str = "atlas.offline.ClickHouseOfflineStore"
    host: str = Field(default_factory=lambda: load_settings().host)
    port: int = Field(default_factory=lambda: load_settings().clickhouse_port)
    database: str = Field(default_factory=lambda: load_settings().clickhouse_database)
    user: str = "default"
    password: str = ""
    secure: bool = False
    settings: dict[str, Any] = Field(default_factory=dict)
    """ClickHouse settings for every reading query."""

    def model_post_init(self, context: Any) -> None:
        """Feast makes the registry next, whose address may name the state folder."""
        offer_state_folder()


class ClickHouseOfflineStore(OfflineStore):
    """Joins, pulls and writes feature rows in ClickHouse."""

    supports_filter_by_created_timestamp = True

    @staticmethod
    def get_historical_features(
        config: RepoConfig,
        feature_views: list[FeatureView],
        feature_refs: list[str],
        entity_df: Any,
        registry: BaseRegistry,
        project: str,
        full_feature_names: bool = False,
        filter_by_created_timestamp: bool = False,
        **_: Any,
    ) -> RetrievalJob:
        """Return the job that joins features to entity rows, each as known at its row's time.

        One row comes out for each row that goes in, in the same order. A value matches when its
        event lies in `[t - ttl, t]`, to the microsecond; the latest by (event, creation) wins.
        Missing is null. With `filter_by_created_timestamp`, versions created after `t` are
        hidden.

        Raises
        ------
        InvalidInput
            If a key is missing from the entity rows, or a name would stand for two columns.
        """
        store = config.offline_store
        on_demand = requested_on_demand_views(feature_refs, project, registry)
        entities = entity_rows(entity_df, client_of(store), query_settings(store))
        requested, _ = features_by_view(feature_refs, feature_views, on_demand)
        joins = tuple(
            view_join(view, features, config, full_feature_names=full_feature_names)
            for view, features in requested.items()
        )
        taken = set(entities.columns)
        for join in joins:
            absent = [k.entity_column for k in join.keys if k.entity_column not in taken]
            if absent:
                raise InvalidInput(
                    f"Expected the entity rows to have the keys {', '.join(absent)}; found the "
                    f"columns {', '.join(entities.columns)}. Add or rename a column."
                )
            doubled = [f.output for f in join.features if f.output in taken]
            if doubled:
                raise InvalidInput(
                    "Expected the entity rows to leave the features' names free; found "
                    f"{', '.join(doubled)} in both. Rename the column, or ask for "
                    "full_feature_names=True."
                )
        first, last = entities.span
        return ClickHouseRetrievalJob(
            store,
            PointInTime(entities, joins, as_known_then=filter_by_created_timestamp),
            full_feature_names=full_feature_names,
            on_demand_feature_views=on_demand,
            metadata=RetrievalMetadata(
                features=feature_refs,
                keys=[name for name in entities.columns if name != entities.time_column],
                min_event_timestamp=first,
                max_event_timestamp=last,
            ),
        )

    @staticmethod
    def pull_latest_from_table_or_query(
        config: RepoConfig,
        data_source: Any,
        join_key_columns: list[str],
        feature_name_columns: list[str],
        timestamp_field: str,
        created_timestamp_column: str | None,
        start_date: datetime,
        end_date: datetime,
    ) -> RetrievalJob:
        """Return the job that gets each key's latest row in `[start, end]`.

        A start after the source's newest row says nothing of the rows that came since it was set:
        Feast starts a first incremental run at the wall's now less the TTL, which lies years
        after replayed history. Each key's latest row until the end is then returned; writing it
        again is harmless, since the online store keeps the later of two rows.
        """
        source = _source(data_source)
        query = latest_rows_query(
            source.get_table_query_string(),
            source.column_types(config),
            join_key_columns,
            feature_name_columns,
            timestamp_field,
            created_timestamp_column,
            start_date,
            end_date,
        )
        return ClickHouseRetrievalJob(config.offline_store, Pull(query))

    @staticmethod
    def pull_all_from_table_or_query(
        config: RepoConfig,
        data_source: Any,
        join_key_columns: list[str],
        feature_name_columns: list[str],
        timestamp_field: str,
        created_timestamp_column: str | None = None,
        start_date: datetime | None = None,
        end_date: datetime | None = None,
    ) -> RetrievalJob:
        """Return the job that gets every row in `[start, end]`, to the microsecond."""
        source = _source(data_source)
        query = all_rows_query(
            source.get_table_query_string(),
            source.column_types(config),
            join_key_columns,
            feature_name_columns,
            timestamp_field,
            created_timestamp_column,
            start_date,
            end_date,
        )
        return ClickHouseRetrievalJob(config.offline_store, Pull(query))

    @staticmethod
    def offline_write_batch(
        config: RepoConfig,
        feature_view: FeatureView,
        table: pa.Table,
        progress: Callable[[int], Any] | None,
    ) -> None:
        """Append rows to the view's table; the same block twice is written once.

        Columns that the block leaves out take the table's defaults.

        Raises
        ------
        InvalidInput
            If the source is a query, or the block has a column that the table lacks.
        """
        source = _source(feature_view.batch_source)
        if not source.table:
            raise InvalidInput(
                f"Expected the source of view {feature_view.name} to be a table, to write to it; "
                f"found a query. Give ClickHouseSource(table=…)."
            )
        types = source.column_types(config)
        named = table.rename_columns(
            [name if name in types else source.column_of(name) for name in table.column_names]
        )
        unknown = [name for name in named.column_names if name not in types]
        if unknown:
            raise InvalidInput(
                f"Expected columns of {source.where} ({', '.join(types)}); found also "
                f"{', '.join(unknown)}. Leave them out, or add them to the table."
            )
        insert_once(client_of(config.offline_store), source.get_table_query_string(), named)
        if progress:
            progress(named.num_rows)


def _source(data_source: Any) -> ClickHouseSource:
    if not isinstance(data_source, ClickHouseSource):
        raise InvalidInput(
            f"Expected a ClickHouseSource, since the offline store is ClickHouse; found "
            f"{type(data_source).__name__}. Declare the view with atlas.offline.ClickHouseSource."
        )
    return data_source
