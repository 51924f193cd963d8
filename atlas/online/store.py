"""Feast's online store on Redis: Feast's bytes, compared in Redis, aged by the project's clock."""

# Feast has no types, so its base classes are Any.
# mypy: allow-subclassing-any

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

from feast import FeatureStore, FeatureView, RepoConfig
from pydantic import Field

from atlas.bus import AsyncRedisClock, RedisClock, reaching
from atlas.clock import to_micros
from atlas.config import load_settings
from atlas.online.collisions import require_own_fields
from atlas.online.deletion import StoredView, delete_entities, delete_views
from atlas.online.feast_internals import DUMMY_ENTITY_ID, feast_redis, stored_view_name
from atlas.online.feast_reads import Hmget, ReadRow, Request, ViewRead, cell_of, redis_key
from atlas.online.landing import Landing, Row
from atlas.online.materialisation.slots import by_slot

__all__ = ["RedisOnlineStore", "RedisOnlineStoreConfig"]

# An entity's row as Feast passes it: its key, values by feature, event time, creation time.
EntityRow = tuple[Any, dict[str, Any], datetime, datetime | None]


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
    - Two features that would share a field in Redis are refused when they are applied.

    Event times keep their microseconds, and values of type UnixTimestamp whole seconds: see
    `atlas.online.wire`.
    """

    def client(self, config: RepoConfig) -> Any:
        """Return the blocking client, for an engine that writes beside this store."""
        return self._get_client(config.online_store)

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
        read = ViewRead.of(config, table, requested_features, entity_keys)
        return read.rows(self._read(config, read.commands))

    async def online_read_async(
        self,
        config: RepoConfig,
        table: FeatureView,
        entity_keys: list[Any],
        requested_features: list[str] | None = None,
    ) -> list[ReadRow]:
        """Read on the asyncio client; otherwise as `online_read`."""
        read = ViewRead.of(config, table, requested_features, entity_keys)
        return read.rows(await self._read_async(config, read.commands))

    def _read_features_per_fv(self, config: RepoConfig, *arguments: Any) -> None:
        request = Request(config, *arguments)
        replies = self._read(config, request.commands)
        clock = RedisClock(self._get_client(config.online_store))
        request.answer(replies, clock.now() if request.ages else None)

    async def _read_features_per_fv_async(self, config: RepoConfig, *arguments: Any) -> None:
        request = Request(config, *arguments)
        replies = await self._read_async(config, request.commands)
        clock = AsyncRedisClock(await self._get_client_async(config.online_store))
        request.answer(replies, await clock.now() if request.ages else None)

    def _read(self, config: RepoConfig, commands: Sequence[Hmget]) -> list[list[bytes | None]]:
        with reaching(self._get_client(config.online_store)):
            replies: list[list[bytes | None]] = self._read_hash_fields(config, commands)
        return replies

    async def _read_async(
        self, config: RepoConfig, commands: Iterable[Hmget]
    ) -> list[list[bytes | None]]:
        client = await self._get_client_async(config.online_store)
        with reaching(client):
            async with client.pipeline(transaction=False) as pipe:
                for key, fields in commands:
                    pipe.hmget(key, fields)
                replies: list[list[bytes | None]] = await pipe.execute()
        return replies

    def update(
        self,
        config: RepoConfig,
        tables_to_delete: Sequence[FeatureView],
        tables_to_keep: Sequence[FeatureView],
        entities_to_delete: Sequence[Any],
        entities_to_keep: Sequence[Any],
        partial: bool,
    ) -> None:
        """Refuse features that would overwrite each other, and delete what is no longer used.

        Raises
        ------
        InvalidInput
            If two features of views with the same join keys have the same hash; nothing is
            deleted then.
        """
        kept = {table.name: table for table in tables_to_keep}
        if partial:
            # The project has views that this call did not name.
            for table in FeatureStore(config=config).list_all_feature_views():
                kept.setdefault(table.name, table)
        gone = {table.name for table in tables_to_delete}
        require_own_fields([kept[name] for name in kept if name not in gone], config)
        if config.online_store.full_scan_for_deletion and tables_to_delete:
            self._delete_views(config, tables_to_delete)

    def plan(self, config: RepoConfig, desired_registry_proto: Any) -> list[Any]:
        """Return that nothing has to be made in Redis, after the check that `update` makes.

        Raises
        ------
        InvalidInput
            As `update`.
        """
        protos = desired_registry_proto.feature_views
        require_own_fields([FeatureView.from_proto(proto) for proto in protos], config)
        return []

    def teardown(
        self, config: RepoConfig, tables: Sequence[FeatureView], entities: Sequence[Any]
    ) -> None:
        """Delete every row of this project's views, and of no other project's."""
        self._delete_entities(config, {_join_keys(table.join_keys) for table in tables})
        # What else Feast holds open, it closes.
        super().teardown(config, [], entities)

    def delete_entity_values(self, config: RepoConfig, join_keys: list[str]) -> None:
        """Delete every row of these join keys in this project, and in no other."""
        self._delete_entities(config, [_join_keys(join_keys)])

    def delete_table(self, config: RepoConfig, table: FeatureView) -> None:
        """Delete one view's rows from every entity of this project, and of no other."""
        self._delete_views(config, [table])

    def _delete_entities(self, config: RepoConfig, join_keys: Collection[tuple[str, ...]]) -> None:
        client = self._get_client(config.online_store)
        with reaching(client):
            delete_entities(client, config.project, join_keys)

    def _delete_views(self, config: RepoConfig, tables: Sequence[FeatureView]) -> None:
        client = self._get_client(config.online_store)
        with reaching(client):
            delete_views(client, config.project, [_stored(table, config) for table in tables])


def _join_keys(names: Iterable[str]) -> tuple[str, ...]:
    # Of a view without entities Feast tells, or hides, that it has a key of its own.
    return tuple(names) or (DUMMY_ENTITY_ID,)


def _stored(table: FeatureView, config: RepoConfig) -> StoredView:
    return StoredView(
        stored_view_name(table, config),
        _join_keys(table.join_keys),
        tuple(feature.name for feature in table.features),
    )


def _landings(
    config: RepoConfig, table: FeatureView, data: Sequence[EntityRow]
) -> Iterator[tuple[Landing, list[Row]]]:
    """Turn Feast's rows into landings, each of rows whose keys may share a script call.

    A row stands for all of its view: features that it does not carry become null, so that no value
    of an older row is taken for this one's.
    """
    features = tuple(feature.name for feature in table.features)
    rows = []
    for entity, values, event, created in data:
        event_us = to_micros(_aware(event))
        rows.append(
            Row(
                redis_key(config, entity),
                event_us,
                to_micros(_aware(_known(event, created))),
                [cell_of(values[name]) if name in values else b"" for name in features],
            )
        )
    landing = Landing(
        stored_view_name(table, config),
        features,
        seconds_to_live=config.online_store.key_ttl_seconds,
        overwrite=config.online_store.skip_dedup,
    )
    if config.online_store.redis_type != feast_redis.RedisType.redis_cluster:
        yield landing, rows
        return
    # A script's keys must lie in one slot of a cluster.
    for _, places in by_slot([row.key for row in rows]):
        yield landing, [rows[place] for place in places]


def _known(event: datetime, created: datetime | None) -> datetime:
    # Pandas' NaT is no moment, and unlike anything, itself included.
    return event if created is None or created != created else created


def _aware(moment: datetime) -> datetime:
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment
