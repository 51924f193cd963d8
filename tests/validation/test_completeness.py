"""Completeness by symbol and hour, against a count in plain Python."""

import random
from collections import Counter
from datetime import timedelta

import polars as pl
import pytest
from feature_market import START, VIEW, feature_row, feature_rows

from atlas.clickhouse import create_feature_table, insert_once
from atlas.clickhouse.completeness import completeness
from atlas.clickhouse.quarantine import Border, admit
from atlas.ingest import batch_of_frame, load_candles
from atlas.market import interval_of

HOUR = timedelta(hours=1)
MINUTE = timedelta(minutes=1)
SYMBOLS = ("ADA_USDT", "BTC_USDT", "ETH_USDT")


def bars(closes):
    rows = [
        {
            "symbol": symbol,
            "event_timestamp": START + minute * MINUTE,
            "known_at": START + minute * MINUTE,
            **dict.fromkeys(("open", "high", "low", "close", "volume"), 1.0),
        }
        for symbol, minute in closes
    ]
    times = pl.col("event_timestamp", "known_at").dt.cast_time_unit("us")
    return pl.DataFrame(rows).with_columns(times)


@pytest.fixture
def market(clickhouse):
    """Five hours with gaps in bars and rows, corrections and bad rows; and what was put in."""
    create_feature_table(clickhouse, VIEW.view, VIEW.features)
    chance = random.Random(5)
    closes = [(s, m) for s in SYMBOLS for m in range(-60, 290) if chance.random() < 0.9]
    kept = [key for key in closes if chance.random() < 0.9 and key[0] != "ETH_USDT"]
    bad = [key for key in closes if key not in kept and key[0] == "ADA_USDT"]
    nulls = {key: chance.random() < 0.3 for key in kept}
    insert_once(clickhouse, "bars_1m", bars(closes).to_arrow())
    corrected = bars(closes[:500]).with_columns(pl.col("known_at") + HOUR)
    insert_once(clickhouse, "bars_1m", corrected.to_arrow())
    full = dict.fromkeys(VIEW.features, 0.5)
    rows = [feature_row(m, s, **full | ({"flow_60": None} if nulls[s, m] else {})) for s, m in kept]
    older = [row | {"atr_14": None, "known_at": row["known_at"] - MINUTE} for row in rows[::3]]
    insert_once(clickhouse, VIEW.view, feature_rows(*rows, *older).to_arrow())
    broken = feature_rows(*(feature_row(m, s, rsi_14=-1.0) for s, m in bad))
    for border in (Border.OFFLINE, Border.OFFLINE):
        admit(clickhouse, VIEW.schema, broken, view=VIEW.view, border=border, run="r")
    return clickhouse, closes, kept, bad, nulls


def hour_of(minute):
    return (minute - 1) // 60


def expected(market, now_minute, hours):
    _, closes, kept, bad, nulls = market
    found = {}
    for symbol in SYMBOLS:
        count = [
            Counter(hour_of(m) for s, m in keys if s == symbol and m <= now_minute)
            for keys in (kept, closes, bad, [key for key in kept if nulls[key]])
        ]
        last = hour_of(now_minute)
        found[symbol] = [
            (
                START + hour * HOUR,
                *(each[hour] for each in count[:2]),
                min(60, now_minute - hour * 60),
                count[2][hour],
                "flow_60" if count[3][hour] else None,
                count[3][hour] / count[0][hour] if count[0][hour] else 0.0,
            )
            for hour in range(last - hours + 1, last + 1)
        ]
    return found


def told(records):
    return {
        record.symbol: [
            (
                each.hour,
                each.present,
                each.bars,
                each.due,
                each.quarantined,
                each.worst_feature,
                each.null_share,
            )
            for each in record.hours
        ]
        for record in records
    }


@pytest.mark.parametrize(("now", "hours"), [(289, 5), (240, 4), (241, 2), (200, 24)])
def test_every_hour_is_counted_as_by_hand(market, now, hours):
    client = market[0]
    records = completeness(client, VIEW, now=START + now * MINUTE, hours=hours)
    assert told(records) == expected(market, now, hours)
    newest = max(m for s, m in market[2] if s == "BTC_USDT" and m <= now)
    assert [(r.newest, r.lag) for r in records][1:] == [
        (START + newest * MINUTE, (now - newest) * MINUTE),
        (None, None),
    ]


def test_symbols_may_be_named(market):
    now = START + 289 * MINUTE
    records = completeness(market[0], VIEW, now=now, hours=5, symbols=["BTC_USDT"])
    assert told(records) == {"BTC_USDT": expected(market, 289, 5)["BTC_USDT"]}
    assert completeness(market[0], VIEW, now=now, symbols=["NONE"]) == []


def test_a_bad_candle_counts_for_the_views_of_its_bars(clickhouse):
    create_feature_table(clickhouse, VIEW.view, VIEW.features)
    frame = bars([("BTC_USDT", 1), ("BTC_USDT", 2)]).with_columns(low=pl.Series([1.0, 5.0]))
    load_candles(clickhouse, batch_of_frame(frame, interval_of("1m"), source="f"), now=START + HOUR)
    (record,) = completeness(clickhouse, VIEW, now=START + HOUR, hours=1)
    assert told([record])["BTC_USDT"] == [(START, 0, 1, 60, 1, None, 0.0)]
    assert (record.complete, record.unplaced) == (False, 0)


def test_an_empty_store_has_no_symbols(clickhouse):
    create_feature_table(clickhouse, VIEW.view, VIEW.features)
    assert completeness(clickhouse, VIEW, now=START) == []
