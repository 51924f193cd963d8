"""What Feast asks of Redis in one request, and how the replies become its answer."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any

from feast import FeatureView, RepoConfig

from atlas.clock import from_micros
from atlas.online.feast_internals import (
    DUMMY_ENTITY_ID,
    EntityKey,
    FieldStatus,
    Value,
    entity_key_protos,
    populate_response,
    serialize_entity_key,
    stored_view_name,
    unique_entities,
)
from atlas.online.wire import event_field, event_micros, feature_field

__all__ = ["Hmget", "ReadRow", "Request", "ViewRead", "cell_of", "redis_key"]

# What Feast writes for a moment that is missing.
_NO_MOMENT = -(1 << 63)

Hmget = tuple[bytes, list[bytes]]
"""A key and the fields to read of it."""
ReadRow = tuple[datetime | None, dict[str, Any] | None]
"""An entity's event time and values by feature; (None, None) is no row."""


def redis_key(config: RepoConfig, entity: Any) -> bytes:
    """Return the Redis key of an entity that Feast describes."""
    if not entity.join_keys:
        # Pushed to a view without entities: Feast forgets on that way what it reads it by.
        entity = EntityKey(join_keys=[DUMMY_ENTITY_ID], entity_values=[Value(string_val="")])
    version = config.entity_key_serialization_version
    serialized: bytes = serialize_entity_key(entity, entity_key_serialization_version=version)
    project: bytes = config.project.encode()
    return serialized + project


def cell_of(value: Any) -> bytes:
    """Serialise a value; NaN is null, as from every other writer."""
    return b"" if _is_null(value) else bytes(value.SerializeToString())


def _value(cell: bytes) -> Any:
    """Read a value; what other clients of Feast wrote in place of a null is null."""
    value = Value.FromString(cell)
    return Value() if _is_null(value) else value


def _is_null(value: Any) -> bool:
    kind = value.WhichOneof("val")
    if kind in ("double_val", "float_val"):
        return math.isnan(getattr(value, kind))
    return bool(kind == "unix_timestamp_val" and value.unix_timestamp_val == _NO_MOMENT)


class ViewRead:
    """What is read of one view: a command for each entity."""

    def __init__(
        self,
        config: RepoConfig,
        view: FeatureView,
        features: Sequence[str],
        entities: Iterable[Any],
    ) -> None:
        # A copy: Feast hands the same list to every view of one name.
        self.features = list(features)
        name = stored_view_name(view, config)
        fields = [*(feature_field(name, feature) for feature in features), event_field(name)]
        self.commands: list[Hmget] = [(redis_key(config, entity), fields) for entity in entities]

    @staticmethod
    def of(
        config: RepoConfig, view: FeatureView, features: list[str] | None, entities: Iterable[Any]
    ) -> ViewRead:
        """Describe a read of some features, or of all."""
        return ViewRead(config, view, features or [f.name for f in view.features], entities)

    def rows(self, replies: Iterable[list[bytes | None]]) -> list[ReadRow]:
        """Return one row for each reply."""
        rows: list[ReadRow] = []
        for *cells, event in replies:
            if event is None:
                rows.append((None, None))
                continue
            values = {
                feature: _value(cell)
                for feature, cell in zip(self.features, cells, strict=True)
                # A feature that the view got later has no value in an older row: not found.
                if cell is not None
            }
            rows.append((from_micros(event_micros(event)), values))
        return rows


class Request:
    """One call of `get_online_features`: some features of each of some views."""

    def __init__(
        self,
        config: RepoConfig,
        grouped_refs: Sequence[tuple[FeatureView, list[str]]],
        join_key_values: Any,
        entity_name_to_join_key_map: Any,
        response: Any,
        full_feature_names: bool,
        with_versions: bool,
    ) -> None:
        self._views = [
            _AskedView(
                config,
                view,
                features,
                unique_entities(view, join_key_values, entity_name_to_join_key_map),
            )
            for view, features in grouped_refs
        ]
        self._response = response
        self._naming = (full_feature_names, with_versions)
        self.commands = [command for view in self._views for command in view.read.commands]

    @property
    def ages(self) -> bool:
        """Whether rows of any view grow too old, so that the time is needed."""
        return any(view.ttl for view in self._views)

    def answer(self, replies: Iterable[list[bytes | None]], now: datetime | None) -> None:
        """Append one vector for each feature to the response."""
        left = iter(replies)
        for view in self._views:
            view.answer(left, now, self._response, *self._naming)


class _AskedView:
    """One view of a request; an entity that is asked for twice is read once."""

    def __init__(
        self, config: RepoConfig, view: FeatureView, features: list[str], entities: Any
    ) -> None:
        values, self.places, self.n_rows = entities
        self.view = view
        # A view computed on demand and written has none.
        self.ttl: timedelta | None = getattr(view, "ttl", None)
        self.read = ViewRead(config, view, features, entity_key_protos(values))

    def answer(
        self,
        replies: Iterator[list[bytes | None]],
        now: datetime | None,
        response: Any,
        full_feature_names: bool,
        with_versions: bool,
    ) -> None:
        features = self.read.features
        rows = self.read.rows([next(replies) for _ in self.read.commands])
        too_old = [self._is_too_old(event, now) for event, _ in rows]
        shown = [
            (event, {name: Value() for name in values} if old and values else values)
            for (event, values), old in zip(rows, too_old, strict=True)
        ]
        populate_response(
            features,
            shown,
            self.places,
            response,
            full_feature_names,
            self.view,
            self.n_rows,
            with_versions,
        )
        vectors = response.results[len(response.results) - len(features) :]
        for vector in vectors:
            for old, places in zip(too_old, self.places, strict=True):
                for place in places:
                    if vector.statuses[place] != FieldStatus.PRESENT:
                        continue
                    if old:
                        vector.statuses[place] = FieldStatus.OUTSIDE_MAX_AGE
                    elif vector.values[place].WhichOneof("val") is None:
                        vector.statuses[place] = FieldStatus.NULL_VALUE

    def _is_too_old(self, event: datetime | None, now: datetime | None) -> bool:
        return bool(event and self.ttl and now and now - event > self.ttl)
