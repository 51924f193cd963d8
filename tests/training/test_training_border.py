"""The training frame holds no row that breaks the schema, and the broken ones are kept."""

from functools import partial

import polars as pl
import pytest
from labelled_market import bars, candidate, features

from atlas.clickhouse.quarantine import Border, admit
from atlas.errors import TooManyBadRows
from atlas.schemas import ShareLimit
from atlas.training import join_features, label_events

WANTED = candidate()
EVENTS = label_events(bars(), WANTED.features.interval, WANTED.target)
BROKEN = EVENTS["event_timestamp"].unique().sort()[5:8].to_list()


def join(_, keys):
    rows = features("ohlcv_1m").with_columns(
        rsi_14=pl.when(pl.col("event_timestamp").is_in(BROKEN)).then(140.0).otherwise("rsi_14")
    )
    key = ["symbol", "event_timestamp"]
    return keys.join(rows, on=key, how="left", maintain_order="left").to_arrow()


def frame(client, *, limit=None):
    border = partial(
        admit, client, view="ohlcv_1m", border=Border.TRAINING, run="train direction_ohlcv_1m 7"
    )
    return join_features(EVENTS, WANTED, join, min_rows=100, border=border, limit=limit)


def kept(client):
    return client.query(
        "SELECT symbol, event_timestamp, border, table_name, load_id, reason FROM quarantine "
        "ORDER BY symbol, event_timestamp",
        tz_mode="aware",
    ).result_rows


def expected():
    rows = EVENTS.filter(pl.col("event_timestamp").is_in(BROKEN))
    rows = rows.select("symbol", "event_timestamp").sort("symbol", "event_timestamp").rows()
    told = ("training", "ohlcv_1m", "train direction_ohlcv_1m 7", "rsi_14 is above 100.0")
    return [(*row, *told) for row in rows]


def test_broken_rows_are_left_out_counted_and_kept_once(clickhouse):
    clean = join_features(EVENTS, WANTED, join, min_rows=100)
    for _ in range(2):
        found = frame(clickhouse)
    assert found.rows.equals(clean.rows)
    assert not found.rows["event_timestamp"].is_in(BROKEN).any()
    bad = len(expected())
    assert bad > 3
    tally = found.tally
    assert (tally.rows, tally.bad) == (EVENTS.height, bad)
    assert tally.reasons == (("rsi_14 is above 100.0", bad),)
    assert kept(clickhouse) == expected()


def test_too_many_broken_rows_make_no_frame(clickhouse):
    with pytest.raises(TooManyBadRows, match="ohlcv_1m at the training border"):
        frame(clickhouse, limit=ShareLimit(max_share=1e-4))
    assert kept(clickhouse) == expected()
