"""What a load does with each kind of row, seen in the tables."""

import json
import math
from datetime import UTC, datetime, timedelta, timezone

import pytest
from candle_files import CLOSES, ROWS, csv_text, write_json, write_text
from stored import (
    MINUTE,
    NOW,
    SOUND,
    bar,
    bars,
    batch,
    bits,
    close,
    closes,
    everything,
    ledger,
    quarantined,
)

from atlas.clickhouse import connect, read_bars
from atlas.errors import InvalidInput, StoreUnavailable, UnreadableFile
from atlas.ingest import batch_of_frame, load_candles, read_candles

MICRO = timedelta(microseconds=1)


def counts(report):
    return report.inserted, report.corrected, report.unchanged, report.quarantined


def test_a_file_is_stored_with_the_close_as_its_time(clickhouse, tmp_path):
    report = load_candles(clickhouse, write_json(tmp_path, "BTC_USDT-1m.json"), now=NOW)
    assert closes(clickhouse) == [
        (close, close, row[4]) for close, row in zip(CLOSES, ROWS, strict=True)
    ]
    assert counts(report) == (4, 0, 0, 0)
    assert (report.symbol, report.interval, report.rows_read) == ("BTC_USDT", MINUTE, 4)
    assert (report.first, report.last) == (CLOSES[0], CLOSES[-1])


def test_a_first_version_is_known_a_source_delay_after_its_close(clickhouse):
    delay = timedelta(seconds=90, microseconds=7)
    load_candles(clickhouse, batch(bar(0)), now=NOW, source_delay=delay)
    assert closes(clickhouse) == [(close(0), close(0) + delay, 11.0)]


def test_loading_again_changes_nothing_and_says_so(clickhouse):
    first = batch(bar(0), bar(1), bar(2, close=math.nan))
    load_candles(clickhouse, first, now=NOW)
    before = everything(clickhouse)
    report = load_candles(clickhouse, first, now=NOW + timedelta(hours=1))
    assert everything(clickhouse) == before
    assert counts(report) == (0, 0, 2, 1)


def test_other_content_with_the_same_values_is_unchanged(clickhouse):
    load_candles(clickhouse, batch(bar(0), bar(1)), now=NOW)
    report = load_candles(clickhouse, batch(bar(1), bar(2), source="other"), now=NOW)
    assert counts(report) == (1, 0, 1, 0)
    assert [time for time, _, _ in closes(clickhouse)] == [close(0), close(1), close(2)]


def test_other_values_are_a_correction_known_from_now(clickhouse):
    load_candles(clickhouse, batch(bar(0), bar(1)), now=NOW)
    report = load_candles(clickhouse, batch(bar(0), bar(1, close=11.5)), now=NOW)
    assert closes(clickhouse) == [
        (close(0), close(0), 11.0),
        (close(1), close(1), 11.0),
        (close(1), NOW, 11.5),
    ]
    assert counts(report) == (0, 1, 1, 0)


def test_now_may_be_told_in_any_zone(clickhouse):
    tokyo = NOW.astimezone(timezone(timedelta(hours=9)))
    load_candles(clickhouse, batch(bar(0)), now=tokyo)
    load_candles(clickhouse, batch(bar(0, close=10.5)), now=tokyo)
    assert [known for _, known, _ in closes(clickhouse)] == [close(0), NOW]


def test_a_correction_is_always_known_after_what_it_corrects(clickhouse):
    for price in (10.0, 10.5, 11.0, 10.5):
        load_candles(clickhouse, batch(bar(0, close=price)), now=close(0))
    known = close(0)
    assert closes(clickhouse) == [
        (close(0), known + n * MICRO, price) for n, price in enumerate((10.0, 10.5, 11.0, 10.5))
    ]


def test_there_and_back_is_two_corrections(clickhouse):
    a, b = batch(bar(0, close=10.0)), batch(bar(0, close=11.0))
    reports = [
        load_candles(clickhouse, each, now=NOW + timedelta(hours=hour))
        for hour, each in enumerate([a, b, a, b, a])
    ]
    assert [report.corrected for report in reports] == [0, 1, 1, 1, 1]
    assert [price for _, _, price in closes(clickhouse)] == [10.0, 11.0, 10.0, 11.0, 10.0]
    assert sum(row[5] for row in ledger(clickhouse)) == 4


def test_values_are_compared_and_kept_bit_by_bit(clickhouse):
    third = 0.1 + 0.2
    load_candles(clickhouse, batch(bar(0, volume=0.3), bar(1, volume=0.0)), now=NOW)
    report = load_candles(clickhouse, batch(bar(0, volume=third), bar(1, volume=-0.0)), now=NOW)
    assert report.corrected == 2
    assert [row[7] for row in bars(clickhouse)] == [
        bits(0.3),
        bits(third),
        bits(0.0),
        bits(-0.0),
    ]


def test_rows_out_of_order_are_sorted(clickhouse):
    report = load_candles(clickhouse, batch(bar(3), bar(1), bar(2)), now=NOW)
    assert counts(report) == (3, 0, 0, 0)
    assert (report.first, report.last) == (close(1), close(3))


def test_a_bad_row_goes_to_quarantine_and_the_good_ones_go_on(clickhouse):
    report = load_candles(clickhouse, batch(bar(0), bar(1, high=1.0), bar(2)), now=NOW)
    ((_, source, table, number, reason, row),) = quarantined(clickhouse)
    assert (source, table, number) == ("test", "bars_1m", 2)
    assert reason == "high is below open, close or low; low is above open, close or high"
    assert json.loads(row) == {
        "symbol": "BTC_USDT",
        "event_timestamp": close(1).isoformat(),
        **SOUND,
        "high": 1.0,
    }
    assert [time for time, _, _ in closes(clickhouse)] == [close(0), close(2)]
    assert counts(report) == (2, 0, 0, 1)
    assert report.reasons == ((reason, 1),)


def test_a_row_that_could_not_be_read_is_quarantined_as_written(clickhouse, tmp_path):
    text = csv_text([*ROWS, [1623332400000, "n/a", 2, 1, 2, 3]])
    load_candles(clickhouse, write_text(tmp_path, "BTC_USDT-1m.csv", text), now=NOW)
    ((*_, number, reason, row),) = quarantined(clickhouse)
    assert (number, reason) == (5, "open is not a number: n/a")
    assert json.loads(row)["open"] == "n/a"


def test_a_bar_that_has_not_closed_is_quarantined_now_and_taken_later(clickhouse):
    content = batch(bar(0), bar(1))
    early = load_candles(clickhouse, content, now=close(0))
    assert (counts(early), early.reasons) == (
        (1, 0, 0, 1),
        (("event_timestamp is beyond the clock", 1),),
    )
    assert counts(load_candles(clickhouse, content, now=close(1))) == (1, 0, 1, 0)


def test_the_same_candle_twice_in_a_load_counts_once(clickhouse):
    report = load_candles(clickhouse, batch(bar(0), bar(1), bar(0), bar(0)), now=NOW)
    assert counts(report) == (2, 0, 2, 0)
    assert len(closes(clickhouse)) == 2


def test_two_candles_of_one_bar_in_a_load_are_both_quarantined(clickhouse):
    content = batch(bar(0), bar(1), bar(1, close=10.5), bar(1), bar(2))
    report = load_candles(clickhouse, content, now=NOW)
    assert [row[3:5] for row in quarantined(clickhouse)] == [
        (number, "different candles of one bar in one load") for number in (2, 3, 4)
    ]
    assert [time for time, _, _ in closes(clickhouse)] == [close(0), close(2)]
    assert counts(report) == (2, 0, 0, 3)


def test_a_bad_version_of_a_bar_does_not_make_the_good_one_ambiguous(clickhouse):
    report = load_candles(clickhouse, batch(bar(0), bar(0, close=-1.0)), now=NOW)
    assert counts(report) == (1, 0, 0, 1)


def test_ambiguity_does_not_spread_to_another_symbol(clickhouse):
    content = batch(bar(0), bar(0, symbol="ETH_USDT", close=10.5))
    report = load_candles(clickhouse, content, now=NOW)
    assert counts(report) == (2, 0, 0, 0)
    assert report.symbols == ("BTC_USDT", "ETH_USDT")


def test_a_load_of_nothing_but_bad_rows_stores_none_and_is_on_the_ledger(clickhouse):
    report = load_candles(clickhouse, batch(bar(0, open=0.0)), now=NOW)
    assert closes(clickhouse) == []
    assert (report.first, counts(report)) == (None, (0, 0, 0, 1))
    assert [row[3:] for row in ledger(clickhouse)] == [(1, 0, 0, 0, 1, None, None)]


def test_a_file_without_rows_is_on_the_ledger(clickhouse, tmp_path):
    report = load_candles(clickhouse, write_json(tmp_path, "A-1m.json", []), now=NOW)
    assert (report.rows_read, len(ledger(clickhouse))) == (0, 1)


def test_the_ledger_says_what_each_load_did(clickhouse):
    load_candles(clickhouse, batch(bar(0), bar(1), bar(2, low=0.0)), now=NOW)
    load_candles(clickhouse, batch(bar(1, close=10.0), bar(0), bar(3), source="later"), now=NOW)
    assert sorted(row[1:] for row in ledger(clickhouse)) == [
        ("later", "bars_1m", 3, 1, 1, 1, 0, close(0), close(3)),
        ("test", "bars_1m", 3, 2, 0, 0, 1, close(0), close(1)),
    ]


def test_a_file_that_cannot_be_read_stores_nothing(clickhouse, tmp_path):
    with pytest.raises(UnreadableFile):
        load_candles(clickhouse, write_text(tmp_path, "A-1m.json", "[[1623332160000, 1"), now=NOW)
    assert (closes(clickhouse), quarantined(clickhouse), ledger(clickhouse)) == ([], [], [])


def test_intervals_do_not_meet(clickhouse, tmp_path):
    hour = [[1623333600000, 1, 2, 1, 2, 3]]
    load_candles(clickhouse, write_json(tmp_path, "BTC_USDT-1h.json", hour), now=NOW)
    load_candles(clickhouse, write_json(tmp_path, "BTC_USDT-1m.json"), now=NOW)
    assert len(closes(clickhouse)) == 4
    assert [row[1] for row in bars(clickhouse, "bars_1h")] == [
        datetime(2021, 6, 10, 15, tzinfo=UTC)
    ]


def test_many_blocks_are_one_load(clickhouse, monkeypatch):
    monkeypatch.setattr("atlas.ingest.load._BLOCK_BARS", 3)
    monkeypatch.setattr("atlas.clickhouse.quarantine._BLOCK_ROWS", 2)
    content = batch(*(bar(n, close=-1.0 if n % 3 == 0 else 11.0) for n in range(20)))
    report = load_candles(clickhouse, content, now=NOW)
    assert counts(report) == (13, 0, 0, 7)
    assert [time for time, _, _ in closes(clickhouse)] == [close(n) for n in range(20) if n % 3]
    assert [row[3] for row in quarantined(clickhouse)] == [n + 1 for n in range(20) if n % 3 == 0]


def test_what_was_deleted_by_hand_can_be_loaded_again(clickhouse):
    content = batch(bar(0), bar(1), bar(2, low=0.0))
    load_candles(clickhouse, content, now=NOW)
    before = bars(clickhouse), quarantined(clickhouse)
    for table in ("bars_1m", "quarantine"):
        clickhouse.command(f"ALTER TABLE {table} DELETE WHERE 1 SETTINGS mutations_sync = 2")
    assert closes(clickhouse) == []
    load_candles(clickhouse, content, now=NOW)
    assert (bars(clickhouse), quarantined(clickhouse)) == before


def test_the_newest_version_is_what_readers_see(clickhouse):
    load_candles(clickhouse, batch(bar(0, close=10.0), bar(1)), now=NOW)
    load_candles(clickhouse, batch(bar(0, close=11.5)), now=NOW)
    newest = read_bars(clickhouse, MINUTE, ["BTC_USDT"], after=close(-1), before=close(5))
    assert newest["close"].to_list() == [11.5, 11.0]


def test_a_frame_may_say_when_it_was_known_and_is_not_asked(clickhouse):
    later = close(0) + timedelta(days=9)
    frame = read_bars(clickhouse, MINUTE, [], after=close(0), before=close(0))
    rows = frame.clear().vstack(
        batch(bar(0))
        .rows.select("symbol", "event_timestamp", *SOUND)
        .with_columns(known_at=later)
        .select(frame.columns)
        .cast(frame.schema)
    )
    load_candles(clickhouse, batch_of_frame(rows, MINUTE, source="x"), now=NOW)
    assert closes(clickhouse) == [(close(0), close(0), 11.0)]


def test_a_frame_of_other_columns_is_refused():
    with pytest.raises(InvalidInput, match="volume Float64"):
        batch_of_frame(batch(bar(0)).rows.drop("volume"), MINUTE, source="x")


@pytest.mark.parametrize(
    "wrong", [{"now": datetime(2024, 1, 1)}, {"now": NOW, "source_delay": timedelta(seconds=-1)}]
)
def test_a_time_without_a_zone_or_a_delay_below_zero_is_refused(clickhouse, wrong):
    with pytest.raises(InvalidInput):
        load_candles(clickhouse, batch(bar(0)), **wrong)


def test_a_store_that_refuses_is_told_in_one_sentence(clickhouse_port, database):
    with connect(port=clickhouse_port, database=database) as client:
        client.database = "gone"
        with pytest.raises(StoreUnavailable, match="load again") as error:
            load_candles(client, batch(bar(0)), now=NOW)
    assert "\n" not in str(error.value)


def test_real_candles_go_in_once(clickhouse, market_data):
    folder = market_data / "crypto_1m_binance_2021"
    files = [folder / f"{name}.json.gz" for name in ("BTC_USDT-1h", "ETH_USDT-1h", "BTC_USDT-1m")]
    once = [load_candles(clickhouse, read_candles(file), now=NOW) for file in files]
    again = [load_candles(clickhouse, file, now=NOW) for file in files]
    assert [counts(report) for report in once] == [(n, 0, 0, 0) for n in (2_176, 2_176, 43_461)]
    assert [counts(report) for report in again] == [(0, 0, n, 0) for n in (2_176, 2_176, 43_461)]
