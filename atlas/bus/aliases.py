"""What Redis remembers of MLflow's aliases: where Atlas set each, and which somebody moved.

Both can be lost without harm: the deployment log says where each alias belongs.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from redis import Redis

from atlas.bus.connection import reaching

__all__ = ["AliasEdit", "keep_alias_edit", "read_alias_edits", "remember_alias", "remembered_alias"]

_SET_KEY = "atlas:aliases:set"
_EDITS_KEY = "atlas:aliases:edits"


@dataclass(frozen=True, slots=True)
class AliasEdit:
    """An alias that somebody moved in MLflow, and that was put back."""

    model: str
    alias: str
    found: int | None
    """The version that it pointed at; None if it had been removed."""
    put_back: int | None
    """The version that the deployment log says; None if it says none."""
    at: datetime

    def __str__(self) -> str:
        was = "removed" if self.found is None else f"moved to version {self.found}"
        now = "removed again" if self.put_back is None else f"put back to {self.put_back}"
        return (
            f"alias {self.alias} of {self.model} was {was} in MLflow; {now} at "
            f"{self.at:%Y-%m-%d %H:%M:%S} UTC"
        )


def remember_alias(redis: Redis, model: str, alias: str, version: int | None) -> None:
    """Remember where Atlas set an alias; None for nowhere."""
    with reaching(redis):
        redis.hset(_SET_KEY, f"{model}/{alias}", json.dumps(version))


def remembered_alias(redis: Redis, model: str, alias: str) -> tuple[bool, int | None]:
    """Return whether anything is remembered of an alias, and the version that Atlas set it to."""
    with reaching(redis):
        kept: Any = redis.hget(_SET_KEY, f"{model}/{alias}")
    return (False, None) if kept is None else (True, json.loads(kept))


def keep_alias_edit(redis: Redis, edit: AliasEdit) -> None:
    """Keep an edit, in place of an earlier one of the same alias."""
    told = {**asdict(edit), "at": edit.at.isoformat()}
    with reaching(redis):
        redis.hset(_EDITS_KEY, f"{edit.model}/{edit.alias}", json.dumps(told))


def read_alias_edits(redis: Redis) -> tuple[AliasEdit, ...]:
    """Return the last edit of each alias that somebody moved, newest first."""
    with reaching(redis):
        kept: Any = redis.hgetall(_EDITS_KEY)
    told = (json.loads(each) for each in kept.values())
    edits = (AliasEdit(**{**each, "at": datetime.fromisoformat(each["at"])}) for each in told)
    return tuple(sorted(edits, key=lambda edit: edit.at, reverse=True))
