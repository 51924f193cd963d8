"""Loads files in processes that may be killed: each line on standard input is one load.

A line is `DATABASE PATH NOW KILL_AFTER`, the last in seconds or `never`. The program forks, kills
the child when its time is up, and prints how it ended and after how many seconds. Forking spares
each child the seconds that the imports take.
"""

import os
import signal
import sys
import time
from datetime import datetime
from pathlib import Path

from atlas.clickhouse import connect, quarantine
from atlas.ingest import load, load_candles

load._BLOCK_BARS = 2_000
quarantine._BLOCK_ROWS = 100


def serve(port: int) -> None:
    for line in sys.stdin:
        database, path, now, kill_after = line.split()
        began = time.perf_counter()
        child = os.fork()
        if child == 0:
            with connect(port=port, database=database) as client:
                load_candles(client, Path(path), now=datetime.fromisoformat(now))
            os._exit(0)
        if kill_after != "never":
            time.sleep(float(kill_after))
            # It may have ended, but it has not been awaited: the number is still its own.
            os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), time.perf_counter() - began, flush=True)


if __name__ == "__main__":
    serve(int(sys.argv[1]))
