"""Compiles what the worker must know of a Feast view into a read plan."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from typing import Any

from feast import FeatureService, FeatureStore
from feast.base_feature_view import BaseFeatureView
from feast.errors import FeatureServiceNotFoundException, FeatureViewNotFoundException

from atlas.errors import InvalidInput
from atlas.online.collisions import require_own_fields
from atlas.online.feast_internals import stored_view_name
from atlas.serving import DEPTH_TAG, ReadPlan, ValueKind

__all__ = ["compile_plan"]


def compile_plan(store: FeatureStore, name: str | FeatureService | BaseFeatureView) -> ReadPlan:
    """Return the plan for a feature service over one view, or for a whole view.

    Parameters
    ----------
    name : str, FeatureService or FeatureView
        A feature service, such as `direction_ohlcv_1m`, or a feature view; or the object
        itself, as it was applied.

    Raises
    ------
    InvalidInput
        If there is neither; or an object is not as it was applied; or the service spans several
        views, or has one of a former version; or a feature is of a kind that the reader does not
        read; or two features would share a field in Redis.
    """
    view, features = _asked(store, name)
    require_own_fields(store.list_all_feature_views(), store.config)
    columns = {column.name: column for column in view.entity_columns}
    # In the order in which the view declares its entities; Feast's columns have another.
    keys = [columns[store.get_entity(name).join_key] for name in view.entities]
    # A view without entities lies under Feast's own, which it hides.
    keys = keys or list(columns.values())
    return ReadPlan(
        project=store.project,
        view=stored_view_name(view, store.config),
        join_keys=tuple(column.name for column in keys),
        features=tuple(feature.name for feature in features),
        ttl_us=(view.ttl or timedelta(0)) // timedelta(microseconds=1),
        key_kinds=_kinds(view, keys),
        kinds=_kinds(view, features),
        depth=int(view.tags.get(DEPTH_TAG, 0)),
    )


def _kinds(view: Any, fields: Iterable[Any]) -> tuple[ValueKind, ...]:
    words = [(field.name, field.dtype.to_value_type().name.lower()) for field in fields]
    known = [kind.value for kind in ValueKind]
    wrong = [f"{name} ({word})" for name, word in words if word not in known]
    if wrong:
        raise InvalidInput(
            f"Expected the fields of view {view.name} to be of {', '.join(known)}; found "
            f"{', '.join(wrong)}. Read them through Feast instead."
        )
    return tuple(ValueKind(word) for _, word in words)


def _asked(
    store: FeatureStore, asked: str | FeatureService | BaseFeatureView
) -> tuple[Any, list[Any]]:
    if isinstance(asked, str):
        return _of_service(store, asked) or _of_view(store, asked)
    if isinstance(asked, FeatureService):
        found = _of_service(store, asked.name)
        given = [field for view in asked.feature_view_projections for field in view.features]
    elif isinstance(asked, BaseFeatureView):
        found = _of_view(store, asked.name)
        given = asked.projection.features
    else:
        raise InvalidInput(
            f"Expected a feature service, a feature view or the name of one; found {asked!r:.80}."
        )
    if found is None or [field.name for field in given] != [field.name for field in found[1]]:
        raise InvalidInput(
            f"Expected {asked.name} with the features that were applied; found an object with "
            f"{', '.join(field.name for field in given) or 'none'}. Apply it first."
        )
    return found


def _of_service(store: FeatureStore, name: str) -> tuple[Any, list[Any]] | None:
    try:
        service: FeatureService = store.get_feature_service(name)
    except FeatureServiceNotFoundException:
        return None
    if len(service.feature_view_projections) != 1:
        raise InvalidInput(
            f"Expected feature service {name} to have one view, since a model reads one; "
            f"found {len(service.feature_view_projections)}. Split it."
        )
    projection = service.feature_view_projections[0]
    if projection.version_tag is not None:
        raise InvalidInput(
            f"Expected feature service {name} to have a view as it is now; found version "
            f"{projection.version_tag} of {projection.name}. Read it through Feast instead."
        )
    return store.get_feature_view(projection.name), list(projection.features)


def _of_view(store: FeatureStore, name: str) -> tuple[Any, list[Any]]:
    try:
        view = store.get_feature_view(name)
    except FeatureViewNotFoundException as error:
        known = ", ".join(view.name for view in store.list_batch_feature_views())
        raise InvalidInput(
            f"Expected a feature service or a feature view in project {store.project}; found "
            f"{name!r}. Views are {known or 'none: run `feast apply`'}."
        ) from error
    return view, list(view.features)
