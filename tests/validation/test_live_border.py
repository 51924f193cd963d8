"""The live path serves no bad row, keeps it in quarantine, and goes on."""

from datetime import timedelta

import polars as pl
from feature_market import START, VIEW, stored
from test_completeness import bars

from atlas.clickhouse import Computed, insert_once
from atlas.market import interval_of
from atlas.materialise import compute_history
from atlas.streaming import LiveFeatures, Tail

NOW = START + timedelta(days=1)
SPIKES = [20, 21]
MINUTE = interval_of("1m")


def market():
    """Forty bars; two of them have a price whose returns break the schema."""
    frame = bars([("BTC_USDT", minute) for minute in range(1, 41)])
    spike = pl.int_range(1, pl.len() + 1).is_in(SPIKES)
    price = pl.when(spike).then(1e5).otherwise(1.0)
    return frame.with_columns(**dict.fromkeys(("open", "high", "low", "close"), price))


def refused(client):
    return client.query(
        "SELECT event_timestamp, border, load_id FROM quarantine ORDER BY event_timestamp",
        tz_mode="aware",
    ).result_rows


def play(live, frame):
    tail = Tail(frame.head(0), VIEW.lookback)
    served = []
    for row in frame.iter_slices(1):
        tail.append(row)
        since = row["event_timestamp"][0]
        served += [since] * live.push(tail, since=since)
    live.store()
    return served


def test_what_is_served_and_what_is_refused_is_every_row_and_history_doubles_none(
    clickhouse, redis
):
    frame = market()
    insert_once(clickhouse, "bars_1m", frame.to_arrow())
    served = play(LiveFeatures(VIEW, redis, clickhouse), frame)
    bad = refused(clickhouse)
    assert {row[1:] for row in bad} == {("offline", "live")}
    assert sorted([*served, *(row[0] for row in bad)]) == frame["event_timestamp"].to_list()
    assert stored(clickhouse)["event_timestamp"].to_list() == served
    assert len(bad) >= 15
    later = compute_history(clickhouse, VIEW, until=NOW, run="history")
    assert (later.written, later.unchanged, later.quarantined) == (0, len(served), len(bad))
    assert refused(clickhouse) == bad


def test_history_first_and_live_after_keeps_each_bad_row_once(clickhouse, redis):
    frame = market()
    insert_once(clickhouse, "bars_1m", frame.to_arrow())
    done = compute_history(clickhouse, VIEW, until=NOW, run="history")
    before = refused(clickhouse)
    assert done == Computed(40, 40 - len(before), 0, len(before), done.reasons)
    play(LiveFeatures(VIEW, redis, clickhouse), frame)
    assert refused(clickhouse) == before
