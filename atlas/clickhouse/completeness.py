"""How complete a feature view is: of each symbol and hour, what is there and what should be.

An hour holds the rows of the bars that close in `(hour, hour + 1 h]`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from clickhouse_connect.driver.client import Client

from atlas.clickhouse.quarantine import open_ids
from atlas.clickhouse.sql import name
from atlas.clickhouse.values import moment
from atlas.clock import EPOCH
from atlas.features import StoredView
from atlas.market import bars_table

__all__ = ["HourOfSymbol", "SymbolRecord", "completeness"]

_HOUR = timedelta(hours=1)
_MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class HourOfSymbol:
    """One symbol's rows of one hour, in their newest versions."""

    hour: datetime
    present: int
    """Feature rows that are stored."""
    bars: int
    """Bars that are stored: so many rows are expected."""
    due: int
    """Bars that closed by the clock, if the market never rests."""
    quarantined: int
    """Open rows in quarantine, of the view and of its bars."""
    worst_feature: str | None
    """The feature that is null most often; None if none is."""
    null_share: float
    """How often that is, from 0 to 1."""

    @property
    def complete(self) -> bool:
        """Whether each stored bar has its row."""
        return self.present >= self.bars


@dataclass(frozen=True, slots=True)
class SymbolRecord:
    """One symbol's hours, oldest first; every hour of the span is there."""

    symbol: str
    newest: datetime | None
    """Event time of the newest feature row; None if there is none."""
    lag: timedelta | None
    """How far that lies behind the clock."""
    unplaced: int
    """Open rows in quarantine whose time could not be read."""
    hours: tuple[HourOfSymbol, ...]

    @property
    def complete(self) -> bool:
        """Whether each stored bar of the span has its row."""
        return all(each.complete for each in self.hours)


def completeness(
    client: Client,
    features: StoredView,
    *,
    now: datetime,
    hours: int = 24,
    symbols: Sequence[str] | None = None,
) -> list[SymbolRecord]:
    """Count a view's rows of each symbol that has bars or rows, for the last hours.

    Parameters
    ----------
    now : datetime
        The project's time; the hour that it lies in is the last one.
    symbols : sequence of str, optional
        All if not given.
    """
    last = _hour_of(now)
    span = [last - _HOUR * back for back in range(hours - 1, -1, -1)]
    parameters = {
        "view": features.view,
        "bars": bars_table(features.interval),
        "first": moment(span[0]),
        "now": moment(now),
        "symbols": list(symbols or []),
    }
    found: dict[str, dict[datetime, tuple[int, int, int, list[int]]]] = {}
    newest: dict[str, datetime] = {}
    result = client.query(
        _sql(features, chosen=symbols is not None), parameters=parameters, tz_mode="aware"
    )
    for symbol, hour, present, bars, quarantined, nulls, event in result.result_rows:
        found.setdefault(symbol, {})[hour] = (present, bars, quarantined, nulls)
        if event > EPOCH:
            newest[symbol] = max(event, newest.get(symbol, event))
    return [
        SymbolRecord(
            symbol,
            newest.get(symbol),
            now - newest[symbol] if symbol in newest else None,
            of_hour.get(EPOCH, (0, 0, 0, []))[2],
            tuple(_hour(features, hour, now, of_hour.get(hour, (0, 0, 0, []))) for hour in span),
        )
        for symbol, of_hour in sorted(found.items())
    ]


def _hour(
    features: StoredView, hour: datetime, now: datetime, counts: tuple[int, int, int, list[int]]
) -> HourOfSymbol:
    present, bars, quarantined, nulls = counts
    most = max(nulls, default=0)
    step = features.interval.delta
    due = (min(hour + _HOUR, now) - EPOCH) // step - (hour - EPOCH) // step
    worst = features.features[nulls.index(most)] if most else None
    share = most / present if present else 0.0
    return HourOfSymbol(hour, present, bars, due, quarantined, worst, share)


def _hour_of(moment: datetime) -> datetime:
    """Return the hour that a bar that closes then belongs to."""
    return (moment.astimezone(UTC) - _MICROSECOND).replace(minute=0, second=0, microsecond=0)


def _sql(features: StoredView, *, chosen: bool) -> str:
    view, bars = name(features.view), name(bars_table(features.interval))
    count = len(features.features)
    nulls = ", ".join(f"countIf(isNull({name(each)}))" for each in features.features)
    columns = ", ".join(map(name, features.features))
    none = f"arrayWithConstant({count}, toUInt64(0))"
    epoch = "toDateTime64('1970-01-01 00:00:00', 6, 'UTC')"
    hour = "toDateTime64(toStartOfHour(event_timestamp - toIntervalMicrosecond(1)), 6, 'UTC')"
    wanted = "symbol IN {symbols:Array(String)}" if chosen else "1"
    within = (
        f"{wanted} AND event_timestamp > {{first:DateTime64(6, 'UTC')}} "
        "AND event_timestamp <= {now:DateTime64(6, 'UTC')}"
    )
    held = f"{wanted} AND table_name IN ({{view:String}}, {{bars:String}})"
    return f"""
SELECT toString(symbol), hour, sum(present), sum(bars), sum(quarantined), sumForEach(nulls),
    max(newest)
FROM (
    SELECT symbol, {hour} AS hour, count() AS present, 0 AS bars, 0 AS quarantined,
        [{nulls}] AS nulls, {epoch} AS newest
    FROM (
        SELECT symbol, event_timestamp, {columns} FROM {view} WHERE {within}
        ORDER BY symbol, event_timestamp, known_at DESC LIMIT 1 BY symbol, event_timestamp
    ) GROUP BY symbol, hour
    UNION ALL
    SELECT symbol, {hour} AS hour, 0, uniqExact(event_timestamp), 0, {none}, {epoch}
    FROM {bars} WHERE {within} GROUP BY symbol, hour
    UNION ALL
    SELECT symbol, if(isNull(event_timestamp), {epoch}, {
        hour.replace("event_timestamp", "assumeNotNull(event_timestamp)")
    }) AS hour,
        0, 0, uniqExact(row_id), {none}, {epoch}
    FROM quarantine
    WHERE {held} AND (event_timestamp IS NULL OR event_timestamp > {{first:DateTime64(6, 'UTC')}}
        AND event_timestamp <= {{now:DateTime64(6, 'UTC')}})
        AND row_id IN ({open_ids(held)})
    GROUP BY symbol, hour
    UNION ALL
    SELECT symbol, {epoch} AS hour, 0, 0, 0, {none}, max(event_timestamp)
    FROM {view} WHERE {wanted} AND event_timestamp <= {{now:DateTime64(6, 'UTC')}} GROUP BY symbol
    UNION ALL
    SELECT symbol, {epoch} AS hour, 0, 0, 0, {none}, {epoch}
    FROM {bars} WHERE {wanted} GROUP BY symbol
)
GROUP BY symbol, hour ORDER BY symbol, hour
"""
