"""When an entity row's key and a source's key are the same value, whatever their types."""

from __future__ import annotations

from dataclasses import dataclass

from atlas.clickhouse import sql
from atlas.clickhouse.column_types import bare, family

__all__ = ["Key", "asked_key", "source_key"]

# Text forms of these are many, so that text does not come back as it was.
_SPELT = ("UUID", "IPv4", "IPv6")
_TEXT = ("String", "FixedString")


@dataclass(frozen=True, slots=True)
class Key:
    """A column of the entity rows, and the source's column that it must equal."""

    entity_column: str
    source_column: str
    source_type: str
    entity_type: str = ""
    """ClickHouse type in which the entity rows' keys are sent."""


def source_key(key: Key) -> str:
    """Write the source's side: the column itself, so that the table's index is of use."""
    column = sql.name(key.source_column)
    # An unknown label is an error to ClickHouse even where NULL is asked for.
    return f"toString({column})" if family(key.source_type).startswith("Enum") else column


def asked_key(key: Key, column: str) -> str:
    """Write the entity row's side in the source's type; NULL if no source value equals it."""
    found, wanted = bare(key.entity_type), bare(key.source_type)
    kind = family(wanted)
    if kind.startswith("Enum"):
        return f"toString({column})"
    if found == wanted:
        return column
    target = sql.text(wanted)
    if kind == "FixedString" and family(found) not in _TEXT:
        column = f"toString({column})"
    cast = f"accurateCastOrNull({column}, {target})"
    if kind in _SPELT or kind in _TEXT or (_is_whole(found) and _is_whole(wanted)):
        return cast
    # Other casts round: half a second to a whole one, 5.5 to 5. The value must survive them.
    back = f"accurateCastOrNull({cast}, {sql.text(found)})"
    return f"if({back} = {column}, {cast}, NULL)"


def _is_whole(column_type: str) -> bool:
    return column_type.startswith(("Int", "UInt"))
