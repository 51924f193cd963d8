"""A computation with bad rows that is killed and run again leaves what one in peace leaves."""

import os
import random
import signal
import subprocess
import sys
import uuid
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from feature_market import MINUTE, START, held, stored

from atlas.clickhouse import connect, insert_once, migrate


@pytest.fixture
def computer(clickhouse_port):
    """Run computations in processes of their own: returns the exit code and the seconds."""
    program = Path(__file__).with_name("computing_process.py")
    with subprocess.Popen(
        [sys.executable, str(program), str(clickhouse_port)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        # A forked child has none of its parent's threads, so the parent is to have none.
        env=os.environ | {"POLARS_MAX_THREADS": "1", "OMP_NUM_THREADS": "1"},
    ) as process:

        def compute(database, kill_after="never"):
            process.stdin.write(f"{database} {kill_after}\n")
            process.stdin.flush()
            code, seconds = process.stdout.readline().split()
            return int(code), float(seconds)

        yield compute


@pytest.fixture
def market(clickhouse_port):
    """Return a maker of databases with bars whose features are bad now and then."""
    made = []

    def make():
        name = f"test_{uuid.uuid4().hex[:12]}"
        client = connect(port=clickhouse_port)
        migrate(client, name)
        made.append((client, name))
        close = np.where(np.arange(5_000) % 97 == 0, 1e5, 1.0)
        times = pl.Series([START + n * MINUTE for n in range(5_000)]).dt.cast_time_unit("us")
        bars = pl.DataFrame(
            {
                "symbol": ["BTC_USDT"] * 5_000,
                "event_timestamp": times,
                "known_at": times,
                "open": close,
                "high": close,
                "low": close,
                "close": close,
                "volume": 1.0,
            }
        )
        insert_once(client, "bars_1m", bars.to_arrow())
        return client, name

    yield make
    for client, name in made:
        client.command(f"DROP DATABASE {name}")
        client.close()


@pytest.mark.parametrize("kills", [2, pytest.param(60, marks=pytest.mark.slow)])
def test_killed_at_random_and_run_again_gives_the_same_rows_and_quarantine(market, computer, kills):
    chance = random.Random(3)
    (peaceful, calm), (harassed, name) = market(), market()
    computer(calm)
    code, whole_s = computer(calm)  # once warm
    assert code == 0
    codes = [computer(name, chance.uniform(0, 2 * whole_s))[0] for _ in range(kills)]
    assert computer(name)[0] == 0
    assert -signal.SIGKILL in codes
    assert set(codes) <= {0, -signal.SIGKILL}
    found = (stored(harassed).rows(), held(harassed))
    assert found == (stored(peaceful).rows(), held(peaceful))
    assert len(found[0]) + len(found[1]) == 5_000
    assert len(found[1]) > 100
