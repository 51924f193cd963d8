"""Each flow leaves a table of its rows, and stops when too many of them are bad."""

import json
import os
import subprocess
import sys
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from atlas.clickhouse import connect, insert_once, migrate
from flows.accounts import account, run_name, told

START = datetime(2024, 1, 1, tzinfo=UTC)
COUNTS = ("read", "written", "unchanged", "quarantined", "outcome")


@pytest.fixture
def new_database(clickhouse_port):
    """Return a maker of clients, each of a database of its own."""
    made = []

    def make():
        client = connect(port=clickhouse_port)
        migrate(client, f"test_{uuid.uuid4().hex[:12]}")
        made.append(client)
        return client

    yield make
    for client in made:
        client.command(f"DROP DATABASE {client.database}")
        client.close()


def store_bars(client, every):
    """Store a thousand bars; at every so many a price whose returns break the schema."""
    close = np.where(np.arange(1_000) % every == every - 1, 1e5, 1.0)
    times = pl.Series([START + timedelta(minutes=n) for n in range(1_000)])
    bars = pl.DataFrame(
        {
            "symbol": ["BTC_USDT"] * 1_000,
            "event_timestamp": times.dt.cast_time_unit("us"),
            "known_at": times.dt.cast_time_unit("us"),
            **dict.fromkeys(("open", "high", "low", "close"), close),
            "volume": 1.0,
        }
    )
    insert_once(client, "bars_1m", bars.to_arrow())


def write_candles(folder):
    """Write a file with a tenth of its rows bad, one with a fiftieth, and a broken one."""
    opened = int(START.timestamp()) * 1_000
    for symbol, every in (("ADA_USDT", 10), ("BTC_USDT", 50)):
        lines = ["time,open,high,low,close,volume"] + [
            f"{opened + 60_000 * n},10,12,9,{-1 if n % every == 0 else 11},5" for n in range(200)
        ]
        (folder / f"{symbol}-1m.csv").write_text("\n".join(lines))
    (folder / "XRP_USDT-1m.json").write_text("[[17040")


def counted(table, name):
    return [(line[name], *(line.get(each) for each in COUNTS)) for line in table]


def test_flows_account_for_their_rows_and_stop_when_too_many_are_bad(
    clickhouse_port, redis_port, new_database, tmp_path
):
    sound, broken, files = new_database(), new_database(), new_database()
    store_bars(sound, every=10**6)
    store_bars(broken, every=100)
    write_candles(tmp_path)
    views = ["ohlcv_1m", "lunar_1m"]
    wanted = [
        [sound.database, "features", views],
        [sound.database, "features", views],
        [broken.database, "features", views],
        [files.database, "ingest", str(tmp_path)],
    ]
    done = subprocess.run(
        [
            sys.executable,
            str(Path(__file__).with_name("accounting_process.py")),
            json.dumps(wanted),
        ],
        env=os.environ
        | {
            "ATLAS_CLICKHOUSE_PORT": str(clickhouse_port),
            "ATLAS_REDIS_PORT": str(redis_port),
            "ATLAS_HOME": str(tmp_path / "home"),
            "PYTHONPATH": os.getcwd(),
        },
        capture_output=True,
        text=True,
        timeout=280,
    )
    answer = next(line for line in done.stdout.splitlines() if line.startswith("ANSWERS "))
    first, again, stopped, ingested = json.loads(answer.removeprefix("ANSWERS "))
    assert (first["error"], counted(first["table"], "view")) == (
        None,
        [("ohlcv_1m", 1_000, 1_000, 0, 0, "done"), ("lunar_1m", 1_000, 1_000, 0, 0, "done")],
    )
    assert counted(again["table"], "view") == [
        ("ohlcv_1m", 1_000, 0, 1_000, 0, "done"),
        ("lunar_1m", 1_000, 0, 1_000, 0, "done"),
    ]
    kept, runs, why = broken.query(
        "SELECT count(), uniqExact(load_id), any(startsWith(load_id, 'features ')) FROM quarantine"
    ).result_rows[0]
    assert (counted(stopped["table"], "view"), runs, why) == (
        [("ohlcv_1m", 1_000, None, None, kept, "stopped")],
        1,
        True,
    )
    assert f"found {kept} of 1,000" in stopped["error"]
    assert stopped["table"][0]["why"].startswith("atr_14 is above 100.0 (108); ")
    assert broken.query("SELECT count() FROM ohlcv_1m").result_rows == [(0,)]
    assert ingested["error"].startswith("TooManyBadRows: Expected at most 5 % bad rows of bars_1m")
    assert counted(ingested["table"], "source") == [
        ("ADA_USDT-1m.csv", 200, None, None, 20, "stopped"),
        ("BTC_USDT-1m.csv", 200, 196, 0, 4, "done"),
        ("XRP_USDT-1m.json", None, None, None, None, "unreadable"),
    ]
    stored = files.query("SELECT symbol, count() FROM bars_1m GROUP BY symbol").result_rows
    assert stored == [("BTC_USDT", 196)]


def test_outside_a_flow_there_is_no_artifact_and_the_run_is_what_it_does():
    account("features-rows", "Rows", [{"view": "ohlcv_1m"}])
    assert run_name("features") == "features"
    assert told([("a", 1_000), ("b", 2)]) == "a (1,000); b (2)"
