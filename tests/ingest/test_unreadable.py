"""A file that is truncated, broken or something else gives one sentence, and no rows."""

import random

import polars as pl
import pytest
from candle_files import (
    ROWS,
    candles,
    csv_text,
    write_feather,
    write_json,
    write_parquet,
    write_text,
)

from atlas.errors import UnreadableFile
from atlas.ingest import read_candles


def cut(path, *, keep=0.6):
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * keep)])
    return path


UNREADABLE = {
    "truncated gzip": (
        lambda f: cut(write_json(f, "A-1m.json.gz")),
        ["A-1m.json.gz", "whole gzip", "ends early", "Fetch it again"],
    ),
    "no gzip at all": (
        lambda f: write_text(f, "A-1m.json.gz", "[[1]]"),
        ["gzip data", "Not a gzipped file"],
    ),
    "damaged gzip": (
        lambda f: damaged(f),
        ["A-1m.json.gz", "gzip"],
    ),
    "broken JSON": (
        lambda f: cut(write_json(f, "A-1m.json")),
        ["A-1m.json", "whole JSON", "Fetch the file again"],
    ),
    "JSON of something else": (
        lambda f: write_text(f, "A-1m.json", '{"candles": []}'),
        ["[open_ms, open, high, low, close, volume]", "an object"],
    ),
    "JSON of objects": (
        lambda f: write_text(f, "A-1m.json", '[{"open": 1}]'),
        ["list of [open_ms", "a list whose first item is an object"],
    ),
    "truncated Parquet": (
        lambda f: cut(write_parquet(f, "A-1m.parquet", candles())),
        ["A-1m.parquet", "whole Parquet file"],
    ),
    "truncated Feather": (
        lambda f: cut(write_feather(f, "A-1m.feather", candles())),
        ["A-1m.feather", "whole Feather file"],
    ),
    "text named Parquet": (
        lambda f: write_text(f, "A-1m.parquet", csv_text()),
        ["whole Parquet file"],
    ),
    "a missing column": (
        lambda f: write_parquet(f, "A-1m.parquet", candles().drop("low", "volume")),
        ["A-1m.parquet", "Missing: low, volume", "date, open, high, close"],
    ),
    "no time": (
        lambda f: write_parquet(f, "A-1m.parquet", candles().drop("date")),
        ["Missing: a time"],
    ),
    "a column twice": (
        lambda f: write_text(f, "A-1m.csv", "time,open,high,low,close,CLOSE,volume\n"),
        ["each column once", "close"],
    ),
    "a Parquet column twice but for its letters": (
        lambda f: write_parquet(f, "A-1m.parquet", candles().with_columns(Close=pl.col("close"))),
        ["each column once", "close"],
    ),
    "truth values for prices": (
        lambda f: write_parquet(f, "A-1m.parquet", candles().with_columns(open=pl.lit(True))),
        ["numbers in column open", "Boolean"],
    ),
    "lists for times": (
        lambda f: write_parquet(f, "A-1m.parquet", candles().with_columns(date=pl.lit([1]))),
        ["times in column date", "List"],
    ),
    "numbers for symbols": (
        lambda f: write_parquet(f, "A-1m.parquet", candles().with_columns(symbol=pl.lit(1))),
        ["symbols in column symbol", "Int32"],
    ),
    "words for prices": (
        lambda f: write_text(f, "A-1m.csv", csv_text([[*row[:4], "n/a", 1] for row in ROWS])),
        ["a number in each row of column close", "'n/a'"],
    ),
    "words for times": (
        lambda f: write_text(f, "A-1m.csv", csv_text([["monday", *row[1:]] for row in ROWS])),
        ["a time in each row of column time", "'monday'"],
    ),
    "an empty file": (
        lambda f: write_text(f, "A-1m.csv", "\n"),
        ["A-1m.csv", "an empty file"],
    ),
    "numbers without a header": (
        lambda f: write_text(f, "A-1m.csv", csv_text().split("\n", 1)[1]),
        ["header line", "found 6 numbers", "Add a header"],
    ),
    "text in another encoding": (
        lambda f: (f / "A-1m.csv").write_bytes(csv_text().encode("utf-16")) and f / "A-1m.csv",
        ["UTF-8"],
    ),
    "a name without an interval": (
        lambda f: write_json(f, "BTC_USDT.json"),
        ["SYMBOL-INTERVAL.ext", "BTC_USDT.json", "Rename"],
    ),
    "an unknown format": (
        lambda f: write_text(f, "A-1m.xlsx", ""),
        ["one of the formats .json", "A-1m.xlsx"],
    ),
    "nothing there": (lambda f: f / "A-1m.csv", ["A-1m.csv", "No such file"]),
}


def damaged(folder):
    path = write_json(folder, "A-1m.json.gz", ROWS * 50)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(bytes(data))
    return path


@pytest.mark.parametrize("name", UNREADABLE)
def test_a_file_that_cannot_be_read_gives_one_sentence_on_what_and_why(name, tmp_path):
    write, expected = UNREADABLE[name]
    path = write(tmp_path)
    with pytest.raises(UnreadableFile) as error:
        read_candles(path)
    assert [part for part in expected if part not in str(error.value)] == []
    assert "\n" not in str(error.value)


DAMAGEABLE = {
    "json": lambda f, rows: write_json(f, "A-1m.json", rows),
    "json.gz": lambda f, rows: write_json(f, "A-1m.json.gz", rows),
    "csv": lambda f, rows: write_text(f, "A-1m.csv", csv_text(rows)),
    "parquet": lambda f, rows: write_parquet(f, "A-1m.parquet", candles(rows)),
    "feather": lambda f, rows: write_feather(f, "A-1m.feather", candles(rows), compression="lz4"),
}


@pytest.mark.parametrize("kind", DAMAGEABLE)
def test_a_damaged_file_is_read_or_refused_and_nothing_else_happens(kind, tmp_path):
    chance = random.Random(f"{kind} 1")
    rows = [[1623332160000 + 60_000 * n, *ROWS[n % 4][1:]] for n in range(200)]
    path = DAMAGEABLE[kind](tmp_path, rows)
    whole = path.read_bytes()
    refusals = []
    for _ in range(40):
        data = bytearray(whole[: chance.randrange(len(whole) // 2, len(whole) + 1)])
        for _ in range(chance.randrange(3)):
            data[chance.randrange(len(data))] = chance.randrange(256)
        path.write_bytes(bytes(data))
        try:
            read_candles(path)
        except UnreadableFile as error:
            refusals.append(str(error))
    assert len(refusals) > 5
    assert [text for text in refusals if "\n" in text] == []
