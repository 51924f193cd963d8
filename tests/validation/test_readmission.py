"""Rows leave the quarantine when they are good now: written as any other, once, nothing deleted."""

import math
from dataclasses import replace
from datetime import datetime, timedelta

import numpy as np
import pandera.polars as pa
import polars as pl
import pytest
from feature_market import START, VIEW, feature_row, feature_rows, held, left, stored

from atlas.clickhouse import write_features
from atlas.clickhouse.quarantine import Border, admit
from atlas.clickhouse.quarantined_rows import Wanted
from atlas.errors import TooManyBadRows
from atlas.ingest import batch_of_frame, load_candles, read_candles
from atlas.market import interval_of
from atlas.online import OnlineWriter
from atlas.runtime.readmission import readmit
from atlas.schemas import ShareLimit, joined_schema

NOW = START + timedelta(days=1)
HIGH = feature_row(3, rsi_14=120.0)
LOW = feature_row(4, rsi_14=-5.0)
MINUTE = interval_of("1m")


@pytest.fixture
def corrected(monkeypatch):
    """The schema after its bound was corrected: what is up to 150 is good."""
    schema = VIEW.schema.to_schema()
    wider = schema.update_column("rsi_14", checks=[pa.Check.in_range(0.0, 150.0)])

    class Corrected(pa.DataFrameModel):
        @classmethod
        def to_schema(cls):
            return wider

    amended = replace(VIEW, schema=Corrected)
    monkeypatch.setattr("atlas.runtime.readmission.stored_view", lambda view: amended)
    return amended


def refuse(installation, *rows, border=Border.OFFLINE, view=VIEW):
    frame = feature_rows(*rows)
    schema = view.schema
    if border is Border.TRAINING:
        frame, schema = frame.drop("known_at"), joined_schema(schema)
    admit(installation.clickhouse, schema, frame, view=view.view, border=border, run="r")


def counts(done):
    return [
        (each.view, str(each.border), each.readmitted, each.replaced, dict(each.refused))
        for each in done
    ]


def test_rows_that_keep_the_corrected_schema_are_written_and_the_others_stay(
    installation, corrected
):
    refuse(installation, HIGH, LOW)
    before = held(installation.clickhouse)
    done = readmit(installation, Wanted(), now=NOW)
    stays = {"rsi_14: in_range(0.0, 150.0)": 1}
    assert counts(done) == [(VIEW.view, "offline", 1, 0, stays)]
    assert stored(installation.clickhouse).equals(feature_rows(HIGH))
    assert held(installation.clickhouse) == before
    assert left(installation.clickhouse) == [("offline", VIEW.view, "readmitted")]
    again = readmit(installation, Wanted(), now=NOW)
    assert counts(again) == [(VIEW.view, "offline", 0, 0, stays)]
    assert stored(installation.clickhouse).height == 1


def test_nothing_changes_while_the_rows_break_the_schema(installation):
    refuse(installation, HIGH, feature_row(5, trend_60=math.inf))
    done = readmit(installation, Wanted(), now=NOW)
    assert counts(done) == [
        (
            VIEW.view,
            "offline",
            0,
            0,
            {"rsi_14 is above 100.0": 1, "trend_60 is above 1000000000000.0": 1},
        )
    ]
    assert (stored(installation.clickhouse).height, left(installation.clickhouse)) == (0, [])


def test_a_row_that_was_computed_anew_since_is_replaced_and_not_overwritten(
    installation, corrected
):
    newer = feature_row(4, known_at=START + timedelta(hours=3))
    write_features(installation.clickhouse, VIEW, feature_rows(feature_row(3), newer))
    refuse(installation, HIGH, feature_row(4, rsi_14=130.0), feature_row(5, rsi_14=140.0))
    before = stored(installation.clickhouse)
    done = readmit(installation, Wanted(), now=NOW)
    assert counts(done) == [(VIEW.view, "offline", 1, 2, {})]
    assert stored(installation.clickhouse).equals(
        pl.concat([before, feature_rows(feature_row(5, rsi_14=140.0))])
    )


def test_a_correction_is_readmitted_beside_the_older_version(installation, corrected):
    write_features(installation.clickhouse, VIEW, feature_rows(feature_row(3)))
    later = HIGH | {"known_at": START + timedelta(hours=3)}
    refuse(installation, later)
    assert counts(readmit(installation, Wanted(), now=NOW))[0][2:] == (1, 0, {})
    assert stored(installation.clickhouse).equals(feature_rows(feature_row(3), later))


def test_two_rows_of_one_version_both_stay(installation, corrected):
    refuse(installation, HIGH, HIGH | {"rsi_14": 121.0})
    ((*_, refused),) = counts(readmit(installation, Wanted(), now=NOW))
    assert refused == {"other values of the same version are in quarantine too": 2}
    assert stored(installation.clickhouse).is_empty()


def test_a_row_that_is_bad_again_after_it_was_readmitted_is_in_quarantine_again(
    installation, corrected
):
    refuse(installation, HIGH)
    readmit(installation, Wanted(), now=NOW)
    for _ in range(2):
        refuse(installation, HIGH)
    found = held(installation.clickhouse)
    assert len(found) == 2
    assert found[0] == found[1]
    done = readmit(installation, Wanted(), now=NOW)
    assert counts(done)[0][2:] == (1, 0, {})
    assert counts(readmit(installation, Wanted(), now=NOW)) == []


def test_pages_however_small_give_the_same(installation, corrected, monkeypatch):
    monkeypatch.setattr("atlas.clickhouse.quarantined_rows._PAGE_ROWS", 2)
    rows = [
        feature_row(minute, symbol, rsi_14=110.0 + minute)
        for symbol in ("ADA_USDT", "BTC_USDT")
        for minute in range(1, 8)
    ]
    refuse(installation, *rows, HIGH)
    ((*_, readmitted, _, refused),) = counts(readmit(installation, Wanted(), now=NOW))
    assert (readmitted, sum(refused.values())) == (13, 2)


class Killed(BaseException):
    """Stands for the end of the process."""


class Doomed:
    """A client whose process ends right after so many requests were answered."""

    def __init__(self, client, requests):
        self._client, self._left, self.made = client, requests, 0

    def __getattr__(self, name):
        found = getattr(self._client, name)
        if name not in ("command", "query", "query_arrow", "insert_arrow"):
            return found

        def request(*arguments, **options):
            if self.made == self._left:
                raise Killed
            self.made += 1
            return found(*arguments, **options)

        return request


def everything(client):
    bars = client.query(
        "SELECT * EXCEPT written_at FROM bars_1m ORDER BY event_timestamp, known_at"
    ).result_rows
    return stored(client).rows(), held(client), left(client), bars


def clear(client):
    for table in (VIEW.view, "quarantine", "readmissions", "bars_1m", "loads"):
        client.command(f"TRUNCATE TABLE {table}")


@pytest.mark.parametrize("step", [9, pytest.param(1, marks=pytest.mark.slow)])
def test_killed_after_any_request_and_run_again_gives_what_one_run_gives(
    installation, corrected, step
):
    client = installation.clickhouse

    def prepare():
        refuse(installation, HIGH, LOW)
        refuse(installation, HIGH, border=Border.TRAINING)
        load_candles(client, candles(bad=False, future=True), now=START)

    prepare()
    counter = Doomed(client, 10**6)
    installation.__dict__["clickhouse"] = counter
    readmit(installation, Wanted(), now=NOW)
    peaceful, different = everything(client), []
    assert counter.made > 20
    for requests in range(0, counter.made, step):
        clear(client)
        installation.__dict__["clickhouse"] = client
        prepare()
        installation.__dict__["clickhouse"] = Doomed(client, requests)
        with pytest.raises(Killed):
            readmit(installation, Wanted(), now=NOW)
        installation.__dict__["clickhouse"] = client
        readmit(installation, Wanted(), now=NOW)
        if everything(client) != peaceful:
            different.append(requests)
    assert different == []


def test_rows_of_the_training_border_are_only_recorded(installation, corrected):
    refuse(installation, HIGH, LOW, border=Border.TRAINING)
    stays = {"rsi_14: in_range(0.0, 150.0)": 1}
    done = readmit(installation, Wanted(), now=NOW)
    assert counts(done) == [(VIEW.view, "training", 1, 0, stays)]
    assert stored(installation.clickhouse).is_empty()


def test_rows_of_the_online_border_are_served_if_they_are_still_the_newest(installation, corrected):
    client = installation.clickhouse
    kept, replaced = feature_row(6, "ADA_USDT", rsi_14=130.0), feature_row(3, rsi_14=120.0)
    write_features(client, corrected, feature_rows(kept, feature_row(3, rsi_14=20.0)))
    refuse(installation, kept, replaced, border=Border.ONLINE)
    done = readmit(installation, Wanted(border=Border.ONLINE), now=NOW)
    assert counts(done) == [(VIEW.view, "online", 1, 1, {})]
    writer = OnlineWriter(installation.redis, VIEW.plan)
    event, known = (
        [int(when.timestamp() * 1e6)] for when in (kept["event_timestamp"], kept["known_at"])
    )
    values = feature_rows(kept).select(VIEW.features).to_numpy().astype(np.float64)
    # The same version does not land twice: it is there. The other symbol's never was.
    assert writer.write(["ADA_USDT"], event, known, values) == 0
    assert writer.write(["BTC_USDT"], event, known, values) == 1


def candles(*, bad=True, future=False, price=11.0):
    """Five sound bars, and on demand one with a bad price or one that has not closed."""
    rows = [
        {
            "symbol": "BTC_USDT",
            "event_timestamp": START + timedelta(minutes=minute),
            "open": 10.0,
            "high": 12.0,
            "low": 9.0,
            "close": -1.0 if bad and minute == -2 else price,
            "volume": 5.0,
        }
        for minute in (-4, -3, -2, -1, 0, *([1] if future else []))
    ]
    frame = pl.DataFrame(rows).with_columns(pl.col("event_timestamp").dt.cast_time_unit("us"))
    return batch_of_frame(frame, MINUTE, source="frame")


def closes(client):
    return client.query(
        "SELECT event_timestamp, known_at, close FROM bars_1m ORDER BY event_timestamp, known_at",
        tz_mode="aware",
    ).result_rows


def test_a_candle_that_had_not_closed_is_loaded_as_any_other_when_it_has(installation):
    client = installation.clickhouse
    load_candles(client, candles(bad=True, future=True), now=START)
    assert len(held(client)) == 2
    done = readmit(installation, Wanted(), now=NOW)
    assert counts(done) == [
        (
            "bars_1m",
            "ingest",
            1,
            0,
            {"close is not above 0.0; low is above open, close or high": 1},
        )
    ]
    closed = START + timedelta(minutes=1)
    assert closes(client)[-1] == (closed, closed, 11.0)
    assert counts(readmit(installation, Wanted(), now=NOW))[0][2:4] == (0, 0)
    assert len(closes(client)) == 5


def test_a_candle_of_a_bar_that_is_stored_otherwise_since_is_not_loaded(installation):
    client = installation.clickhouse
    load_candles(client, candles(bad=False, future=True), now=START)
    load_candles(client, candles(bad=False, future=True, price=11.5), now=NOW)
    before = closes(client)
    assert counts(readmit(installation, Wanted(), now=NOW))[0][2:] == (0, 1, {})
    assert closes(client) == before


FILES = {
    "BTC_USDT-1m.json": '[[1704067260000,10,12,9,11.5,5],[1704067200000,10,12,9,11,"5"]]',
    "BTC_USDT-1m.csv": (
        "date,open,high,low,close,volume\n2024-01-01 00:01:00,10,12,9,11.5,5\n"
        "1704067200000,10,12,9,11,5\n"
    ),
    "ALL-1m.csv": (
        "volume,symbol,time,low,high,open,close\n5,BTC_USDT,1704067260,9,12,10,11.5\n"
        "5,BTC_USDT,1704067200,9,12,10,11\n"
    ),
}


@pytest.mark.parametrize("name", FILES)
def test_candles_of_every_kind_of_file_are_read_back_as_they_were_read_first(
    installation, tmp_path, name
):
    client = installation.clickhouse
    file = tmp_path / name
    file.write_text(FILES[name])
    load_candles(client, file, now=START)
    assert (len(closes(client)), len(held(client))) == (0, 2)
    assert counts(readmit(installation, Wanted(), now=NOW)) == [("bars_1m", "ingest", 2, 0, {})]
    found = closes(client)
    clear(client)
    load_candles(client, read_candles(file), now=NOW)
    assert found == closes(client)
    assert [close for *_, close in found] == [11.0, 11.5]


def test_a_ragged_line_whose_header_is_not_kept_is_never_guessed(installation, tmp_path):
    file = tmp_path / "BTC_USDT-1m.csv"
    file.write_text(
        "volume,close,low,high,open,date\n5,11,9,12,10,1704067200000\n5,11,9,12,10,1704067260000,9\n"
    )
    load_candles(installation.clickhouse, file, now=START)
    ((*_, readmitted, _, refused),) = counts(readmit(installation, Wanted(), now=NOW))
    assert (readmitted, refused) == (0, {"its file's header is not kept; load the file again": 2})


def test_two_candles_of_one_bar_stay(installation):
    both = [candles(bad=False), candles(bad=False, price=11.5)]
    frame = pl.concat([each.original for each in both])
    load_candles(installation.clickhouse, batch_of_frame(frame, MINUTE, source="f"), now=NOW)
    ((*_, readmitted, _, refused),) = counts(readmit(installation, Wanted(), now=NOW))
    assert (readmitted, refused) == (0, {"different candles of one bar in one load": 10})
    assert closes(installation.clickhouse) == []


def test_only_what_is_wanted_is_looked_at(installation, corrected):
    refuse(installation, HIGH, feature_row(9, "ADA_USDT", rsi_14=110.0))
    refuse(installation, HIGH, border=Border.TRAINING)
    since: datetime = START + timedelta(minutes=5)
    for wanted in (Wanted(view="bars_1m"), Wanted(run="another"), Wanted(border=Border.ONLINE)):
        assert counts(readmit(installation, wanted, now=NOW)) == []
    wanted = Wanted(view=VIEW.view, border=Border.OFFLINE, run="r", since=since)
    assert counts(readmit(installation, wanted, now=NOW)) == [(VIEW.view, "offline", 1, 0, {})]
    assert stored(installation.clickhouse)["symbol"].to_list() == ["ADA_USDT"]


def test_a_load_with_too_many_bad_rows_stores_nothing_and_keeps_them(installation):
    limit = ShareLimit(max_share=0.1, min_rows=5)
    with pytest.raises(TooManyBadRows, match=r"bars_1m at the ingest \(frame\) border; found 1 of"):
        load_candles(installation.clickhouse, candles(bad=True), now=NOW, limit=limit)
    assert (closes(installation.clickhouse), len(held(installation.clickhouse))) == ([], 1)
    assert installation.clickhouse.query("SELECT count() FROM loads").result_rows == [(0,)]
