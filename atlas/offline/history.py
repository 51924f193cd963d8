"""What `get_historical_features` asks: views, names and rows checked before any join runs."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from feast import FeatureView, RepoConfig

from atlas.clickhouse.clients import client_of, query_settings
from atlas.errors import InvalidInput
from atlas.offline.asof import ViewJoin
from atlas.offline.entity_rows import EntityRows, entity_rows
from atlas.offline.feast_internals import (
    BaseRegistry,
    RetrievalJob,
    RetrievalMetadata,
    features_by_view,
    requested_on_demand_views,
)
from atlas.offline.point_in_time import PointInTime
from atlas.offline.ranges import rows_of_range
from atlas.offline.retrieval import ClickHouseRetrievalJob
from atlas.offline.view_joins import view_join

__all__ = ["history"]


def history(
    config: RepoConfig,
    feature_views: list[FeatureView],
    feature_refs: list[str],
    entity_df: Any,
    registry: BaseRegistry,
    project: str,
    *,
    full_feature_names: bool,
    filter_by_created_timestamp: bool,
    start_date: datetime | None = None,
    end_date: datetime | None = None,
) -> RetrievalJob:
    """Return the job that joins features to entity rows, each as known at its row's time.

    Without entity rows they are those of the range `[start_date, end_date]`: see `rows_of_range`.

    Raises
    ------
    InvalidInput
        If a key is missing from the entity rows, or a name would stand for two columns.
    """
    store = config.offline_store
    client, settings = client_of(store), query_settings(store)
    on_demand = requested_on_demand_views(feature_refs, project, registry)
    requested, _ = features_by_view(feature_refs, feature_views, on_demand)
    joins = tuple(
        view_join(view, features, config, full_feature_names=full_feature_names)
        for view, features in requested.items()
    )
    entities = (
        rows_of_range(joins, list(requested), start_date, end_date, client, settings)
        if entity_df is None
        else entity_rows(entity_df, client, settings)
    )
    _refuse_missing_keys(entities, joins)
    _refuse_doubled_names(entities, joins)
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
        time_column=entities.time_column,
    )


def _refuse_missing_keys(entities: EntityRows, joins: Sequence[ViewJoin]) -> None:
    keys = dict.fromkeys(key.entity_column for join in joins for key in join.keys)
    if absent := [key for key in keys if key not in entities.columns]:
        raise InvalidInput(
            f"Expected the entity rows to have the keys {', '.join(absent)}; found the columns "
            f"{', '.join(entities.columns)}. Add or rename a column."
        )


def _refuse_doubled_names(entities: EntityRows, joins: Sequence[ViewJoin]) -> None:
    taken = set(entities.columns)
    for join in joins:
        outputs = [feature.output for feature in join.features]
        if doubled := [name for name in outputs if name in taken]:
            raise InvalidInput(
                f"Expected view {join.view} to find its features' names free; found "
                f"{', '.join(doubled)} twice, in the entity rows or another view. Rename the "
                "column, or ask for full_feature_names=True."
            )
        taken.update(outputs)
