"""`atlas features`: compute, status and quarantine, over real stores."""

import json
import subprocess
import sys
from datetime import timedelta

import pytest
from feature_market import START, VIEW, feature_row, feature_rows, held, stored
from test_completeness import bars

from atlas.bus.clock import set_replay
from atlas.clickhouse import insert_once
from atlas.clickhouse.quarantine import Border, admit
from atlas.clock import ReplayState, to_micros, wall_micros

NOW = START + timedelta(minutes=150)


@pytest.fixture
def replayed(installation):
    """An installation whose clock stands at NOW, with bars of two symbols."""
    state = ReplayState(to_micros(NOW), wall_micros(), 1e-9, to_micros(NOW))
    set_replay(installation.redis, state)
    closes = [(symbol, m) for symbol in ("BTC_USDT", "ETH_USDT") for m in range(1, 151)]
    insert_once(installation.clickhouse, "bars_1m", bars(closes).to_arrow())
    return installation


def refuse(installation, *rows):
    admit(
        installation.clickhouse,
        VIEW.schema,
        feature_rows(*rows),
        view=VIEW.view,
        border=Border.OFFLINE,
        run="features 7",
    )


@pytest.mark.parametrize("words", [("ohlcv_1m",), (), ("compute",), ("compute", "ohlcv_1m")])
def test_a_view_is_computed_with_and_without_the_word(replayed, atlas, words):
    said = atlas("features", *words)
    assert (said.code, said.out) == (
        0,
        "ohlcv_1m: 300 rows computed, 300 written, 0 there already, 0 quarantined.\n",
    )
    again = atlas("features", *words, "--rebuild")
    assert again.out == said.out
    assert stored(replayed.clickhouse).height == 300


def test_help_names_the_commands(atlas):
    said = atlas("features", "--help")
    assert said.code == 0
    assert all(f" {name} " in said.out for name in ("compute", "quarantine", "status"))


def test_status_says_what_is_missing_and_exits_with_1_until_it_is_there(replayed, atlas):
    said = atlas("features", "status", "ohlcv_1m", "--hours", "3")
    assert said.code == 1
    lines = [" ".join(line.split()) for line in said.out.splitlines()]
    assert lines[2] == "BTC_USDT xxx 0/150 none 0 never ?"
    assert "Judged by the project's clock: 2024-01-01 02:30:00 UTC." in lines
    atlas("features")
    said = atlas("features", "status", "--hours", "3")
    lines = [" ".join(line.split()) for line in said.out.splitlines()]
    assert said.code == 0
    assert lines[2].startswith("BTC_USDT ███ 150/150 ")
    assert lines[2].endswith(" % 0 2024-01-01 02:30 00:00:00")
    assert "Never computed: lunar_1m." in lines


def test_status_for_machines_is_one_json_object(replayed, atlas):
    refuse(replayed, feature_row(70, rsi_14=101.0))
    said = atlas("features", "status", "ohlcv_1m", "--symbol", "BTC_USDT", "--hours", "2", "--json")
    found = json.loads(said.out)
    assert found["now"] == NOW.isoformat()
    (record,) = found["views"]["ohlcv_1m"]
    assert (record["symbol"], record["newest"], record["complete"]) == ("BTC_USDT", None, False)
    assert record["hours"] == [
        {
            "hour": (START + hour * timedelta(hours=1)).isoformat(),
            "present": 0,
            "bars": bars,
            "due": bars,
            "quarantined": quarantined,
            "worst_feature": None,
            "null_share": 0.0,
        }
        for hour, bars, quarantined in ((1, 60, 1), (2, 30, 0))
    ]


def test_a_status_of_five_symbols_and_a_day_is_narrow_enough_to_read(installation, atlas):
    state = ReplayState(to_micros(NOW), wall_micros(), 1e-9, to_micros(NOW))
    set_replay(installation.redis, state)
    closes = [(f"SIM{n}_USDT", m) for n in range(5) for m in range(-1290, 151, 10)]
    insert_once(installation.clickhouse, "bars_1m", bars(closes).to_arrow())
    said = atlas("features", "status", "ohlcv_1m")
    rows = [line for line in said.out.splitlines() if line.strip().startswith("SIM")]
    assert len(rows) == 5
    assert all("x" * 24 in row for row in rows)


def test_the_quarantine_is_listed_by_key_and_reason(installation, atlas):
    refuse(
        installation,
        feature_row(1, rsi_14=101.0),
        feature_row(3, rsi_14=102.0),
        feature_row(2, "ETH_USDT", rsi_14=-1.0),
    )
    said = atlas("features", "quarantine")
    lines = [" ".join(line.split()) for line in said.out.splitlines()]
    assert (said.code, lines[1:]) == (
        0,
        [
            "ohlcv_1m BTC_USDT 2024-01-01 00:01:00 to 2024-01-01 00:03:00 offline "
            "rsi_14 is above 100.0 features 7 2",
            "ohlcv_1m ETH_USDT 2024-01-01 00:02:00 offline rsi_14 is below 0.0 features 7 1",
        ],
    )


def test_the_list_can_be_narrowed_and_read_by_machines(installation, atlas):
    refuse(installation, feature_row(1, rsi_14=101.0), feature_row(3, rsi_14=102.0))
    options = ("--since", "2024-01-01T00:02:00", "--run", "features 7", "--border", "offline")
    said = atlas("features", "quarantine", "ohlcv_1m", *options, "--json")
    (line,) = [json.loads(line) for line in said.out.splitlines()]
    assert (line["view"], line["symbol"], line["reason"], line["row"]["rsi_14"]) == (
        "ohlcv_1m",
        "BTC_USDT",
        "rsi_14 is above 100.0",
        102.0,
    )
    for options in (("--run", "other"), ("--border", "online"), ("bars_1m",)):
        assert atlas("features", "quarantine", *options).out == "Nothing is in quarantine.\n"
    assert len(atlas("features", "quarantine", "--json", "--limit", "1").out.splitlines()) == 1


def test_readmission_says_what_stays_and_why_and_exits_with_1(replayed, atlas):
    refuse(replayed, feature_row(1, rsi_14=101.0))
    before = held(replayed.clickhouse)
    said = atlas("features", "quarantine", "--readmit")
    assert (said.code, said.out.splitlines()) == (
        1,
        [
            "ohlcv_1m (offline): 0 readmitted, 0 replaced by another version since, 1 stay.",
            "  stay rsi_14 is above 100.0 (1)",
        ],
    )
    assert held(replayed.clickhouse) == before


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        (("quarantine", "ohlcv_7m"), "'ohlcv_7m'"),
        (("quarantine", "--border", "south"), "'south'"),
        (("status", "bars_1m"), "'bars_1m'"),
        (("ohlcv_7m",), "'ohlcv_7m'"),
    ],
)
def test_a_wrong_word_is_one_sentence_and_exit_code_2(atlas, arguments, found):
    said = atlas("features", *arguments)
    assert (said.code, said.out, said.err.count("\n")) == (2, "", 1)
    assert said.err.startswith("InvalidInput: Expected a ")
    assert said.err.strip().endswith(f"found {found}.")


@pytest.mark.parametrize("command", ["status", "quarantine"])
def test_without_clickhouse_a_command_refuses_in_one_sentence(atlas, monkeypatch, command):
    monkeypatch.setenv("ATLAS_CLICKHOUSE_PORT", "1")
    said = atlas("features", command)
    assert (said.code, said.out, said.err.count("\n")) == (2, "", 1)
    assert said.err.startswith("StoreUnavailable: Expected ClickHouse")


@pytest.mark.parametrize("command", [("status",), ("quarantine", "--readmit")])
def test_without_redis_what_needs_the_clock_refuses_in_one_sentence(atlas, monkeypatch, command):
    monkeypatch.setenv("ATLAS_REDIS_PORT", "1")
    said = atlas("features", *command)
    assert (said.code, said.out, said.err.count("\n")) == (2, "", 1)
    assert said.err.startswith("StoreUnavailable: Expected Redis")


def test_a_bad_share_above_the_setting_is_exit_code_2(replayed, atlas, monkeypatch):
    monkeypatch.setenv("ATLAS_MAX_BAD_SHARE", "0")
    broken = bars([("ADA_USDT", m) for m in range(1, 150)])
    broken = broken.with_columns(close=broken["close"] * broken["event_timestamp"].rank() ** 9)
    insert_once(replayed.clickhouse, "bars_1m", broken.to_arrow())
    said = atlas("features")
    assert (said.code, said.out) == (2, "")
    told = said.err.splitlines()[-1]
    assert told.startswith("TooManyBadRows: Expected at most 0 % bad rows of ohlcv_1m")
    assert stored(replayed.clickhouse).is_empty()


def test_the_commands_run_as_processes_of_their_own(replayed):
    refuse(replayed, feature_row(1, rsi_14=101.0))

    def run(*arguments):
        command = [sys.executable, "-m", "atlas.cli", "features", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120)
        return done.returncode, done.stderr, len(done.stdout.splitlines())

    assert run("status", "ohlcv_1m") == (1, "", 6)
    assert run("quarantine") == (0, "", 2)
    assert run("quarantine", "--readmit") == (1, "", 2)
