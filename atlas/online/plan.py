"""Compiles what the worker must know of a Feast view into a read plan."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from feast import FeatureService, FeatureStore
from feast.errors import FeatureServiceNotFoundException, FeatureViewNotFoundException
from feast.types import Float64

from atlas.errors import InvalidInput
from atlas.online.feast_internals import stored_view_name
from atlas.online.wire import colliding
from atlas.serving import ReadPlan

__all__ = ["compile_plan"]


def compile_plan(store: FeatureStore, name: str) -> ReadPlan:
    """Return the plan for a feature service over one view, or for a whole view.

    Parameters
    ----------
    name : str
        A feature service, such as `direction_ohlcv_1m`, or a feature view.

    Raises
    ------
    InvalidInput
        If there is neither; or the service spans several views; or the view is not of doubles
        under one join key; or two features would share a field in Redis.
    """
    view, features = _view_and_features(store, name)
    if len(view.join_keys) != 1:
        raise InvalidInput(
            f"Expected view {view.name} to have one join key; found "
            f"{', '.join(view.join_keys) or 'none'}. Read it through Feast instead."
        )
    wrong = [f"{f.name} ({f.dtype})" for f in features if f.dtype != Float64]
    if wrong:
        raise InvalidInput(
            f"Expected the features of view {view.name} to be Float64; found {', '.join(wrong)}. "
            "Read them through Feast instead."
        )
    stored = [
        (stored_view_name(other, store.config), feature.name)
        for other in store.list_batch_feature_views()
        if list(other.join_keys) == list(view.join_keys)
        for feature in other.features
    ]
    if clash := colliding(stored):
        (one_view, one), (other_view, other_name) = clash
        raise InvalidInput(
            "Expected each feature to have a field of its own in Redis; found that "
            f"{one_view}:{one} and {other_view}:{other_name} have the same 32-bit hash and would "
            "overwrite each other. Rename one of them."
        )
    return ReadPlan(
        project=store.project,
        view=stored_view_name(view, store.config),
        join_key=view.join_keys[0],
        features=tuple(feature.name for feature in features),
        ttl_us=(view.ttl or timedelta(0)) // timedelta(microseconds=1),
    )


def _view_and_features(store: FeatureStore, name: str) -> tuple[Any, list[Any]]:
    try:
        service: FeatureService = store.get_feature_service(name)
    except FeatureServiceNotFoundException:
        pass
    else:
        if len(service.feature_view_projections) != 1:
            raise InvalidInput(
                f"Expected feature service {name} to have one view, since a model reads one; "
                f"found {len(service.feature_view_projections)}. Split it."
            )
        projection = service.feature_view_projections[0]
        return store.get_feature_view(projection.name), list(projection.features)
    try:
        view = store.get_feature_view(name)
    except FeatureViewNotFoundException as error:
        known = ", ".join(view.name for view in store.list_batch_feature_views())
        raise InvalidInput(
            f"Expected a feature service or a feature view in project {store.project}; found "
            f"{name!r}. Views are {known or 'none: run `feast apply`'}."
        ) from error
    return view, list(view.features)
