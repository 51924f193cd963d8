"""From a Feast view to what the join needs: source columns, keys, aliases, names."""

from __future__ import annotations

from collections.abc import Sequence

from feast import FeatureView, RepoConfig

from atlas.errors import InvalidInput
from atlas.offline.asof import Feature, ViewJoin
from atlas.offline.feast_internals import DUMMY_ENTITY_ID
from atlas.offline.key_equality import Key
from atlas.offline.missing_containers import marks_of
from atlas.offline.source import ClickHouseSource

__all__ = ["view_join"]


def view_join(
    view: FeatureView,
    features: Sequence[str],
    config: RepoConfig,
    *,
    full_feature_names: bool,
) -> ViewJoin:
    """Return the join of one view.

    Raises
    ------
    InvalidInput
        If the view's source is not ClickHouse's, or lacks a column.
    """
    source = view.batch_source
    if not isinstance(source, ClickHouseSource):
        raise InvalidInput(
            f"Expected view {view.name} to read a ClickHouseSource; found "
            f"{type(source).__name__}. Declare it with atlas.offline.ClickHouseSource."
        )
    types = source.column_types(config)

    def typed(mapped: str) -> tuple[str, str]:
        column = source.column_of(mapped)
        if column not in types:
            raise InvalidInput(
                f"Expected {source.where} to have the column {column!r} of view {view.name}; "
                f"found {', '.join(types)}. Add the column, or correct the view and run "
                "`feast apply`."
            )
        return column, types[column]

    aliases = view.projection.join_key_map or {}
    event, event_type = typed(source.timestamp_field)
    created, created_type = (
        typed(source.created_timestamp_column) if source.created_timestamp_column else (None, "")
    )
    prefix = f"{view.projection.name_to_use()}__" if full_feature_names else ""
    return ViewJoin(
        view=view.projection.name_to_use(),
        where=source.where,
        source=source.get_table_query_string(),
        keys=tuple(
            Key(aliases.get(field.name, field.name), *typed(field.name))
            for field in view.entity_columns
            if field.name != DUMMY_ENTITY_ID
        ),
        event=event,
        event_type=event_type,
        created=created,
        created_type=created_type,
        features=tuple(
            Feature(column, kind, prefix + feature, next(iter(marks_of([column], types)), None))
            for feature in dict.fromkeys(features)
            for column, kind in [typed(feature)]
        ),
        # What the table lacks is refused where it is asked for.
        ties=tuple(sorted({source.column_of(each.name) for each in view.features} & types.keys())),
        ttl=view.ttl or None,
    )
