"""A load that is killed at any moment and run again leaves what a load in peace leaves."""

import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from candle_files import csv_text
from stored import NOW, START, bar, bars, batch, everything, ledger

from atlas.ingest import load_candles

BLOCK = 10
LATER = NOW + timedelta(hours=1)
BEFORE = batch(*(bar(n) for n in range(10)))
# Of each kind: new, corrected, unchanged, repeated, ambiguous, bad.
AFTER = batch(
    *(bar(n) for n in range(4)),
    *(bar(n, close=10.5) for n in range(4, 10)),
    *(bar(n) for n in range(10, 20)),
    bar(3),
    bar(15, close=9.5),
    *(bar(n, close=-1.0) for n in range(20, 30)),
)


class Killed(BaseException):
    """Stands for the end of the process: nothing catches it."""


class Doomed:
    """A client whose process ends right after so many requests were answered."""

    def __init__(self, client, requests):
        self._client = client
        self._left = requests
        self.made = 0

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


@pytest.fixture
def small_blocks(monkeypatch):
    monkeypatch.setattr("atlas.ingest.load._BLOCK_BARS", BLOCK)
    monkeypatch.setattr("atlas.clickhouse.quarantine._BLOCK_ROWS", BLOCK)


@pytest.mark.usefixtures("small_blocks")
def test_killed_after_any_request_and_run_again_gives_the_same_tables(clickhouse):
    load_candles(clickhouse, BEFORE, now=NOW)
    counter = Doomed(clickhouse, 10**6)
    load_candles(counter, AFTER, now=LATER)
    expected = everything(clickhouse)
    different, early_entries = [], []
    for requests in range(counter.made):
        for table in ("bars_1m", "quarantine", "loads"):
            clickhouse.command(f"TRUNCATE TABLE {table}")
        load_candles(clickhouse, BEFORE, now=NOW)
        with pytest.raises(Killed):
            load_candles(Doomed(clickhouse, requests), AFTER, now=LATER)
        # The last requests are the ledger's own: it is written, and read to see that it was.
        if len(ledger(clickhouse)) > 1 and requests < counter.made - 2:
            early_entries.append(requests)
        load_candles(clickhouse, AFTER, now=LATER)
        if everything(clickhouse) != expected:
            different.append(requests)
    # Quarantine, two blocks of bars, ledger: each is read, written, and read again.
    assert counter.made > 15
    assert (different, early_entries) == ([], [])


def test_nothing_is_asked_of_the_store_before_the_file_is_read(clickhouse, tmp_path):
    with pytest.raises(ValueError, match="JSON"):
        load_candles(Doomed(clickhouse, 0), broken_file(tmp_path), now=NOW)


def broken_file(folder: Path) -> Path:
    path = folder / "A-1m.json"
    path.write_text("[[1704067200000, 1, 2, 1, 2, 3], [17040672")
    return path


class Loader:
    """A program that loads files in processes of their own, and kills them."""

    def __init__(self, process):
        self._process = process

    def load(self, database, path, now, *, kill_after_s="never"):
        """Load a file; return the exit code and how long it took in seconds."""
        self._process.stdin.write(f"{database} {path} {now.isoformat()} {kill_after_s}\n")
        self._process.stdin.flush()
        code, seconds = self._process.stdout.readline().split()
        return int(code), float(seconds)


@pytest.fixture
def loader(clickhouse_port) -> Iterator[Loader]:
    program = Path(__file__).with_name("loading_process.py")
    with subprocess.Popen(
        [sys.executable, str(program), str(clickhouse_port)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        # A forked child has none of its parent's threads, so the parent is to have none.
        env=os.environ | {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"},
    ) as process:
        yield Loader(process)


def write_file(folder: Path, *, close: float) -> Path:
    """Ten thousand bars, five blocks, two hundred of them bad."""
    opened = int(START.timestamp()) * 1_000
    rows = [
        [opened + 60_000 * n, 10, 12, 9, -1 if n % 50 == 0 else (close if n % 3 else 11), 5]
        for n in range(10_000)
    ]
    folder.mkdir()
    path = folder / "BTC_USDT-1m.csv"
    path.write_text(csv_text(rows))
    return path


def kill_and_compare(new_client, loader, folder, *, kills):
    chance = random.Random(11)
    now = NOW + timedelta(days=30)
    peaceful, harassed = new_client(), new_client()
    codes = []
    for number, price in enumerate((11.0, 10.5)):
        file = write_file(folder / f"{number}", close=price)
        code, whole_s = loader.load(peaceful.database, file, now)
        assert code == 0
        for _ in range(kills):
            after = chance.uniform(0, whole_s)
            codes.append(loader.load(harassed.database, file, now, kill_after_s=after)[0])
        assert loader.load(harassed.database, file, now)[0] == 0
    # Some may have been quicker than their end.
    assert set(codes) <= {0, -signal.SIGKILL}
    assert codes.count(-signal.SIGKILL) > 1
    assert everything(harassed) == everything(peaceful)
    assert len(bars(peaceful)) > 15_000


def test_killed_at_random_and_run_again_gives_the_same_tables(new_client, loader, tmp_path):
    kill_and_compare(new_client, loader, tmp_path, kills=3)


@pytest.mark.slow
def test_killed_very_often_and_run_again_gives_the_same_tables(new_client, loader, tmp_path):
    kill_and_compare(new_client, loader, tmp_path, kills=100)
