"""Deletes rows from Redis by keys read exactly, so that no other project's are touched.

Redis has no index of keys, so finding them costs one SCAN of the whole keyspace, a second or two
for a million keys, however many views and join keys are deleted in one call; deleting whole keys
takes another, for the ledgers. An index would save that at a cost to every write.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from atlas.online.materialisation.claim import work_key
from atlas.online.wire import (
    event_field,
    feature_field,
    is_key_of,
    key_prefix,
    known_field,
    parse_history_key,
)

__all__ = ["StoredView", "delete_entities", "delete_views"]

# One call of SCAN looks at so many keys: well below a millisecond.
_KEYS_AT_ONCE = 1_000
_GLOB = b"*?[]\\^-"


@dataclass(frozen=True, slots=True)
class StoredView:
    """A view under the name that Redis has for it."""

    name: str
    join_keys: tuple[str, ...]
    features: tuple[str, ...]

    @property
    def fields(self) -> list[bytes]:
        """What the view has in an entity's hash."""
        named = (feature_field(self.name, feature) for feature in self.features)
        return [*named, event_field(self.name), known_field(self.name)]


@dataclass(frozen=True, slots=True)
class _Found:
    key: bytes
    join_keys: tuple[str, ...]
    """Sorted."""
    view: str | None
    """Whose history it is; None for the hash of all views."""


def delete_entities(redis: Any, project: str, join_keys: Collection[Sequence[str]]) -> None:
    """Delete every row of these sets of join keys in this project, and in no other.

    Parameters
    ----------
    redis : Redis or RedisCluster
    """
    if join_keys:
        _forget_views(redis, project)
    for chunk in _found(redis, project, join_keys):
        with redis.pipeline(transaction=False) as pipe:
            for found in chunk:
                pipe.unlink(found.key)
            pipe.execute()


def delete_views(redis: Any, project: str, views: Collection[StoredView]) -> None:
    """Delete these views' rows from every entity of this project, and from no other.

    Parameters
    ----------
    redis : Redis or RedisCluster
    """
    fields: dict[tuple[str, ...], list[bytes]] = {}
    for view in views:
        fields.setdefault(tuple(sorted(view.join_keys)), []).extend(view.fields)
    names = {view.name for view in views}
    for name in names:
        redis.unlink(work_key(project, name, "ledger"))
    for chunk in _found(redis, project, fields):
        with redis.pipeline(transaction=False) as pipe:
            for found in chunk:
                if found.view is None:
                    # Redis drops a hash whose last field goes.
                    pipe.hdel(found.key, *fields[found.join_keys])
                elif found.view in names:
                    pipe.unlink(found.key)
            pipe.execute()


def _forget_views(redis: Any, project: str) -> None:
    """Drop the ledger of every view: the next runs look at everything.

    Before the rows go, so that a deletion that broke off leaves no ledger that speaks of them.
    """
    head, tail = work_key(project, "*", "ledger").encode().split(b"*")
    for key in redis.scan_iter(_escaped(head) + b"*" + _escaped(tail), count=_KEYS_AT_ONCE):
        redis.unlink(key)


def _found(
    redis: Any, project: str, join_keys: Collection[Sequence[str]]
) -> Iterator[list[_Found]]:
    prefixes = {tuple(sorted(names)): key_prefix(names) for names in join_keys}
    if not prefixes:
        return
    some = _escaped(*prefixes.values()) if len(prefixes) == 1 else b""
    # A history's key has more before the prefix. The pattern also lets through projects whose
    # names end in this one's.
    pattern = b"*" + some + b"*" + _escaped(project.encode())
    chunk: list[_Found] = []
    for key in redis.scan_iter(pattern, count=_KEYS_AT_ONCE):
        history = parse_history_key(key)
        view, entity = history or (None, key)
        for names, prefix in prefixes.items():
            if is_key_of(entity, prefix, len(names), project):
                chunk.append(_Found(key, names, view))
        if len(chunk) >= _KEYS_AT_ONCE:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def _escaped(data: bytes) -> bytes:
    """Write bytes so that they stand for themselves in a Redis pattern."""
    return b"".join(b"\\" + bytes((b,)) if b in _GLOB else bytes((b,)) for b in data)
