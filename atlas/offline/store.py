"""Feast's offline store on ClickHouse."""

# Feast has no types, so its base classes are Any.
# mypy: allow-subclassing-any

from __future__ import annotations

from collections.abc import Callable
from datetime import date, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
from feast import FeatureView, RepoConfig
from pydantic import Field

from atlas.clickhouse.clients import client_of, query_settings
from atlas.clickhouse.column_types import is_time
from atlas.config import load_settings
from atlas.errors import InvalidInput
from atlas.offline.feast_internals import (
    DUMMY_ENTITY_ID,
    BaseRegistry,
    FeastConfigBaseModel,
    OfflineStore,
    RetrievalJob,
)
from atlas.offline.feature_logs import write_logs
from atlas.offline.history import history
from atlas.offline.missing_containers import is_mark
from atlas.offline.monitoring import Watched, newest, statistics
from atlas.offline.monitoring_tables import (
    clear_baseline,
    create_tables,
    query_metrics,
    save_metrics,
)
from atlas.offline.pulls import PulledRows, all_rows, latest_rows
from atlas.offline.refusals import told
from atlas.offline.retrieval import ClickHouseRetrievalJob
from atlas.offline.source import ClickHouseSource
from atlas.offline.state_folder import offer_state_folder
from atlas.offline.time_spans import bound_of
from atlas.offline.writes import write_rows

__all__ = ["ClickHouseOfflineStore", "ClickHouseOfflineStoreConfig"]

_MONITORING = "the tables of monitoring"


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
        **span: Any,
    ) -> RetrievalJob:
        """Return the job that joins features to entity rows, each as known at its row's time.

        One row comes out for each row that goes in, in the same order. A value matches when its
        event lies in `[t - ttl, t]`, to the microsecond; the latest by (event, creation) wins.
        Missing is null. With `filter_by_created_timestamp`, versions created after `t` are
        hidden. Without entity rows, `start_date` and `end_date` bound a range, of which each
        (keys, event) comes out once.

        Raises
        ------
        InvalidInput
            If a key is missing from the entity rows, or a name would stand for two columns.
        """
        return history(
            config,
            feature_views,
            feature_refs,
            entity_df,
            registry,
            project,
            full_feature_names=full_feature_names,
            filter_by_created_timestamp=filter_by_created_timestamp,
            **span,
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
        """Return the job that gets each key's latest row in `[start, end]`, to the microsecond.

        Rows with a key that is null are left out, as in history.
        """
        rows = _pulled(
            config,
            data_source,
            join_key_columns,
            feature_name_columns,
            timestamp_field,
            created_timestamp_column,
            start_date,
            end_date,
        )
        return ClickHouseRetrievalJob(
            config.offline_store, latest_rows(rows), time_column=rows.event
        )

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
        """Return the job that gets every row in `[start, end]`, to the microsecond.

        Rows with a key that is null are left out, as in history.
        """
        rows = _pulled(
            config,
            data_source,
            join_key_columns,
            feature_name_columns,
            timestamp_field,
            created_timestamp_column,
            start_date,
            end_date,
        )
        return ClickHouseRetrievalJob(config.offline_store, all_rows(rows), time_column=rows.event)

    @staticmethod
    def offline_write_batch(
        config: RepoConfig,
        feature_view: FeatureView,
        table: pa.Table,
        progress: Callable[[int], Any] | None,
    ) -> None:
        """Append rows to the view's table, if each value fits its column.

        A block that was written before is dropped only if the source has a creation column, for
        then it is the same versions (and if the table deduplicates). Without one a block may take
        a correction back: a retry then doubles rows, which changes no answer.

        Columns that are Nullable, or have a default, may be left out. Rows of Atlas's own feature
        sets pass their schema first; the bad ones go to quarantine.

        Raises
        ------
        InvalidInput
            If the source is a query, or the rows do not fit its table; nothing is written then.
        """
        write_rows(config, feature_view, _source(feature_view.batch_source), table, progress)

    @staticmethod
    def write_logged_features(
        config: RepoConfig,
        data: pa.Table | Path,
        source: Any,
        logging_config: Any,
        registry: BaseRegistry,
    ) -> None:
        """Append a feature service's logs to its destination's table, made if it is not there.

        Raises
        ------
        InvalidInput
            If the destination is not a ClickHouseLoggingDestination, or the logs do not fit.
        """
        write_logs(
            client_of(config.offline_store),
            logging_config.destination,
            data,
            source.get_schema(registry),
            source.get_log_timestamp_column(),
        )

    @staticmethod
    def compute_monitoring_metrics(
        config: RepoConfig,
        data_source: Any,
        feature_columns: list[tuple[str, str]],
        timestamp_field: str,
        start_date: datetime | None = None,
        end_date: datetime | None = None,
        histogram_bins: int = 20,
        top_n: int = 10,
    ) -> list[dict[str, Any]]:
        """Return statistics of the features in `[start, end]`, computed by ClickHouse."""
        source = _source(data_source)
        watched = _watched(config, source, timestamp_field, start_date, end_date)
        columns = [(name, source.column_of(name), kind) for name, kind in feature_columns]
        absent = [column for _, column, _ in columns if column not in watched.types]
        if absent:
            raise InvalidInput(
                f"Expected {source.where} to have the columns {', '.join(absent)}; found "
                f"{', '.join(watched.types)}. Add them, or correct the view and run `feast apply`."
            )
        store = config.offline_store
        return statistics(
            client_of(store),
            watched,
            columns,
            query_settings(store),
            bins=histogram_bins,
            top=top_n,
        )

    @staticmethod
    def get_monitoring_max_timestamp(
        config: RepoConfig, data_source: Any, timestamp_field: str
    ) -> datetime | None:
        """Return the source's last moment, or None if it has no rows."""
        store = config.offline_store
        watched = _watched(config, _source(data_source), timestamp_field)
        return newest(client_of(store), watched, query_settings(store))

    @staticmethod
    def ensure_monitoring_tables(config: RepoConfig) -> None:
        """Create monitoring's tables, unless they are there."""
        with told(_MONITORING):
            create_tables(client_of(config.offline_store))

    @staticmethod
    def save_monitoring_metrics(
        config: RepoConfig, metric_type: str, metrics: list[dict[str, Any]]
    ) -> None:
        """Store results; one with the key of a former result takes its place."""
        with told(_MONITORING):
            save_metrics(client_of(config.offline_store), metric_type, metrics)

    @staticmethod
    def query_monitoring_metrics(
        config: RepoConfig,
        project: str,
        metric_type: str,
        filters: dict[str, Any] | None = None,
        start_date: date | None = None,
        end_date: date | None = None,
    ) -> list[dict[str, Any]]:
        """Return stored results, oldest first; of every project if `project` is empty."""
        client = client_of(config.offline_store)
        with told(_MONITORING):
            return query_metrics(client, project, metric_type, filters, start_date, end_date)

    @staticmethod
    def clear_monitoring_baseline(
        config: RepoConfig,
        project: str,
        feature_view_name: str | None = None,
        feature_name: str | None = None,
        data_source_type: str | None = None,
    ) -> None:
        """Say of the matching features' baselines that they are none any more."""
        with told(_MONITORING):
            clear_baseline(
                client_of(config.offline_store),
                {
                    "project_id": project,
                    "feature_view_name": feature_view_name,
                    "feature_name": feature_name,
                    "data_source_type": data_source_type,
                },
            )


def _pulled(
    config: RepoConfig,
    data_source: Any,
    keys: list[str],
    features: list[str],
    event: str,
    created: str | None,
    start: datetime | None,
    end: datetime | None,
) -> PulledRows:
    source = _source(data_source)
    types = source.column_types(config)
    return PulledRows(
        source=source.get_table_query_string(),
        where=source.where,
        types=types,
        # Feast's own engine names a key that no view without entities has.
        keys=[key for key in keys if key != DUMMY_ENTITY_ID or key in types],
        # None asked for means all: so Feast asks for what a view's transformation reads.
        features=features or [column for column in types if not is_mark(column)],
        # Feast calls a saved dataset's time event_timestamp, whatever it is.
        event=event if event in types else source.timestamp_field,
        created=created or None,
        start=bound_of("start_date", start),
        end=bound_of("end_date", end),
    )


def _watched(
    config: RepoConfig,
    source: ClickHouseSource,
    event: str,
    start: datetime | None = None,
    end: datetime | None = None,
) -> Watched:
    types = source.column_types(config)
    if event not in types or not is_time(types[event]):
        raise InvalidInput(
            f"Expected {source.where} to have the moments {event!r}; found {', '.join(types)}. "
            "Correct the source's timestamp_field."
        )
    return Watched(source.get_table_query_string(), source.where, types, event, start, end)


def _source(data_source: Any) -> ClickHouseSource:
    if not isinstance(data_source, ClickHouseSource):
        raise InvalidInput(
            f"Expected a ClickHouseSource, since the offline store is ClickHouse; found "
            f"{type(data_source).__name__}. Declare the view with atlas.offline.ClickHouseSource."
        )
    return data_source
