"""What bringing one Feast view online takes: its columns in ClickHouse, its names in Redis."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from feast import FeatureView, RepoConfig

from atlas.errors import InvalidInput
from atlas.online.feast_internals import stored_view_name
from atlas.serving import DEPTH_TAG, ReadPlan, ValueKind

__all__ = ["Column", "ViewPlan", "view_plan"]

# Feast's mark of a view without entities: a join key whose only value is the empty text.
_DUMMY_KEY = "__dummy_id"


@dataclass(frozen=True, slots=True)
class Column:
    """A join key or a feature: its name in Feast, its column, its Feast type."""

    name: str
    column: str
    type_name: str


@dataclass(frozen=True, slots=True)
class ViewPlan:
    """One view's rows, from where to where."""

    project: str
    name: str
    stored_name: str
    source: str
    """What stands after FROM."""
    types: Mapping[str, str]
    """ClickHouse type of each column."""
    keys: tuple[Column, ...]
    """Empty for a view without entities."""
    features: tuple[Column, ...]
    event: str
    created: str | None
    written: str | None
    """Column that says when ClickHouse stored a row, where there is one."""
    seconds_to_live: int | None = None
    overwrites: bool = False
    depth: int = 0
    """So many last rows of each key are kept online as well."""
    all_keys: tuple[Column, ...] = field(default=())
    """The join keys of Feast, the mark of a view without entities included."""

    @property
    def definition(self) -> str:
        """A hash of all that decides what lands: rows online under another one are to be redone."""
        parts = [
            self.source,
            [(c.name, c.column, c.type_name) for c in (*self.all_keys, *self.features)],
            [self.event, self.created, self.depth],
        ]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]

    def where(self, column: Column) -> str:
        """Say in words where a value comes from."""
        return f"column {column.column} of view {self.name}"

    @property
    def read_plan(self) -> ReadPlan:
        """Where the last rows lie in Redis."""
        return ReadPlan(
            project=self.project,
            view=self.stored_name,
            join_keys=tuple(key.name for key in self.all_keys),
            features=tuple(feature.name for feature in self.features),
            ttl_us=0,
            key_kinds=tuple(ValueKind(key.type_name.lower()) for key in self.all_keys),
            kinds=tuple(ValueKind(feature.type_name.lower()) for feature in self.features),
            depth=self.depth,
        )


def view_plan(config: RepoConfig, view: FeatureView, *, written_column: str | None) -> ViewPlan:
    """Return the plan of a view over a ClickHouse source.

    Raises
    ------
    InvalidInput
        If the source is not ClickHouse's, lacks a column, or the view has steps of its own.
    """
    source: Any = view.batch_source
    if not all(hasattr(source, name) for name in ("column_types", "column_of")):
        raise InvalidInput(
            f"Expected the batch source of view {view.name} to be a ClickHouseSource, since "
            f"atlas.online.ComputeEngine reads ClickHouse; found {type(source).__name__}. Declare "
            "it with atlas.offline.ClickHouseSource, or use Feast's local engine."
        )
    steps = [
        name
        for name in ("feature_transformation", "aggregations", "source_views")
        if getattr(view, name, None)
    ]
    if steps:
        raise InvalidInput(
            f"Expected the features of view {view.name} to be columns of its source; found "
            f"{', '.join(steps)}, which atlas.online.ComputeEngine does not run. Write them into "
            "the source's query, or use Feast's local engine for this view."
        )
    types = source.column_types(config)
    all_keys = tuple(_columns(source, view.entity_columns))
    keys = tuple(key for key in all_keys if key.name != _DUMMY_KEY)
    features = tuple(_columns(source, view.features))
    event = source.column_of(source.timestamp_field)
    created = source.created_timestamp_column
    created = source.column_of(created) if created else None
    wanted = [*(c.column for c in (*keys, *features)), event, *([created] if created else [])]
    if absent := [column for column in dict.fromkeys(wanted) if column not in types]:
        raise InvalidInput(
            f"Expected {source.where} to have the columns of view {view.name}; found no "
            f"{', '.join(absent)} among {', '.join(types)}. Correct the view or its "
            "field_mapping, or add the columns."
        )
    store = config.online_store
    return ViewPlan(
        project=config.project,
        name=view.name,
        stored_name=stored_view_name(view, config),
        source=source.get_table_query_string(),
        types=types,
        keys=keys,
        features=features,
        event=event,
        created=created,
        written=written_column if written_column in types else None,
        seconds_to_live=store.key_ttl_seconds,
        overwrites=bool(store.skip_dedup),
        depth=int(view.tags.get(DEPTH_TAG, 0)),
        all_keys=all_keys,
    )


def _columns(source: Any, fields: Any) -> list[Column]:
    return [
        Column(field.name, source.column_of(field.name), field.dtype.to_value_type().name)
        for field in fields
    ]
