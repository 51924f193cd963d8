"""Features that would overwrite each other in Redis, found before anything is written.

All views with the same join keys share one hash for each entity. A feature's field there is a hash
of 32 bits of its name, so that two features can meet in one field. They cannot meet the fields of
times, which are longer than those four bytes.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

from atlas.errors import InvalidInput
from atlas.online.feast_internals import stored_view_name
from atlas.online.wire import colliding

__all__ = ["require_own_fields"]


def require_own_fields(views: Iterable[Any], config: Any) -> None:
    """Raise if two features of views with the same join keys would share a field.

    Parameters
    ----------
    views : iterable of BaseFeatureView
        Those that are never written online, which have no join keys, do not matter.
    config : RepoConfig

    Raises
    ------
    InvalidInput
        With the names of both.
    """
    stored: dict[tuple[str, ...], list[tuple[str, str]]] = defaultdict(list)
    for view in views:
        name = stored_view_name(view, config)
        stored[tuple(sorted(getattr(view, "join_keys", ())))] += [
            (name, f.name) for f in view.features
        ]
    for names in stored.values():
        if clash := colliding(names):
            (one_view, one), (other_view, other) = clash
            raise InvalidInput(
                "Expected each feature to have a field of its own in Redis; found that "
                f"{one_view}:{one} and {other_view}:{other} have the same 32-bit hash and would "
                "overwrite each other. Rename one of them."
            )
