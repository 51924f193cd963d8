"""How names, moments, orderings and subqueries are written in ClickHouse SQL."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, datetime

__all__ = [
    "latest_bound",
    "moment",
    "name",
    "row_order",
    "statement",
    "table",
    "text",
    "ticks",
    "version_order",
]

# What DateTime64 can hold; beyond it a bound says nothing and is left out.
_FIRST = datetime(1900, 1, 1, tzinfo=UTC)
_LAST = datetime(2262, 1, 1, tzinfo=UTC)
# The last whole microsecond whose nanoseconds Int64 holds; DateTime64(6) goes on until 2299.
_LAST_MICROS = 2**63 // 1_000 - 1

_TOKEN = re.compile(
    r"""(?P<blank>\s+|;|--[^\n]*|\#[!\ ][^\n]*|/\*.*?\*/)
    |[^\s;'"`\#/-]+
    |'(?:[^'\\]|\\.|'')*'|"(?:[^"\\]|\\.)*"|`(?:[^`\\]|\\.)*`|.""",
    re.DOTALL | re.VERBOSE,
)


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


def statement(query: str) -> str:
    """Return a SELECT without the semicolons and comments behind it, so that brackets can close."""
    end = 0
    for token in _TOKEN.finditer(query):
        if not token["blank"]:
            end = token.end()
    return query[:end].strip()


def ticks(column: str, column_type: str) -> str:
    """Write a time column as Int64 nanoseconds since 1970; none is later than 2262."""
    digits = int(column_type[11]) if column_type.startswith("DateTime64(") else 0
    if digits > 6:
        exact = column if digits == 9 else f"toDateTime64({column}, 9, 'UTC')"
        return f"toUnixTimestamp64Nano({exact})"
    exact = column if digits == 6 else f"toDateTime64({column}, 6, 'UTC')"
    return f"(least(toUnixTimestamp64Micro({exact}), {_LAST_MICROS}) * 1000)"


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
    """Write the number by which one of two rows of a key is the later, as an Int256.

    By event and creation, in nanoseconds, then by a hash of the values: every two rows that differ
    have one order on every run. Unknown creation comes first.
    """
    known = f" + ifNull({created}, {-(2**63)})" if created else ""
    # A creation, of either sign, moves the number by less than the next event does.
    moments = f"bitShiftLeft(toInt128({event}), 64){known}"
    ties = f"cityHash64(tuple({', '.join(values)}))"
    return f"assumeNotNull(bitShiftLeft(toInt256({moments}), 64) + {ties})"


def latest_bound(time: str) -> str:
    """Write the number that no row of `time`, in nanoseconds, or before exceeds in `row_order`."""
    moments = f"bitShiftLeft(toInt128({time}), 64) + {2**63 - 1}"
    return f"bitShiftLeft(toInt256({moments}), 64) + {2**64 - 1}"
