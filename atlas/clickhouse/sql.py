"""How names, moments, orderings are written in ClickHouse SQL."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime

__all__ = ["moment", "name", "row_order", "table", "text", "ticks", "version_order"]

# What DateTime64 can hold; beyond it a bound says nothing and is left out.
_FIRST = datetime(1900, 1, 1, tzinfo=UTC)
_LAST = datetime(2262, 1, 1, tzinfo=UTC)


def name(identifier: str) -> str:
    """Quote one identifier, whatever characters it has."""
    return "`" + identifier.replace("\\", "\\\\").replace("`", "\\`") + "`"


def table(reference: str) -> str:
    """Quote `table` or `database.table`; a reference that has backticks is taken as written."""
    if "`" in reference:
        return reference
    return ".".join(name(part) for part in reference.split(".", 1))


def text(value: str) -> str:
    """Quote a string literal."""
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"


def moment(when: datetime) -> str | None:
    """Write a moment to the microsecond; a naive one is UTC. None outside ClickHouse's range."""
    aware = when.replace(tzinfo=UTC) if when.tzinfo is None else when.astimezone(UTC)
    if not _FIRST <= aware < _LAST:
        return None
    return f"toDateTime64('{aware:%Y-%m-%d %H:%M:%S.%f}', 6, 'UTC')"


def ticks(column: str, column_type: str) -> str:
    """Write a time column as Int64 nanoseconds since 1970."""
    digits = 9 if column_type.startswith("DateTime64(") and int(column_type[11]) > 6 else 6
    exact = f"toDateTime64({column}, {digits}, 'UTC')"
    if digits == 9:
        return f"toUnixTimestamp64Nano({exact})"
    return f"(toUnixTimestamp64Micro({exact}) * 1000)"


def version_order(created: str | None, values: Iterable[str]) -> str:
    """Write the number by which one of two versions of an event is the later.

    The creation's nanoseconds come first, then a hash of the values, so that even versions that
    differ in nothing but their values have one order on every run.
    """
    # Shifted to be positive, so that they order as unsigned. Unknown creation comes first.
    first = (
        f"bitShiftLeft(toUInt128(ifNull(toInt128({created}), toInt128('-9223372036854775808'))"
        " + toInt128('9223372036854775808')), 64) + "
        if created
        else ""
    )
    return f"{first}toUInt128(cityHash64(tuple({', '.join(values)})))"


def row_order(event: str, created: str | None, values: Iterable[str]) -> str:
    """Write the number by which one of two rows of a key is the later: by event, then version."""
    versions = version_order(created, values)
    return f"assumeNotNull(bitShiftLeft(toInt256({event}), 128) + toInt256({versions}))"
