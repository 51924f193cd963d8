"""`atlas ingest` as a user runs it."""

import subprocess
import sys
from datetime import timedelta

import pytest
from candle_files import CLOSES, ROWS, csv_text, write_json, write_text
from stored import closes

from atlas.bus import set_replay
from atlas.cli import main
from atlas.clock import ReplayState, to_micros, wall_micros


@pytest.fixture
def ingest(clickhouse_port, database, monkeypatch, capsys):
    """Run the command against this test's database; return its exit code and its output."""

    def run(path, *, redis_port=1):
        monkeypatch.setenv("ATLAS_CLICKHOUSE_PORT", str(clickhouse_port))
        monkeypatch.setenv("ATLAS_CLICKHOUSE_DATABASE", database)
        monkeypatch.setenv("ATLAS_REDIS_PORT", str(redis_port))
        monkeypatch.setattr(sys, "argv", ["atlas", "ingest", str(path)])
        with pytest.raises(SystemExit) as end:
            main()
        return end.value.code or 0, " ".join(capsys.readouterr().out.split())

    return run


def test_a_folder_is_loaded_and_every_row_accounted_for(ingest, clickhouse, tmp_path):
    folder = tmp_path / "candles"
    folder.mkdir()
    write_json(folder, "BTC_USDT-1m.json.gz")
    write_text(
        folder, "ETH_USDT-1m.csv", csv_text([*ROWS[:3], ROWS[2], [1623332400, 1, 2, 1, 0, 3]])
    )
    write_text(folder, "README.md", "about")
    code, output = ingest(folder)
    assert code == 0
    assert "BTC_USDT-1m.json.gz BTC_USDT 1m 4 4 0 0 0 " in output
    assert "ETH_USDT-1m.csv ETH_USDT 1m 5 3 0 1 1 " in output
    assert "1 in quarantine: close is not above 0.0; low is above open, close or high (1)" in output
    assert "Passed over, no candle files: README.md." in output
    assert len(closes(clickhouse)) == 7


def test_an_unreadable_file_is_told_the_others_are_loaded_and_the_exit_says_so(
    ingest, clickhouse, tmp_path
):
    folder = tmp_path / "candles"
    folder.mkdir()
    whole = write_json(folder, "BTC_USDT-1m.json.gz")
    (folder / "ADA_USDT-1m.json.gz").write_bytes(whole.read_bytes()[:-20])
    write_json(folder, "XRP_USDT-7m.json")
    code, output = ingest(folder)
    assert code == 1
    assert "Unreadable ADA_USDT-1m.json.gz: expected a whole gzip file" in output
    assert "Unreadable XRP_USDT-7m.json: Expected a bar interval among 1m" in output
    assert len(closes(clickhouse)) == 4


def test_nothing_at_the_path_is_one_sentence_and_exit_2(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "atlas.cli", "ingest", str(tmp_path / "gone")],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert done.stderr.startswith("InvalidInput: Expected a file or a folder of candles")


def test_candles_are_judged_by_the_clock_of_a_replay(
    ingest, clickhouse, redis, redis_port, tmp_path
):
    moment = CLOSES[1] + timedelta(seconds=1)
    state = ReplayState(to_micros(moment), wall_micros(), 1e-6, to_micros(CLOSES[2]) - 1)
    set_replay(redis, state)
    code, output = ingest(write_json(tmp_path, "BTC_USDT-1m.json"), redis_port=redis_port)
    assert code == 0
    assert "2 in quarantine: event_timestamp is beyond the clock (2)" in output
    assert f"Judged by the project's clock: {moment:%Y-%m-%d %H:%M:%S} UTC." in output
    assert [time for time, _, _ in closes(clickhouse)] == CLOSES[:2]
