"""Every format gives the same candles, or one error that says what is wrong."""

import gzip
import math
import random
import struct
import time
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest
from candle_files import (
    CLOSES,
    NAMES,
    OPENED,
    ROWS,
    candles,
    csv_text,
    write_feather,
    write_json,
    write_parquet,
    write_text,
)

from atlas.errors import UnknownInterval
from atlas.ingest import read_candles


def as_read(path):
    """What a file says: (symbol, close's time, open, high, low, close, volume) of each row."""
    batch = read_candles(path)
    assert batch.rows["fault"].to_list() == [None] * batch.rows.height
    return batch.rows.select("symbol", "event_timestamp", *NAMES).rows()


EXPECTED = [
    ("BTC_USDT", close, *map(float, row[1:])) for close, row in zip(CLOSES, ROWS, strict=True)
]


def kline(row):
    """A row of Binance's archive: twelve columns, closing a millisecond before the next opens."""
    return [*row, row[0] + 59_999, 1.5, 10, 0.5, 0.7, 0]


WRITERS = {
    "freqtrade JSON": lambda f: write_json(f, "BTC_USDT-1m.json"),
    "freqtrade JSON, packed": lambda f: write_json(f, "BTC_USDT-1m.json.gz"),
    "Binance's lists of twelve with prices as text": lambda f: write_json(
        f, "BTC_USDT-1m.json", [[row[0], *map(str, kline(row)[1:])] for row in ROWS]
    ),
    "freqtrade Feather": lambda f: write_feather(
        f, "BTC_USDT-1m.feather", candles(), compression="lz4"
    ),
    "Feather in nanoseconds, as pandas writes": lambda f: write_feather(
        f, "BTC_USDT-1m.feather", candles().with_columns(pl.col("date").dt.cast_time_unit("ns"))
    ),
    "Parquet": lambda f: write_parquet(f, "BTC_USDT-1m.parquet", candles()),
    "Parquet of naive times": lambda f: write_parquet(
        f, "BTC_USDT-1m.parquet", candles().with_columns(pl.col("date").dt.replace_time_zone(None))
    ),
    "Parquet of another zone": lambda f: write_parquet(
        f,
        "BTC_USDT-1m.parquet",
        candles().with_columns(pl.col("date").dt.convert_time_zone("Asia/Tokyo")),
    ),
    "Parquet of decimals": lambda f: write_parquet(
        f,
        "BTC_USDT-1m.parquet",
        candles().with_columns(pl.col("open", "high", "low", "close").cast(pl.Decimal(12, 2))),
    ),
    "Parquet of floating milliseconds": lambda f: write_parquet(
        f,
        "BTC_USDT-1m.parquet",
        candles().with_columns(pl.col("date").dt.epoch("ms").cast(pl.Float64)),
    ),
    "CSV": lambda f: write_text(f, "BTC_USDT-1m.csv", csv_text()),
    "CSV with a mark of its encoding and Windows' line ends": lambda f: write_text(
        f, "BTC_USDT-1m.csv", "\ufeff" + csv_text().replace("\n", "\r\n")
    ),
    "CSV with blank lines": lambda f: write_text(
        f, "BTC_USDT-1m.csv", "\n" + csv_text().replace("\n", "\n\n")
    ),
    "CSV in other letters, order and with more columns": lambda f: write_text(
        f,
        "BTC_USDT-1m.csv",
        csv_text(
            [[row[5], row[4], row[3], row[2], row[1], "x", row[0]] for row in ROWS],
            header="Volume,CLOSE, Low ,High,Open,Trades,Open Time",
        ),
    ),
    "Binance's archive, without a header": lambda f: write_text(
        f, "BTC_USDT-1m-2021-06.csv", csv_text([kline(row) for row in ROWS]).split("\n", 1)[1]
    ),
    "Binance's archive of a day, in microseconds": lambda f: write_text(
        f,
        "BTC_USDT-1m-2021-06-10.csv",
        csv_text([[row[0] * 1000, *kline(row)[1:]] for row in ROWS]).split("\n", 1)[1],
    ),
}


def test_csv_packed_is_read_like_csv(tmp_path):
    path = tmp_path / "BTC_USDT-1m.csv.gz"
    path.write_bytes(gzip.compress(csv_text().encode()))
    assert as_read(path) == EXPECTED


@pytest.mark.parametrize("name", WRITERS)
def test_every_format_gives_the_same_candles_stamped_with_the_close(name, tmp_path):
    assert as_read(WRITERS[name](tmp_path)) == EXPECTED


TIMES = {
    "seconds": lambda t: int(t.timestamp()),
    "milliseconds": lambda t: int(t.timestamp()) * 10**3,
    "microseconds": lambda t: int(t.timestamp()) * 10**6,
    "nanoseconds": lambda t: int(t.timestamp()) * 10**9,
    "ISO": lambda t: t.isoformat(),
    "ISO with Z": lambda t: f"{t:%Y-%m-%dT%H:%M:%SZ}",
    "ISO without a zone": lambda t: f"{t:%Y-%m-%d %H:%M:%S}",
    "ISO without seconds": lambda t: f"{t:%Y-%m-%d %H:%M}",
    "ISO with a fraction": lambda t: f"{t:%Y-%m-%d %H:%M:%S}.000000000",
    "ISO of another zone": lambda t: f"{t + timedelta(hours=2):%Y-%m-%d %H:%M:%S}+02:00",
    "text with UTC": lambda t: f"{t:%Y-%m-%d %H:%M:%S} UTC",
}


@pytest.mark.parametrize("unit", TIMES)
def test_times_are_understood_in_every_unit_and_notation(unit, tmp_path):
    rows = [[TIMES[unit](OPENED + timedelta(minutes=n)), *row[1:]] for n, row in enumerate(ROWS)]
    assert as_read(write_text(tmp_path, "BTC_USDT-1m.csv", csv_text(rows))) == EXPECTED


def test_a_file_may_mix_units_as_exchanges_changed_theirs(tmp_path):
    units = list(TIMES.values())
    rows = [[units[n](OPENED + timedelta(minutes=n)), *row[1:]] for n, row in enumerate(ROWS)]
    assert as_read(write_text(tmp_path, "BTC_USDT-1m.csv", csv_text(rows))) == EXPECTED


def test_a_day_without_an_hour_is_its_midnight(tmp_path):
    path = write_text(
        tmp_path, "SPY-1d.csv", "date,open,high,low,close,volume\n2021-06-10,1,2,1,2,3\n"
    )
    assert as_read(path) == [("SPY", datetime(2021, 6, 11, tzinfo=UTC), 1.0, 2.0, 1.0, 2.0, 3.0)]


@pytest.mark.parametrize("write", ["json", "csv"])
def test_numbers_are_read_to_the_last_bit(write, tmp_path):
    chance = random.Random(5)
    drawn = []
    while len(drawn) < 5_000:
        (number,) = struct.unpack("d", struct.pack("Q", chance.getrandbits(63)))
        if math.isfinite(number):
            drawn.append(number)
    rows = [[1623332160000 + 60_000 * n, number, 1, 1, 1, 1] for n, number in enumerate(drawn)]
    path = (
        write_json(tmp_path, "A-1m.json", rows)
        if write == "json"
        else write_text(tmp_path, "A-1m.csv", csv_text(rows))
    )
    assert read_candles(path).rows["open"].to_list() == drawn


def test_a_symbol_column_says_whose_each_row_is(tmp_path):
    frame = candles().with_columns(symbol=pl.Series(["AAA", "BBB", "AAA", "BBB"]))
    symbols = read_candles(write_parquet(tmp_path, "ALL-1m.parquet", frame)).rows["symbol"]
    assert symbols.to_list() == ["AAA", "BBB", "AAA", "BBB"]


@pytest.mark.parametrize(
    ("cells", "fault"),
    [
        ("abc,1,2,1,2,3", "time is not a time: abc"),
        ("2021-02-30,1,2,1,2,3", "time is not a time: 2021-02-30"),
        (
            "2021-06-10 13:36:00.0000001,1,2,1,2,3",
            "time is not a time: 2021-06-10 13:36:00.0000001",
        ),
        (",1,2,1,2,3", "time is missing"),
        ("0,1,2,1,2,3", "time 0 is no time in s, ms, us or ns"),
        ("-5,1,2,1,2,3", "time -5 is no time in s, ms, us or ns"),
        ("1623332160000000001,1,2,1,2,3", "time is finer than a microsecond"),
        ("1623332160,1,x,1,2,3", "high is not a number: x"),
        ('1623332160,1,"1,5",1,2,3', "high is not a number: 1,5"),
        ("1623332160,1,2,1,2,3,4", "expected 6 values, found 7 values"),
    ],
)
def test_a_row_that_cannot_be_read_keeps_its_place_with_a_fault(cells, fault, tmp_path):
    text = csv_text().replace("\n", f"\n{cells}\n", 1)
    batch = read_candles(write_text(tmp_path, "BTC_USDT-1m.csv", text))
    assert batch.rows["fault"].to_list() == [fault, None, None, None, None]
    assert batch.rows["row_number"].to_list() == [1, 2, 3, 4, 5]


@pytest.mark.parametrize(
    ("row", "fault"),
    [
        ([1623332160000, 1, 2, 1, 2], "expected 6 values, found 5 values"),
        ({"open": 1}, "expected 6 values, found an object"),
        (None, "expected 6 values, found null"),
        ("x", "expected 6 values, found text"),
        (7, "expected 6 values, found a number"),
        ([None, 1, 2, 1, 2, 3], "time is missing"),
        ([1623332160000, True, 2, 1, 2, 3], "open is not a number: True"),
        ([1623332160000, 1, [2], 1, 2, 3], "high is not a number: [2]"),
        ([1623332160000.5, 1, 2, 1, 2, 3], "time is not a time: 1623332160000.5"),
        ([2**63, 1, 2, 1, 2, 3], "time is not a time: 9223372036854775808"),
    ],
)
def test_a_json_row_of_another_shape_is_a_fault_of_that_row_only(row, fault, tmp_path):
    batch = read_candles(write_json(tmp_path, "BTC_USDT-1m.json", [*ROWS, row]))
    assert batch.rows["fault"].to_list() == [None, None, None, None, fault]
    assert batch.rows["open"].to_list()[:4] == [row[1] for row in ROWS]


def test_a_row_is_given_back_as_the_source_has_it(tmp_path):
    odd = [*ROWS, [1623332160000, None, "x"]]
    from_json = read_candles(write_json(tmp_path, "BTC_USDT-1m.json", odd))
    from_csv = read_candles(
        write_text(
            tmp_path, "BTC_USDT-1m.csv", csv_text([[1623332160, "x", "NaN", 1, 2, 3], *ROWS])
        )
    )
    infinite = candles().with_columns(open=pl.lit(math.inf))
    from_parquet = read_candles(write_parquet(tmp_path, "BTC_USDT-1m.parquet", infinite))
    assert from_json.as_read([5]) == ['[1623332160000,null,"x"]']
    assert from_csv.as_read([1]) == [
        '{"time":"1623332160","open":"x","high":"NaN","low":"1","close":"2","volume":"3"}'
    ]
    assert from_parquet.as_read([2]) == [
        '{"date":"2021-06-10T13:37:00+00:00","open":"inf","high":37712.23,"low":37623.65,'
        '"close":37647.0,"volume":103.848926}'
    ]


def test_an_interval_that_atlas_does_not_keep_is_named(tmp_path):
    with pytest.raises(UnknownInterval, match=r"A-7m\.json: .*1m, 5m.*'7m'"):
        read_candles(write_json(tmp_path, "A-7m.json"))


def test_a_symbol_in_small_letters_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"btc-1m\.json: Expected a symbol"):
        read_candles(write_json(tmp_path, "btc-1m.json"))


@pytest.mark.parametrize(
    "write",
    [
        lambda f: write_json(f, "A-1m.json", []),
        lambda f: write_text(f, "A-1m.csv", csv_text([])),
        lambda f: write_parquet(f, "A-1m.parquet", candles().clear()),
    ],
)
def test_a_file_without_rows_is_no_error(write, tmp_path):
    assert read_candles(write(tmp_path)).rows.height == 0


def test_the_same_content_under_the_same_name_has_the_same_load_id(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    first = read_candles(write_json(tmp_path / "a", "A-1m.json"))
    again = read_candles(write_json(tmp_path / "b", "A-1m.json"))
    renamed = read_candles(write_json(tmp_path, "B-1m.json"))
    changed = read_candles(write_json(tmp_path, "A-1m.json", ROWS[:3]))
    assert first.load_id == again.load_id
    assert len({first.load_id, renamed.load_id, changed.load_id}) == 3


def test_real_candles_are_read_whole_and_quickly(market_data):
    path = market_data / "crypto_1m_binance_2021" / "BTC_USDT-1m.json.gz"
    read_candles(path)
    took = []
    for _ in range(5):
        began = time.perf_counter()
        batch = read_candles(path)
        took.append(time.perf_counter() - began)
    assert (batch.rows.height, batch.rows["fault"].null_count()) == (43_461, 43_461)
    assert batch.rows.select("event_timestamp", "open", "volume").row(0) == (
        CLOSES[0],
        37552.9,
        50.758334,
    )
    # 0.04 s on an idle machine; the bound leaves room for a busy one.
    assert min(took) < 0.5
