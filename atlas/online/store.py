"""Feast's online store on Redis: Feast's bytes, compared in Redis, aged by the project's clock."""

# Feast has no types, so its base classes are Any.
# mypy: allow-subclassing-any

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from feast import FeatureView, RepoConfig
from pydantic import Field

from atlas.bus import AsyncRedisClock, RedisClock
from atlas.clock import from_micros, to_micros
from atlas.config import load_settings
from atlas.online.feast_internals import (
    FieldStatus,
    Value,
    entity_key_protos,
    feast_redis,
    populate_response,
    serialize_entity_key,
    serialize_entity_key_prefix,
    stored_view_name,
    unique_entities,
)
from atlas.online.landing import Landing, Row
from atlas.online.wire import (
    event_field,
    event_micros,
    feature_field,
    is_key_of,
    known_field,
)

__all__ = ["RedisOnlineStore", "RedisOnlineStoreConfig"]

# Keys looked at together while a view is being deleted.
_KEYS_AT_ONCE = 1_000
_GLOB = b"*?[]\\^-"

# An entity's row as Feast passes it: its key, values by feature, event time, creation time.
EntityRow = tuple[Any, dict[str, Any], datetime, datetime | None]
# What is read of one entity: its event time, and the values by feature; (None, None) is no row.
ReadRow = tuple[datetime | None, dict[str, Any] | None]


def _default_connection() -> str:
    settings = load_settings()
    return f"{settings.host}:{settings.redis_port}"


class RedisOnlineStoreConfig(feast_redis.RedisOnlineStoreConfig):
    """Feast's settings for Redis; the address comes from Atlas's settings if it is left out."""

    type: str = "atlas.online.RedisOnlineStore"
    connection_string: str = Field(default_factory=_default_connection)


class RedisOnlineStore(feast_redis.RedisOnlineStore):
    """Feast's Redis store, with what trading needs of it.

    - Of two rows of an entity the later by (event, known) stays. They are compared inside Redis,
      so writers cannot race, and a correction of a row that is there lands.
    - Reading tells rows that are not there (NOT_FOUND), too old (OUTSIDE_MAX_AGE, value null) and
      null (NULL_VALUE) from those present. Age is judged by the project's clock, which may follow
      a replayed market.
    - Deleting touches the keys of exactly this project.
    """

    def online_write_batch(
        self,
        config: RepoConfig,
        table: FeatureView,
        data: Sequence[EntityRow],
        progress: Callable[[int], Any] | None,
    ) -> None:
        """Write rows; those older than what is there do not land."""
        client = self._get_client(config.online_store)
        for landing, rows in _landings(config, table, data):
            if config.online_store.redis_type == feast_redis.RedisType.redis_cluster:
                # A script's keys must lie in one slot of a cluster.
                for row in rows:
                    landing.land(client, [row])
            else:
                landing.land(client, rows)
        if progress:
            progress(len(data))

    async def online_write_batch_async(
        self,
        config: RepoConfig,
        table: FeatureView,
        data: Sequence[EntityRow],
        progress: Callable[[int], Any] | None,
    ) -> None:
        """Write rows on the asyncio client; otherwise as `online_write_batch`."""
        client = await self._get_client_async(config.online_store)
        for landing, rows in _landings(config, table, data):
            if config.online_store.redis_type == feast_redis.RedisType.redis_cluster:
                for row in rows:
                    await landing.land_async(client, [row])
            else:
                await landing.land_async(client, rows)
        if progress:
            progress(len(data))

    def online_read(
        self,
        config: RepoConfig,
        table: FeatureView,
        entity_keys: list[Any],
        requested_features: list[str] | None = None,
    ) -> list[ReadRow]:
        """Return event time and values of each entity, whatever their age; (None, None) if none."""
        features = requested_features or [feature.name for feature in table.features]
        commands = _commands(config, table, features, entity_keys)
        return _rows(features, self._read_hash_fields(config, commands))

    async def online_read_async(
        self,
        config: RepoConfig,
        table: FeatureView,
        entity_keys: list[Any],
        requested_features: list[str] | None = None,
    ) -> list[ReadRow]:
        """Read on the asyncio client; otherwise as `online_read`."""
        features = requested_features or [feature.name for feature in table.features]
        commands = _commands(config, table, features, entity_keys)
        return _rows(features, await self._read_async(config, commands))

    def _read_features_per_fv(
        self,
        config: RepoConfig,
        grouped_refs: Sequence[tuple[FeatureView, list[str]]],
        join_key_values: Any,
        entity_name_to_join_key_map: Any,
        online_features_response: Any,
        full_feature_names: bool,
        include_feature_view_version_metadata: bool,
    ) -> None:
        reads = [
            _ViewRead(config, view, features, join_key_values, entity_name_to_join_key_map)
            for view, features in grouped_refs
        ]
        replies = self._read_hash_fields(config, [c for read in reads for c in read.commands])
        now = None
        if any(read.ages for read in reads):
            now = RedisClock(self._get_client(config.online_store)).now()
        _answer(
            reads,
            iter(replies),
            now,
            online_features_response,
            full_feature_names,
            include_feature_view_version_metadata,
        )

    async def _read_features_per_fv_async(
        self,
        config: RepoConfig,
        grouped_refs: Sequence[tuple[FeatureView, list[str]]],
        join_key_values: Any,
        entity_name_to_join_key_map: Any,
        online_features_response: Any,
        full_feature_names: bool,
        include_feature_view_version_metadata: bool,
    ) -> None:
        reads = [
            _ViewRead(config, view, features, join_key_values, entity_name_to_join_key_map)
            for view, features in grouped_refs
        ]
        replies = await self._read_async(config, [c for read in reads for c in read.commands])
        now = None
        if any(read.ages for read in reads):
            now = await AsyncRedisClock(await self._get_client_async(config.online_store)).now()
        _answer(
            reads,
            iter(replies),
            now,
            online_features_response,
            full_feature_names,
            include_feature_view_version_metadata,
        )

    async def _read_async(
        self, config: RepoConfig, commands: Iterable[tuple[bytes, list[bytes]]]
    ) -> list[list[bytes | None]]:
        client = await self._get_client_async(config.online_store)
        async with client.pipeline(transaction=False) as pipe:
            for key, fields in commands:
                pipe.hmget(key, fields)
            replies: list[list[bytes | None]] = await pipe.execute()
        return replies

    def delete_entity_values(self, config: RepoConfig, join_keys: list[str]) -> None:
        """Delete every row of these join keys in this project, and in no other."""
        client = self._get_client(config.online_store)
        for keys in self._keys(config, join_keys):
            client.delete(*keys)

    def delete_table(self, config: RepoConfig, table: FeatureView) -> None:
        """Delete one view's fields from every entity of this project, and in no other."""
        client = self._get_client(config.online_store)
        view = stored_view_name(table, config)
        fields = [
            *(feature_field(view, feature.name) for feature in table.features),
            event_field(view),
            known_field(view),
        ]
        for keys in self._keys(config, table.join_keys):
            # Redis drops a hash whose last field goes.
            with client.pipeline(transaction=False) as pipe:
                for key in keys:
                    pipe.hdel(key, *fields)
                pipe.execute()

    def _keys(self, config: RepoConfig, join_keys: Sequence[str]) -> Iterator[list[bytes]]:
        prefix = serialize_entity_key_prefix(list(join_keys))
        pattern = _escaped(prefix) + b"*" + _escaped(config.project.encode())
        found: list[bytes] = []
        client = self._get_client(config.online_store)
        for key in client.scan_iter(pattern, count=_KEYS_AT_ONCE):
            # The pattern also matches projects whose names end in this one's.
            if is_key_of(key, prefix, len(join_keys), config.project):
                found.append(key)
            if len(found) == _KEYS_AT_ONCE:
                yield found
                found = []
        if found:
            yield found


class _ViewRead:
    """What is asked of one view in one request, and how its replies become an answer."""

    def __init__(
        self,
        config: RepoConfig,
        view: FeatureView,
        features: list[str],
        join_key_values: Any,
        entity_name_to_join_key_map: Any,
    ) -> None:
        self.view = view
        # A copy: Feast hands the same list to every view of one name.
        self.features = list(features)
        values, self.indexes, self.n_rows = unique_entities(
            view, join_key_values, entity_name_to_join_key_map
        )
        self.commands = _commands(config, view, self.features, entity_key_protos(values))

    @property
    def ages(self) -> bool:
        """Whether rows of this view grow too old."""
        return bool(self.view.ttl)

    def answer(
        self,
        replies: Iterator[list[bytes | None]],
        now: datetime | None,
        response: Any,
        full_feature_names: bool,
        with_versions: bool,
    ) -> None:
        """Append one vector for each feature to the response."""
        rows = _rows(self.features, [next(replies) for _ in self.commands])
        too_old = [_is_too_old(event, self.view.ttl, now) for event, _ in rows]
        shown = [
            (event, {name: Value() for name in values} if old and values else values)
            for (event, values), old in zip(rows, too_old, strict=True)
        ]
        populate_response(
            self.features,
            shown,
            self.indexes,
            response,
            full_feature_names,
            self.view,
            self.n_rows,
            with_versions,
        )
        vectors = response.results[len(response.results) - len(self.features) :]
        for vector in vectors:
            for old, places in zip(too_old, self.indexes, strict=True):
                for place in places:
                    if vector.statuses[place] != FieldStatus.PRESENT:
                        continue
                    if old:
                        vector.statuses[place] = FieldStatus.OUTSIDE_MAX_AGE
                    elif vector.values[place].WhichOneof("val") is None:
                        vector.statuses[place] = FieldStatus.NULL_VALUE


def _answer(
    reads: Sequence[_ViewRead],
    replies: Iterator[list[bytes | None]],
    now: datetime | None,
    response: Any,
    full_feature_names: bool,
    with_versions: bool,
) -> None:
    for read in reads:
        read.answer(replies, now, response, full_feature_names, with_versions)


def _landings(
    config: RepoConfig, table: FeatureView, data: Sequence[EntityRow]
) -> Iterator[tuple[Landing, list[Row]]]:
    """Group rows by the features that they carry; Feast may pass fewer than the view has."""
    groups: dict[tuple[str, ...], list[Row]] = {}
    for entity, values, event, created in data:
        event_us = to_micros(_aware(event))
        groups.setdefault(tuple(values), []).append(
            Row(
                _key(config, entity),
                event_us,
                to_micros(_aware(created)) if created else event_us,
                [value.SerializeToString() for value in values.values()],
            )
        )
    for features, rows in groups.items():
        landing = Landing(
            stored_view_name(table, config),
            features,
            seconds_to_live=config.online_store.key_ttl_seconds,
            overwrite=config.online_store.skip_dedup,
        )
        yield landing, rows


def _commands(
    config: RepoConfig, view: FeatureView, features: Sequence[str], entities: Iterable[Any]
) -> list[tuple[bytes, list[bytes]]]:
    name = stored_view_name(view, config)
    fields = [*(feature_field(name, feature) for feature in features), event_field(name)]
    return [(_key(config, entity), fields) for entity in entities]


def _rows(features: Sequence[str], replies: Iterable[list[bytes | None]]) -> list[ReadRow]:
    rows: list[ReadRow] = []
    for *cells, event in replies:
        if event is None:
            rows.append((None, None))
            continue
        values = {
            feature: Value.FromString(cell)
            for feature, cell in zip(features, cells, strict=True)
            # A feature that the view got later has no value in an older row: it is not found.
            if cell is not None
        }
        rows.append((_moment(event), values))
    return rows


def _is_too_old(event: datetime | None, ttl: timedelta | None, now: datetime | None) -> bool:
    return bool(event and ttl and now and now - event > ttl)


def _moment(event: bytes) -> datetime:
    return from_micros(event_micros(event))


def _aware(moment: datetime) -> datetime:
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment


def _key(config: RepoConfig, entity: Any) -> bytes:
    version = config.entity_key_serialization_version
    serialized: bytes = serialize_entity_key(entity, entity_key_serialization_version=version)
    project: bytes = config.project.encode()
    return serialized + project


def _escaped(data: bytes) -> bytes:
    """Write bytes so that they stand for themselves in a Redis pattern."""
    return b"".join(b"\\" + bytes((b,)) if b in _GLOB else bytes((b,)) for b in data)
