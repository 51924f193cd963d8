"""Bad rows at a border: each kept once, whole and readable, and the good ones go on."""

import math
import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest
from feature_market import START, VIEW, feature_row, feature_rows, held, stored
from hypothesis import given, settings
from hypothesis import strategies as st

from atlas.clickhouse import Computed, connect, create_feature_table, migrate, write_features
from atlas.clickhouse.quarantine import Border, admit, keep_bad
from atlas.clickhouse.quarantined_row import as_json, from_json
from atlas.errors import TooManyBadRows
from atlas.schemas import ShareLimit, Tally, split_valid

BAD = [
    feature_row(3, rsi_14=101.0),
    feature_row(5, rsi_14=math.nan, trend_60=math.inf),
    feature_row(5, "ETH_USDT", atr_14=-1.0),
]
GOOD = [feature_row(minute, symbol) for symbol in ("BTC_USDT", "ETH_USDT") for minute in (1, 2, 9)]


@pytest.fixture
def table(clickhouse):
    create_feature_table(clickhouse, VIEW.view, VIEW.features)
    return clickhouse


def mixed():
    return feature_rows(GOOD[0], BAD[0], *GOOD[1:4], BAD[1], BAD[2], *GOOD[4:])


def admit_mixed(client, run="first", border=Border.OFFLINE):
    return admit(client, VIEW.schema, mixed(), view=VIEW.view, border=border, run=run)


def plain(row):
    times = {name: row[name].isoformat() for name in ("event_timestamp", "known_at")}
    numbers = {
        name: str(value)
        for name, value in row.items()
        if isinstance(value, float) and not math.isfinite(value)
    }
    return row | times | numbers


def expected(border="offline", run="first"):
    reasons = ["rsi_14 is above 100.0", "trend_60 is above 1000000000000.0; rsi_14 is NaN"]
    return [
        (border, VIEW.view, row["symbol"], row["event_timestamp"], run, reason, plain(row))
        for row, reason in zip(BAD, [*reasons, "atr_14 is below 0.0"], strict=True)
    ]


def test_good_rows_pass_and_bad_rows_are_kept_with_reason_view_key_time_run_and_border(clickhouse):
    good, bad = admit_mixed(clickhouse)
    assert good.equals(feature_rows(*GOOD))
    assert bad.drop("reason").equals(feature_rows(*BAD))
    assert held(clickhouse) == expected()


def test_a_frame_without_bad_rows_asks_nothing_of_the_store():
    rows = feature_rows(*GOOD)
    good, bad = admit(None, VIEW.schema, rows, view=VIEW.view, border=Border.ONLINE, run="r")
    assert good is rows
    assert bad.schema == pl.Schema({**rows.schema, "reason": pl.String})
    assert bad.is_empty()


def test_a_bad_row_that_is_met_again_is_kept_once_under_the_first_run(clickhouse):
    admit_mixed(clickhouse)
    admit_mixed(clickhouse, run="second")
    assert held(clickhouse) == expected()


def test_a_bad_row_is_kept_once_for_each_border(clickhouse):
    for border in (Border.OFFLINE, Border.ONLINE, Border.OFFLINE):
        admit_mixed(clickhouse, border=border)
    assert held(clickhouse) == expected() + expected(border="online")


def test_rows_kept_in_many_blocks_are_all_kept(clickhouse, monkeypatch):
    monkeypatch.setattr("atlas.clickhouse.quarantine._BLOCK_ROWS", 1)
    admit_mixed(clickhouse)
    assert held(clickhouse) == expected()


def test_many_writers_at_once_keep_each_bad_row_once(clickhouse_port, database, clickhouse):
    def write(number):
        with connect(port=clickhouse_port, database=database) as client:
            for _ in range(3):
                admit_mixed(client, run=f"{number}")

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(write, range(6)))
    assert [(*row[:4], *row[5:]) for row in held(clickhouse)] == [
        (*row[:4], *row[5:]) for row in expected()
    ]


def test_two_histories_and_a_live_path_with_different_bad_rows_lose_none(
    clickhouse_port, database, clickhouse
):
    def write(number):
        rows = feature_rows(*(feature_row(number * 7 + n, rsi_14=-1.0) for n in range(40)))
        with connect(port=clickhouse_port, database=database) as client:
            admit(client, VIEW.schema, rows, view=VIEW.view, border=Border.OFFLINE, run="r")

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(write, range(6)))
    times = [START + timedelta(minutes=n) for n in range(5 * 7 + 40)]
    assert [row[3] for row in held(clickhouse)] == times


def test_a_row_without_key_or_with_a_time_that_clickhouse_cannot_hold_is_kept_as_it_is(clickhouse):
    rows = feature_rows(
        feature_row(1) | {"symbol": None},
        feature_row(1) | {"event_timestamp": None},
        feature_row(1, rsi_14=-1.0) | {"event_timestamp": datetime(9999, 1, 1, tzinfo=UTC)},
    )
    for _ in range(2):
        admit(clickhouse, VIEW.schema, rows, view=VIEW.view, border=Border.OFFLINE, run="r")
    found = held(clickhouse)
    assert {(row[2], row[3], row[5]) for row in found} == {
        ("", START + timedelta(minutes=1), "symbol is missing"),
        ("BTC_USDT", None, "event_timestamp is missing"),
        ("BTC_USDT", None, "rsi_14 is below 0.0; known_at is before event_timestamp"),
    }
    assert len(found) == 3
    kinds = dict(rows.schema)
    again = from_json([as_json(row[6]) for row in found], kinds)
    assert sorted(again.rows(), key=str) == sorted(rows.rows(), key=str)


numbers = st.none() | st.floats(width=64)
moments = st.datetimes(datetime(1900, 1, 1), datetime(9999, 12, 31)).map(
    lambda found: found.replace(tzinfo=UTC)
)


@settings(max_examples=200, deadline=None)
@given(
    rows=st.lists(
        st.tuples(st.none() | st.text(max_size=8), st.none() | moments, numbers, numbers),
        max_size=5,
    )
)
def test_a_row_that_was_written_down_reads_back_to_the_last_bit(rows):
    kinds = {
        "symbol": pl.String(),
        "event_timestamp": pl.Datetime("us", "UTC"),
        "one": pl.Float64(),
        "other": pl.Float64(),
    }
    frame = pl.DataFrame(rows, schema=kinds, orient="row")
    again = from_json([as_json(row) for row in frame.iter_rows(named=True)], kinds)
    assert again.schema == frame.schema
    assert again.equals(frame)
    # Of the two zeros, one over them tells which it is.
    over = pl.col("one", "other").pow(-1)
    assert again.select(over).equals(frame.select(over))


@pytest.mark.parametrize("text", ["[1, 2]", "{}", '{"a": 1, "b": 2}', '{"a": "much"}', "no"])
def test_text_that_is_no_such_row_is_refused(text):
    with pytest.raises(ValueError, match=r"xpected|could not"):
        from_json([text], {"a": pl.Float64()})


def test_the_offline_write_keeps_bad_rows_and_writes_the_good_ones_exactly(table):
    done = write_features(table, VIEW, mixed(), run="first")
    assert done == Computed(9, 6, 0, 3, Tally.of(split_valid(VIEW.schema, mixed())).reasons)
    assert stored(table).equals(feature_rows(*GOOD))
    assert held(table) == expected()
    assert write_features(table, VIEW, mixed(), run="second") == Computed(9, 0, 6, 3, done.reasons)
    assert (stored(table).height, held(table)) == (6, expected())


def test_too_large_a_share_stops_before_the_write_and_keeps_the_bad_rows(table):
    limit = ShareLimit(max_share=0.3, min_rows=9)
    with pytest.raises(TooManyBadRows) as stopped:
        write_features(table, VIEW, mixed(), run="first", limit=limit)
    assert (stopped.value.view, stopped.value.rows, stopped.value.bad) == (VIEW.view, 9, 3)
    assert str(stopped.value) == (
        "Expected at most 30 % bad rows of ohlcv_1m at the offline border; found 3 of 9 (33.3 %): "
        "atr_14 is below 0.0 (1); rsi_14 is above 100.0 (1); trend_60 is above 1000000000000.0; "
        "rsi_14 is NaN (1). They are in quarantine (`atlas features quarantine ohlcv_1m`); mend "
        "their source and run again, or allow more with ATLAS_MAX_BAD_SHARE."
    )
    assert (stored(table).height, held(table)) == (0, expected())


@pytest.mark.parametrize(
    ("rows", "bad", "stops"),
    [(99, 99, False), (100, 5, False), (100, 6, True), (10**6, 50_000, False), (0, 0, False)],
)
def test_the_share_is_judged_strictly_and_from_a_least_number_of_rows(rows, bad, stops):
    tally = Tally(rows, bad, (("why", bad),))
    if stops:
        with pytest.raises(TooManyBadRows):
            ShareLimit().judge(tally, view="v", border="offline")
    else:
        ShareLimit().judge(tally, view="v", border="offline")


def test_the_share_is_that_of_all_batches_so_far(table):
    limit = ShareLimit(max_share=0.3, min_rows=9)
    before = Tally(100, 0)
    done = write_features(table, VIEW, mixed(), limit=limit, before=before)
    assert done.written == 6
    total = before + done.tally + Tally(2, 1, (("atr_14 is below 0.0", 1),))
    assert (total.rows, total.bad, total.reasons[0]) == (111, 4, ("atr_14 is below 0.0", 2))


OLD = """CREATE TABLE quarantine (load_id String, source String, table_name LowCardinality(String),
row_number UInt64, reason String, row String, written_at DateTime64(6, 'UTC') DEFAULT now64(6))
ENGINE = MergeTree ORDER BY (load_id, row_number)
SETTINGS non_replicated_deduplication_window = 1000"""
OLD_ROWS = """INSERT INTO quarantine (load_id, source, table_name, row_number, reason, row) VALUES
('l1', 'BTC_USDT-1m.json', 'bars_1m', 7, 'close is not above 0.0', '[1704067200000,1,2,1,0,3]'),
('l2', 'frame', 'bars_1m', 1, 'low is missing',
 '{"symbol":"BTC_USDT","event_timestamp":"2024-01-01T00:01:00+00:00","low":null}'),
('features:ohlcv_1m', 'materialise', 'ohlcv_1m', 0, 'rsi_14 is NaN', '{''symbol'': ''A''}')"""


@pytest.fixture
def old_installation(clickhouse_port):
    """A client of a database with the quarantine of an earlier version, and rows in it."""
    name = f"test_{uuid.uuid4().hex[:12]}"
    with connect(port=clickhouse_port) as client:
        client.command(f"CREATE DATABASE {name}")
        client.database = name
        client.command(OLD)
        client.command(OLD_ROWS)
        yield client
        client.command(f"DROP DATABASE {name}")


def test_an_older_quarantine_is_taken_over_without_loss(old_installation):
    columns = "load_id, source, table_name, row_number, reason, row, written_at"
    sql = f"SELECT {columns} FROM quarantine ORDER BY load_id"
    before = old_installation.query(sql).result_rows
    for _ in range(2):
        migrate(old_installation, old_installation.database)
    assert old_installation.query(sql).result_rows == before
    assert old_installation.query(
        "SELECT border, symbol, event_timestamp FROM quarantine ORDER BY load_id", tz_mode="aware"
    ).result_rows == [
        ("offline", "", None),
        ("ingest", "", None),
        ("ingest", "BTC_USDT", START + timedelta(minutes=1)),
    ]


def test_many_starts_at_once_take_over_an_older_quarantine(old_installation, clickhouse_port):
    def start(_):
        with connect(port=clickhouse_port) as client:
            migrate(client, old_installation.database)

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(start, range(12)))
    assert old_installation.query("SELECT count() FROM quarantine").result_rows == [(3,)]


def test_a_row_of_an_older_quarantine_that_is_met_again_is_not_doubled(old_installation):
    migrate(old_installation, old_installation.database)
    bad = pl.DataFrame(
        {
            "row_number": pl.Series([7], dtype=pl.UInt64),
            "reason": ["close is not above 0.0"],
            "symbol": ["BTC_USDT"],
            "event_timestamp": pl.Series([START]).dt.cast_time_unit("us"),
        }
    )
    keep_bad(
        old_installation,
        bad,
        lambda _: ["[1704067200000,1,2,1,0,3]"],
        view="bars_1m",
        border=Border.INGEST,
        run="l1",
        source="BTC_USDT-1m.json",
    )
    assert old_installation.query("SELECT count() FROM quarantine").result_rows == [(3,)]


def test_what_the_table_calls_a_row_is_what_we_call_it(clickhouse):
    admit_mixed(clickhouse)
    assert clickhouse.query(
        "SELECT uniqExact(row_id), countIf(row_id != lower(hex(SHA256(concat(border, '\\0', "
        "table_name, '\\0', row, '\\0', reason))))) FROM quarantine"
    ).result_rows == [(3, 0)]
