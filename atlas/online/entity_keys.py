"""What an entity is called in Redis: its join keys' names and values, and the project."""

from __future__ import annotations

import operator
import struct
from typing import Any

from atlas.errors import InvalidInput
from atlas.online.wire import key_prefix
from atlas.serving import ReadPlan, ValueKind

__all__ = ["EntityKeys", "EntityValue"]

EntityValue = str | int | bytes | tuple[str | int | bytes, ...]
"""One join key's value, or one for each join key of the plan, in its order."""

# Numbers of Feast's value types, which a key writes before each value.
_TYPE = {
    ValueKind.BYTES: 1,
    ValueKind.STRING: 2,
    ValueKind.INT32: 3,
    ValueKind.INT64: 4,
    ValueKind.UNIX_TIMESTAMP: 8,
}
_WHOLE = {ValueKind.INT32: "<i", ValueKind.INT64: "<q", ValueKind.UNIX_TIMESTAMP: "<q"}
# A desk has fewer symbols; a stream of ever new keys must not fill the memory.
_REMEMBERED = 100_000


class EntityKeys:
    """Redis keys of a plan's entities, each made once."""

    def __init__(self, plan: ReadPlan) -> None:
        wrong = [kind for kind in plan.key_kinds if kind not in _TYPE]
        if wrong or len(plan.key_kinds) != len(plan.join_keys):
            raise InvalidInput(
                f"Expected one of {', '.join(_TYPE)} for each join key of view {plan.view}; found "
                f"{', '.join(plan.key_kinds) or 'none'} for {', '.join(plan.join_keys)}."
            )
        self._plan = plan
        self._prefix = key_prefix(plan.join_keys)
        self._project = plan.project.encode()
        # Feast sorts the join keys by name.
        self._order = sorted(range(len(plan.join_keys)), key=plan.join_keys.__getitem__)
        self._known: dict[EntityValue, bytes] = {}

    def __call__(self, value: EntityValue) -> bytes:
        """Return the Redis key of an entity.

        Raises
        ------
        InvalidInput
            If the value is not of the join keys' kinds.
        """
        key = self._known.get(value)
        # True equals 1, and 1.0 does: only what was checked may be taken from memory.
        if key is None or type(value) not in (str, bytes):
            key = self._made(value)
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            self._known[value] = key
        return key

    def _made(self, value: EntityValue) -> bytes:
        plan = self._plan
        values = value if isinstance(value, tuple) else (value,)
        if len(values) != len(plan.join_keys):
            raise InvalidInput(
                f"Expected a value for each of {', '.join(plan.join_keys)}, in this order; found "
                f"{value!r:.80}."
            )
        parts = [self._prefix]
        for at in self._order:
            parts.append(_encoded(plan.join_keys[at], plan.key_kinds[at], values[at]))
        return b"".join([*parts, self._project])


def _encoded(name: str, kind: ValueKind, value: Any) -> bytes:
    data: bytes
    try:
        if kind is ValueKind.STRING:
            data = value.encode()
        elif kind is ValueKind.BYTES:
            data = memoryview(value).tobytes()
        elif isinstance(value, bool):
            raise TypeError("a truth value")
        else:
            data = struct.pack(_WHOLE[kind], operator.index(value))
    except (AttributeError, TypeError, struct.error) as error:
        raise InvalidInput(
            f"Expected join key {name} to be of kind {kind}; found {value!r:.80}. Give the key as "
            "the view declares it."
        ) from error
    return struct.pack("<II", _TYPE[kind], len(data)) + data
